"""What architectures are made of: their options, and modules that depend on these."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width of an input."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}

Activation = Literal["relu", "hardswish", "tanh", "gelu"]
Norm = Literal["batch", "group", "none", "standardised"]


def sequential(**modules: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, module) for name, module in modules.items() if module is not None))


def norm_layer(norm: Norm, channels: int) -> nn.Module | None:
    """Return batch norm (affine, running statistics), BAFFLE's group norm, or None for `none` and `standardised`.

    Group norm is without affine, in max(2, channels // 16) groups as in BAFFLE's released code, or in the next smaller
    number of groups that divides the channels.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        most = max(2, channels // 16)
        return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels, affine=False)
    return None


def scaled(width: float, *units: int) -> list[int]:
    return [max(1, round(width * count)) for count in units]


def swap(model: nn.Sequential, kind: type[nn.Module], made: Callable[[Any], nn.Module | None]) -> nn.Sequential:
    """Replace every module of class `kind` by what `made` returns for it, None being the identity."""
    for name, module in list(model.named_modules()):
        if isinstance(module, kind):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made(module) or nn.Identity())
    return model

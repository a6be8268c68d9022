"""What a federation is made of as plain data, which safetensors and JSON can hold between them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.masks import Mask
from fedfore.primitives.flat import float_buffers


def packed(value: Any) -> Any:
    """Return a method's state (see `fedfore.federation.rules.check_plain`) as tensors, numbers, strings, lists, dicts.

    A dict of any keys is `{"dict": [[key, value], ..]}` and a tuple `{"tuple": [..]}`.
    """
    if isinstance(value, dict):
        return {"dict": [[packed(key), packed(inner)] for key, inner in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [packed(inner) for inner in value]}
    if isinstance(value, list):
        return [packed(inner) for inner in value]
    return value


def unpacked(value: Any) -> Any:
    """Return the state that `packed` took apart, with copies of its tensors."""
    if isinstance(value, dict):
        ((kind, inner),) = value.items()
        if kind == "tuple":
            return tuple(unpacked(one) for one in inner)
        return {unpacked(key): unpacked(one) for key, one in inner}
    if isinstance(value, list):
        return [unpacked(inner) for inner in value]
    return value.clone() if isinstance(value, Tensor) else value


def mask_state(mask: Mask | None) -> dict[str, Tensor]:
    """Return a mask's layers by name; nothing where there is no mask."""
    return {} if mask is None else dict(mask)


def mask_of(layers: Mapping[str, Tensor]) -> Mask | None:
    """Return the mask of these layers, or None where there are none."""
    return Mask(layers) if layers else None


def other_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of `model` that never travel, such as counters, by name."""
    sent = float_buffers(model)
    return {name: buffer for name, buffer in model.named_buffers() if name not in sent}


@torch.no_grad()
def load_buffers(model: nn.Module, buffers: Mapping[str, Tensor]) -> None:
    """Copy tensors into the buffers of `model` of the same names."""
    own = dict(model.named_buffers())
    for name, value in buffers.items():
        own[name].copy_(value)

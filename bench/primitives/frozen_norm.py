"""Normalisation held constant while weights are scored.

Where a norm layer's statistics are differentiated, the output does not change with the scale of the mask of the layer
before it, so that by Euler's theorem the mask-weighted scores of that layer sum to 0: they are noise about 0. Here a
norm layer is an affine map with constant coefficients instead. Other kinds of norm than batch, group and layer norm
stay as they are.

A standardised convolution has no statistics of activations, but it does not change with the scale of its own mask
either: differentiated through, the mask-weighted scores of every single filter sum to 0. So the mean and the scale of
its filters are constants here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.primitives.sparse_normalisation import NormalisedConv2d, filter_statistics

BatchNorm = nn.modules.batchnorm._BatchNorm
Norm = BatchNorm | nn.GroupNorm | nn.LayerNorm
NORMS = (BatchNorm, nn.GroupNorm, nn.LayerNorm)


@contextmanager
def frozen_norms(model: nn.Module, x: Tensor) -> Iterator[Tensor]:
    """Inside, every norm layer of `model` uses the statistics of one forward pass on `x: [B, ...]`, whose outputs
    [B, classes] are yielded; `model` then takes inputs of that shape alone, and gets no gradient for its norm layers.

    Batch norm: per channel over the batch, unbiased variance (as the NTK-SAP code's, arXiv 2304.02840, which applies it
    from the second pass on only); group and layer norm: per sample, biased. Running statistics are neither used nor
    touched. A norm layer that one pass uses twice is frozen at its last use. Standardised convolutions keep the mean
    and the scale of the filters that `model` has on entry.
    """
    statistics: dict[Norm, tuple[Tensor, Tensor]] = {}

    def frozen(module: Norm, x: Tensor) -> Tensor:
        mean, deviation = statistics[module]
        return _affine(module, (x - mean) / deviation)

    def recorded(module: Norm, x: Tensor) -> Tensor:
        statistics[module] = _statistics(module, x)
        return frozen(module, x)

    with _forwards(model, NormalisedConv2d, _frozen_filters(model)):
        with torch.no_grad(), _forwards(model, NORMS, recorded):
            outputs = model(x)
        with _forwards(model, NORMS, frozen):
            yield outputs


@contextmanager
def identity_norms(model: nn.Module) -> Iterator[None]:
    """Inside, every norm layer of `model` has mean 0 and deviation 1: it is its affine map alone.

    A standardised convolution is a plain one.
    """
    with _forwards(model, NORMS, _affine), _forwards(model, NormalisedConv2d, nn.Conv2d.forward):
        yield


@contextmanager
def _forwards(model: nn.Module, kind: Any, forward: Callable[..., Tensor]) -> Iterator[None]:
    modules = [module for module in model.modules() if isinstance(module, kind)]
    for module in modules:
        vars(module)["forward"] = partial(forward, module)
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


@torch.no_grad()
def _frozen_filters(model: nn.Module) -> Callable[[NormalisedConv2d, Tensor], Tensor]:
    """Return the forward pass of the standardised convolutions of `model` at their present means and scales."""
    statistics = {
        module: filter_statistics(module.weight, module.gain)
        for module in model.modules()
        if isinstance(module, NormalisedConv2d)
    }

    def forward(module: NormalisedConv2d, x: Tensor) -> Tensor:
        mean, scale = statistics[module]
        return module._conv_forward(x, (module.weight - mean * (module.weight != 0)) * scale, module.bias)

    return forward


def _statistics(module: Norm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (with the layer's eps) in shapes that broadcast to `x`."""
    if isinstance(module, nn.GroupNorm):
        groups = x.reshape(len(x), module.num_groups, -1)
        variance, mean = (
            s.repeat_interleave(x.shape[1] // module.num_groups, 1).view(*x.shape[:2], *[1] * (x.dim() - 2))
            for s in torch.var_mean(groups, 2, correction=0)
        )
        return mean, (variance + module.eps).sqrt()
    if isinstance(module, nn.LayerNorm):
        dims, correction = list(range(-len(module.normalized_shape), 0)), 0
    else:
        dims, correction = [d for d in range(x.dim()) if d != 1], 1
    variance, mean = torch.var_mean(x, dims, correction=correction, keepdim=True)
    return mean, (variance + module.eps).sqrt()


def _affine(module: Norm, x: Tensor) -> Tensor:
    """Apply the layer's weight and bias, as constants."""
    shape = module.normalized_shape if isinstance(module, nn.LayerNorm) else (-1, *[1] * (x.dim() - 2))
    if module.weight is not None:
        x = x * module.weight.detach().view(shape)
    if module.bias is not None:
        x = x + module.bias.detach().view(shape)
    return x

"""Prunable layers with a constant beside the weight: what a mask prunes can keep its value in the function."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from fedfore.errors import Skip
from fedfore.masks import PRUNABLE_LAYERS, Mask, prunable_weights


class _OffsetConv(nn.modules.conv._ConvNd):
    offset: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight + self.offset, self.bias)


class OffsetConv1d(_OffsetConv, nn.Conv1d):
    """`nn.Conv1d` with weight + offset."""


class OffsetConv2d(_OffsetConv, nn.Conv2d):
    """`nn.Conv2d` with weight + offset."""


class OffsetConv3d(_OffsetConv, nn.Conv3d):
    """`nn.Conv3d` with weight + offset."""


class OffsetLinear(nn.Linear):
    """`nn.Linear` with weight + offset."""

    offset: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight + self.offset, self.bias)


_WITH_OFFSET = {nn.Conv1d: OffsetConv1d, nn.Conv2d: OffsetConv2d, nn.Conv3d: OffsetConv3d, nn.Linear: OffsetLinear}


def add_offsets(model: nn.Module) -> nn.Module:
    """Give every prunable layer of `model` a float buffer `offset`, 0 and shaped like its weight; return the model.

    Names and shapes of weights stay. The buffers travel with the model; filled, they make the layer dense, and a meter
    of FLOPs counts it so. Raises Skip for a layer whose class is derived from PyTorch's.
    """
    for name, module in model.named_modules():
        if isinstance(module, PRUNABLE_LAYERS):
            if type(module) not in _WITH_OFFSET:
                raise Skip(f'layer "{name}" is a {type(module).__name__}, and only a plain layer can take an offset')
            module.register_buffer("offset", torch.zeros_like(module.weight, requires_grad=False))
            module.__class__ = _WITH_OFFSET[type(module)]
    return model


@torch.no_grad()
def set_offsets(model: nn.Module, mask: Mask | None) -> None:
    """Set every offset of `model` to what `mask` prunes of its weight; None sets them to 0."""
    buffers = dict(model.named_buffers())
    for name, weight in prunable_weights(model).items():
        offset = buffers[f"{name.removesuffix('weight')}offset"].zero_()
        if mask is not None:
            offset.add_(weight * ~mask[name])


def used_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the prunable weights of `model` as its layers use them, offsets included, by parameter name."""
    buffers = dict(model.named_buffers())
    for name, weight in prunable_weights(model).items():
        offset = buffers.get(f"{name.removesuffix('weight')}offset")
        yield name, weight if offset is None else weight + offset

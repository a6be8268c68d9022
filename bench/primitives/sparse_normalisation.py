"""Normalised sparse convolution: weights standardised before use, so that activations are centred without a norm layer.

A reconstruction of NSConv in FedMef (arXiv 2403.14737), in the form of scaled weight standardisation (Brock et al.
2021, arXiv 2101.08692): each filter is used as gain (w - mean) / sqrt(fan_in (variance + 1e-5)), its mean, variance
and fan-in being those of its active entries. Not in the paper, as far as it was read: the gain, which is ReLU's for
every activation function, and the 1e-5. Norm layers that a model has stay where they are.

Active are the entries that are not exactly zero, so that server, devices and evaluator compute the same function from
the weights alone, without the mask. Pruned entries are zero and stay zero. An entry that was just grown at zero is used
as zero too; it counts in its filter's mean from its first step on, and until then it has, as every pruned entry has,
the gradient of an active entry at the mean: that is what entries are grown by.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_variadic

GAIN = math.sqrt(2 / (1 - 1 / math.pi))
"""Makes a centred filter keep the variance of rectified Gaussian inputs."""

EPSILON = 1e-5


def normalise_convolutions(model: nn.Module) -> nn.Module:
    """Turn every `nn.Conv2d` of `model` into a normalised one, in place; names, shapes and values of weights stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = NormalisedConv2d
    return model


def standardise(weight: Tensor) -> Tensor:
    """Return the filters `weight` [out, in, height, width] as they are used; those with < 2 active entries as given."""
    rows = weight.flatten(1)
    active = rows != 0
    fan_in = active.sum(1, keepdim=True)
    few, count = fan_in < 2, fan_in.clamp_min(1)
    mean = (rows.sum(1, keepdim=True) / count).masked_fill(few, 0.0)
    centred = rows - mean * active
    squares = centred.square().sum(1, keepdim=True)
    scale = (GAIN * (squares + EPSILON * count).rsqrt()).masked_fill(few, 1.0)
    return (centred * scale).view(weight.shape)


class NormalisedConv2d(nn.Conv2d):
    """A convolution with standardised filters; `padding` in numbers, of zeros.

    In training mode the filters are computed again for the backward pass instead of being kept from the forward pass.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self._conv_forward(input, standardise(self.weight), self.bias)
        return normalised_conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def normalised_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """Return the convolution of `input` [B, C, H, W] with `standardise(weight)`, keeping only these two for backward.

    `settings` are stride, padding, dilation and groups. A `TorchFunctionMode` sees this call as it sees `F.conv2d`.
    """
    if has_torch_function_variadic(input, weight):
        return handle_torch_function(normalised_conv2d, (input, weight), input, weight, bias, *settings)
    return _NormalisedConv2d.apply(input, weight, bias, settings)


class _NormalisedConv2d(Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, settings: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.settings, ctx.bias_sizes = settings, None if bias is None else bias.shape
        return F.conv2d(input, standardise(weight), bias, *settings)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.settings
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            used = standardise(leaf)
        to_input, to_used, to_bias = torch.ops.aten.convolution_backward(
            gradient, input, used.detach(), ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        (to_weight,) = torch.autograd.grad(used, leaf, to_used)
        return to_input, to_weight, to_bias, None

"""Standardised convolutions: weights centred and scaled before use, which centres activations without a norm layer.

Scaled weight standardisation (Brock et al. 2021, arXiv 2101.08692): each filter is used as
gain (w - mean) / sqrt(fan_in (variance + 1e-5)), its mean, variance and fan-in being those of its active entries, which
makes it a reconstruction of NSConv in FedMef (arXiv 2403.14737) as well. Decisions: the gains (`note_gains`) and the
1e-5. Norm layers that a model has stay where they are.

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
from torch.autograd.function import Function
from torch.nn import functional as F
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fedfore.primitives.sequences import units

GAIN = math.sqrt(2 / (1 - 1 / math.pi))
"""ReLU's: 1 / standard deviation of a rectified standard Gaussian. A centred filter then keeps the variance of what the
activation was given."""

EPSILON = 1e-5

BRANCH_SCALE = 0.2
"""The alpha of x + alpha f(x / beta)."""


def normalise_convolutions(model: nn.Module) -> nn.Module:
    """Turn every `nn.Conv2d` of `model` into a standardised one, in place; names, shapes and values of weights stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = NormalisedConv2d
    return model


def note_gains(model: nn.Sequential) -> None:
    """Note on every convolution of a network without norm layers the gain that it has once it is standardised.

    The gain is that of the activation which made its input, and 1 where that is linear (MobileNetV2's bottlenecks);
    pooling in between is left out of account. Residual blocks, which would otherwise add a variance each, compute
    x + alpha f(x / beta) as those of Brock et al., with beta the analytic standard deviation of the block's input:
    1 / beta is a factor of the gain of the branch's first convolution, alpha of its last one's, so that neither costs a
    device anything. A convolution on the shortcut reads x / beta too and sets the variance back to 1.

    Decisions: folding the factors into the gains; the paper's `BRANCH_SCALE` and betas, though its blocks begin with
    their activation and ResNet's end with it, after the sum; the first activation's gain for the first convolution,
    since neighbouring pixels are alike, so that centred filters see less than the variance of an image. Measured on
    Gaussian images from the first block to the last, deviations fall by at most a third, under every activation.
    """
    gain, variance = activation_gain(_activation_in(model)), 1.0
    for unit in units(model):
        if isinstance(unit, nn.Conv2d):
            _note(unit, gain / math.sqrt(variance))
            gain, variance = 1.0, 1.0
        elif _is_activation(unit):
            gain = activation_gain(type(unit))
        elif any(isinstance(part, nn.Conv2d) for part in unit.modules()):
            gain, variance = _note_in_block(unit, gain, variance)


def _note_in_block(block: nn.Module, gain: float, variance: float) -> tuple[float, float]:
    """Note the gains in a residual block; return those of its output: the gain for it, and its variance."""
    convolutions = {name: part for name, part in block.named_modules() if isinstance(part, nn.Conv2d)}
    on_shortcut = [name for name in convolutions if name.startswith(("shortcut", "downsample"))]
    first, *inner = (convolution for name, convolution in convolutions.items() if name not in on_shortcut)
    inside = activation_gain(_activation_in(block))
    residual = getattr(block, "use_res_connect", True)
    scales = [1.0] * (len(inner) - 1) + [BRANCH_SCALE if residual else 1.0]
    for convolution in (first, *(convolutions[name] for name in on_shortcut)):
        _note(convolution, gain / math.sqrt(variance))
    for convolution, scale in zip(inner, scales, strict=True):
        _note(convolution, inside * scale)
    carried = 0.0 if not residual else 1.0 if on_shortcut else variance
    return 1.0 if hasattr(block, "use_res_connect") else inside, (carried + BRANCH_SCALE**2) if residual else 1.0


def _note(convolution: nn.Conv2d, gain: float) -> None:
    vars(convolution)["gain"] = gain


def _activation_in(model: nn.Module) -> type[nn.Module]:
    return next(type(part) for part in model.modules() if _is_activation(part))


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == nn.ReLU.__module__


def activation_gain(activation: type[nn.Module]) -> float:
    """Return 1 / the standard deviation of the activation of a standard Gaussian, by the trapezoidal rule."""
    if activation is nn.ReLU:
        return GAIN
    z = torch.linspace(-8, 8, 16_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    values = activation()(z)
    return 1 / math.sqrt(float(density @ values.square() - (density @ values).square()))


def standardise(weight: Tensor, gain: float = GAIN) -> Tensor:
    """Return the filters `weight` [out, in, height, width] as they are used; those with < 2 active entries as given."""
    centred, _, scale = _statistics(weight, gain)
    return (centred * scale).view(weight.shape)


def filter_statistics(weight: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Return the mean and the scale [out, 1, 1, 1] of `standardise`, which uses (active w - mean) scale."""
    _, mean, scale = _statistics(weight, gain)
    return mean[..., None, None], scale[..., None, None]


def _statistics(weight: Tensor, gain: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the centred filters [out, fan-in], and the filters' means and scales [out, 1]."""
    rows = weight.flatten(1)
    active = rows != 0
    fan_in = active.sum(1, keepdim=True)
    few, count = fan_in < 2, fan_in.clamp_min(1)
    mean = (rows.sum(1, keepdim=True) / count).masked_fill(few, 0.0)
    centred = rows - mean * active
    squares = centred.square().sum(1, keepdim=True)
    scale = (gain * (squares + EPSILON * count).rsqrt()).masked_fill(few, 1.0)
    return centred, mean, scale


class NormalisedConv2d(nn.Conv2d):
    """A convolution with standardised filters; `padding` in numbers, of zeros.

    In training mode the filters are computed again for the backward pass instead of being kept from the forward pass.
    """

    gain: float = GAIN

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return self._conv_forward(input, standardise(self.weight, self.gain), self.bias)
        settings = (self.stride, self.padding, self.dilation, self.groups)
        return normalised_conv2d(input, self.weight, self.bias, self.gain, *settings)


def normalised_conv2d(input: Tensor, weight: Tensor, bias: Tensor | None, gain: float, *settings: Any) -> Tensor:
    """Return the convolution of `input` [B, C, H, W] with `standardise(weight, gain)`, keeping only input and weight.

    `settings` are stride, padding, dilation and groups. A `TorchFunctionMode` sees this call as it sees `F.conv2d`.
    """
    if has_torch_function_variadic(input, weight):
        return handle_torch_function(normalised_conv2d, (input, weight), input, weight, bias, gain, *settings)
    return _NormalisedConv2d.apply(input, weight, bias, gain, settings)


class _NormalisedConv2d(Function):
    @staticmethod
    def forward(
        ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, gain: float, settings: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.gain, ctx.settings, ctx.bias_sizes = gain, settings, None if bias is None else bias.shape
        return F.conv2d(input, standardise(weight, gain), bias, *settings)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, gradient)
        stride, padding, dilation, groups = ctx.settings
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            used = standardise(leaf, ctx.gain)
        to_input, to_used, to_bias = torch.ops.aten.convolution_backward(
            gradient, input, used.detach(), ctx.bias_sizes, stride, padding, dilation, False, [0, 0], groups,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        to_weight = None if to_used is None else torch.autograd.grad(used, leaf, to_used)[0]
        return to_input, to_weight, to_bias, None, None


def _differentiable_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients with a graph of their own, for second derivatives."""
    input, weight = ctx.saved_tensors
    needed = [tensor for tensor, needs in zip((input, weight), ctx.needs_input_grad, strict=False) if needs]
    output = F.conv2d(input, standardise(weight, ctx.gain), None, *ctx.settings)
    found = iter(torch.autograd.grad(output, needed, gradient, create_graph=True))
    to_input, to_weight = (next(found) if needs else None for needs in ctx.needs_input_grad[:2])
    to_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
    return to_input, to_weight, to_bias, None, None

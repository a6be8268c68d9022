"""Activation pruning: what backpropagation keeps of the activations, cut down to what a small device can hold.

FedMef's scaled activation pruning (arXiv 2403.14737). The forward pass is dense. Of the input of every convolution
and linear layer only the largest entries are kept for the weight's gradient, as a bitmap and values; the input's
gradient needs the weight alone and stays exact.

A layer's input is also what the ReLU before it keeps for its own backward pass, so pruning the layer's copy alone frees
next to nothing. Inside this context a ReLU therefore keeps the sign of its output, one bit an entry, and max pooling
the places of its maxima; both give exactly the gradients that they give otherwise. Normalisation layers and all other
activation functions need their values for an exact input gradient and keep them whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from fedfore.primitives.flags import compared, pack_bits, selected, spread, unpack_bits
from fedfore.primitives.sparse_normalisation import normalised_conv2d

BLOCK, SAMPLE = 65536, 8192
"""Entries whose magnitudes are looked at together, and about how many of all bracket the one that is sought."""

LAYERS = (torch.conv1d, torch.conv2d, torch.conv3d, F.linear, normalised_conv2d)


def pruned_activations(rate: float) -> AbstractContextManager[object]:
    """Return a context in which backpropagation keeps the top 1 - `rate` of every layer's input; rate 0 is dense.

    The share is taken over the whole input of a layer, all examples of the mini-batch together; at least one entry is
    kept. An input that needs no gradient is the data itself, which a device holds anyway, and is not pruned.
    """
    return _ActivationPruning(rate) if rate > 0 else nullcontext()


@dataclass(frozen=True)
class Pruned:
    """The entries of largest magnitude of a tensor of `shape`: one bit an entry, and the values kept.

    Both are in the order of memory, whose dimensions are `order` from the outermost on.
    """

    bits: Tensor
    values: Tensor
    shape: torch.Size
    order: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor, rate: float) -> Pruned:
        """Keep the top 1 - `rate` of the entries of `x`, at least one, and all that tie with the last; never a zero."""
        flat, order = _stored(x)
        least = kth_magnitude(flat, max(1, flat.numel() - round(rate * flat.numel())))
        if least > 0:
            kept = compared("greater_equal", flat, least).logical_or_(compared("less_equal", flat, -least))
        else:
            kept = flat != 0
        return cls(pack_bits(kept), selected(flat, kept), x.shape, order)

    def dense(self) -> Tensor:
        """Return the tensor with zeros for what was not kept."""
        kept = unpack_bits(self.bits, self.shape.numel())
        return _as_stored(spread(self.values, kept), self.shape, self.order)


def kth_magnitude(flat: Tensor, k: int) -> Tensor:
    """Return the `k`-th largest magnitude in `flat` [n], exactly; NaN is larger than all.

    A sample brackets it. What is not below the bracket is picked out block by block, without n further values in
    memory, and only what lies inside is ranked; all is, where the sample has misled.
    """
    low, high = _bracket(flat, k)
    candidates = torch.cat([_not_below(low, block.abs()) for block in flat.split(BLOCK)])
    inside = selected(candidates, compared("less_equal", candidates, high))
    above = len(candidates) - len(inside)
    if above < k <= len(candidates):
        return inside.topk(k - above, sorted=False).values.min()
    return flat.abs().topk(k).values[-1]


def _bracket(flat: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return bounds of the `k`-th largest magnitude that hold but for 1 in 10,000 samples of independent entries.

    The sample's stride is odd, so that it meets all channels where they lie side by side.
    """
    sample = flat[:: len(flat) // SAMPLE | 1].abs().sort(descending=True).values
    place = k * len(sample) / len(flat)
    margin = 4 * math.sqrt(place)
    return sample[min(int(place + margin), len(sample) - 1)], sample[max(int(place - margin), 0)]


def _not_below(bound: Tensor, magnitudes: Tensor) -> Tensor:
    return selected(magnitudes, compared("less", magnitudes, bound).logical_not_())


def _stored(x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Return `x` flattened as it lies in memory, a copy only where it has gaps, and the order of its dimensions."""
    order = x.dim_order()
    return x.permute(order).reshape(-1), order


def _as_stored(flat: Tensor, shape: torch.Size, order: tuple[int, ...]) -> Tensor:
    """Return `flat` as a tensor of `shape` whose dimensions lie in memory in `order`; no copy."""
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return flat.view([shape[dimension] for dimension in order]).permute(inverse)


class _ActivationPruning(TorchFunctionMode):
    """Change what layers save, wherever a model calls them; see `pruned_activations`."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self._rate = rate
        self._shared = WeakTensorKeyDictionary()
        self._handlers: dict[Any, Callable[..., Any]] = {f: partial(self._layer, f) for f in LAYERS}
        self._handlers |= {F.relu: _relu, F.max_pool2d: _max_pool2d}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._handlers.get(func, func)(*args, **(kwargs or {}))

    def _layer(self, func: Callable[..., Tensor], input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not input.requires_grad:
            return func(input, weight, *args, **kwargs)
        pruned, address = self._prune(input), weight.untyped_storage().data_ptr()

        def pack(saved: Tensor) -> Tensor | Pruned:
            if saved.untyped_storage().data_ptr() == address:
                return saved
            return pruned if saved.shape == pruned.shape else Pruned.of(saved, self._rate)

        with saved_tensors_hooks(pack, lambda packed: packed.dense() if isinstance(packed, Pruned) else packed):
            return func(input, weight, *args, **kwargs)

    def _prune(self, input: Tensor) -> Pruned:
        """Return what is kept of a layer's input: one copy for all the layers that read the same tensor."""
        version, pruned = self._shared.get(input, (None, None))
        if version != input._version:
            pruned = Pruned.of(input.detach(), self._rate)
            self._shared[input] = (input._version, pruned)
        return pruned


class _ReLU(Function):
    """ReLU whose backward pass keeps one bit an entry."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(input)
        output = input.relu_() if inplace else input.relu()
        flags, ctx.order = _stored(compared("greater", output, 0.0))
        ctx.save_for_backward(pack_bits(flags))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (bits,) = ctx.saved_tensors
        flags = _as_stored(unpack_bits(bits, gradient.numel()), gradient.shape, ctx.order)
        if flags.stride() != gradient.stride():
            return gradient * flags, None
        return flags.view(torch.uint8).to(gradient.dtype).mul_(gradient), None


class _MaxPool2d(Function):
    """Max pooling whose backward pass keeps the places of the maxima and no values."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, kernel_size: Any, options: Mapping[str, Any]) -> Tensor:
        output, places = F.max_pool2d(input, kernel_size, **{**options, "return_indices": True})
        narrow = torch.int16 if input.shape[-2:].numel() <= torch.iinfo(torch.int16).max else torch.int32
        ctx.save_for_backward(places.to(narrow))
        ctx.shape = input.shape
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        planes = gradient.new_zeros(ctx.shape).flatten(-2)
        planes.scatter_add_(-1, places.flatten(-2).long(), gradient.flatten(-2))
        return planes.view(ctx.shape), None, None


def _relu(input: Tensor, inplace: bool = False) -> Tensor:
    return _ReLU.apply(input, inplace)


def _max_pool2d(input: Tensor, kernel_size: Any, **options: Any) -> Tensor:
    return _MaxPool2d.apply(input, kernel_size, options)

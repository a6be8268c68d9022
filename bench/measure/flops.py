"""Multiply-accumulates of a forward pass, and the FLOPs of whatever runs; FLOPs are 2 x MACs.

Only products count: convolutions and matrix products. Additions, norms, activations, pooling and losses are a few
operations an element; perturbations, which are many, are counted apart by the meter.
"""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry
from torch.utils.hooks import RemovableHandle

from fedfore.masks import Mask, prunable_weights
from fedfore.primitives.accounting import gradients_are_dense

with warnings.catch_warnings():  # fvcore compiles functions by what torch calls deprecated
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis

aten = torch.ops.aten

NO_PRODUCTS = (
    "batch_norm",
    "group_norm",
    "layer_norm",
    "instance_norm",
    "adaptive_avg_pool2d",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "grid_sampler",
)
"""What fvcore counts although it is no product."""

LIGHT_WORDS = frozenset({
    "adam", "adamw", "arange", "bernoulli", "bilinear2d", "cat", "copy", "cumprod", "cumsum", "dropout",
    "embedding", "empty", "equal", "exponential", "eye", "fill", "flip", "foreach", "full", "gather", "hardswish",
    "hardtanh", "index", "lift", "like", "loss", "masked", "median", "nearest2d", "nonzero", "norm", "normal",
    "ones", "pad", "pool", "pool1d", "pool2d", "pool3d", "prelu", "rand", "randint", "randn", "randperm", "repeat",
    "resize", "roll", "scalar", "scatter", "select", "set", "sgd", "slice", "softmax", "sort", "stack", "strided",
    "take", "topk", "tril", "triu", "unfold", "uniform", "unique", "view", "zero", "zeros",
})  # fmt: skip
"""Words in the names of operators that do a few operations an element, or none, where no tag of theirs says so."""
LIGHT_TAGS = frozenset({torch.Tag.pointwise, torch.Tag.reduction})

_FOLLOWED = "fedfore"


@dataclass(frozen=True)
class ForwardMacs:
    """MACs of one forward pass of one example.

    layers: by prunable weight. other: products outside such layers, as in attention. uncounted: operators without a
    formula that may multiply matrices.
    """

    layers: Mapping[str, int]
    other: int
    uncounted: tuple[str, ...]

    @property
    def dense(self) -> int:
        """All MACs."""
        return sum(self.layers.values()) + self.other

    def masked(self, mask: Mask | None) -> float:
        """Every layer's MACs times its density, and all others."""
        densities = {} if mask is None else mask.layer_densities()
        return sum(macs * densities.get(name, 1.0) for name, macs in self.layers.items()) + self.other


def forward_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> ForwardMacs:
    """Count a forward pass by fvcore, whose unit is the multiply-accumulate and which is blind to zeros."""
    device = next(model.parameters()).device
    was_training = model.training
    counts = FlopCountAnalysis(model.eval(), torch.zeros(1, *input_shape, device=device))
    counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = counts.by_module()
    model.train(was_training)
    layers = {name: int(by_module[_layer_name(name)]) for name in prunable_weights(model)}
    unknown = {name.removeprefix("aten::") for name in counts.unsupported_ops()}
    uncounted = tuple(sorted(name for name in unknown if not _is_light(getattr(aten, name, None))))
    products = sum(count for operator, count in counts.by_operator().items() if operator not in NO_PRODUCTS)
    return ForwardMacs(layers, int(products) - sum(layers.values()), uncounted)


@dataclass
class _Call:
    """One call of a layer: its density, and the storage of the weight in its product."""

    density: float
    forward: bool = True
    storage: Callable[[], Any] = lambda: None

    def read(self, weight: Tensor) -> None:
        """Note the weight that the layer's product reads."""
        self.storage = weakref.ref(weight.untyped_storage())
        if self.density < 1.0:
            self.density = max(self.density, int(torch.count_nonzero(weight)) / weight.numel())


class FlopCounter:
    """Count the FLOPs of every operation that it is shown, and name in `uncounted` those that it cannot count.

    A product inside a layer with a prunable weight, in its forward pass or in the backward pass of what that made,
    counts times the layer's density: the mask's, or the share of entries that are not zero where that is larger. A
    weight's gradient under `dense_gradients` counts whole, and so does a product outside all such layers.
    """

    def __init__(self, model: nn.Module, mask: Mask | None) -> None:
        self.flops = 0.0
        self.uncounted: set[str] = set()
        self._calls: list[_Call] = []
        densities = {} if mask is None else mask.layer_densities()
        self._hooks = [
            hook
            for name in prunable_weights(model)
            for hook in self._watch(model.get_submodule(_layer_name(name)), densities.get(name, 1.0))
        ]

    def close(self) -> None:
        """Take the hooks out of the model."""
        for hook in self._hooks:
            hook.remove()

    def count(self, func: Any, args: Any, kwargs: Any, out: Any) -> list[Tensor]:
        """Count one dispatched operation; return the weight gradients among its results."""
        packet = func._overloadpacket
        if packet is aten.convolution_backward:
            return self._convolution_backward(args, out)
        formula = _formula(packet)
        if formula is None:
            if not _is_light(packet) and any(map(_is_floating, tree_leaves((args, out)))):
                self.uncounted.add(packet._qualified_op_name.removeprefix("aten::"))
            return []
        gradients = self._weight_gradients(packet, args, out)
        self._charge(formula(*args, **kwargs, out_val=out), of_weight=bool(gradients))
        return gradients

    def _charge(self, flops: float, of_weight: bool) -> None:
        whole = not self._calls or (of_weight and gradients_are_dense())
        self.flops += flops if whole else flops * self._calls[-1].density

    def _convolution_backward(self, args: Any, out: Any) -> list[Tensor]:
        """Each gradient takes the products of the forward pass; torch's own formula forgets the groups."""
        gradient, x, weight, *_, transposed = args[:8]
        for made, of_weight in ((out[0], False), (out[1], True)):
            if made is not None:
                self._charge(conv_flop_count(x.shape, weight.shape, gradient.shape, transposed), of_weight)
        return [made for made in out[1:] if made is not None]

    def _weight_gradients(self, packet: Any, args: Any, out: Tensor) -> list[Tensor]:
        """Return [out] if this product of a layer's backward pass does not read the layer's weight."""
        if not self._calls:
            return []
        call, operands = self._calls[-1], [arg for arg in args if isinstance(arg, Tensor)]
        if call.forward:
            call.read(operands[1] if "conv" in packet.__name__ else operands[-1])
            return []
        reads_weight = any(operand.untyped_storage() is call.storage() for operand in operands)
        return [] if reads_weight else [out]

    def _watch(self, layer: nn.Module, density: float) -> Iterator[RemovableHandle]:
        """Open a call for every forward pass of `layer`, and again for the backward pass of what it made."""

        def enter(module: nn.Module, args: Any) -> None:
            self._calls.append(_Call(density))

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            call = self._calls.pop()
            call.forward = False
            self._follow([out], _nodes(args), call)

        yield layer.register_forward_pre_hook(enter)
        yield layer.register_forward_hook(leave, always_call=True)

    def _follow(self, results: Iterable[Any], before: set[Any], call: _Call) -> None:
        """Reopen `call` for the backward pass of all that was made from `before` up to `results`, and for its own."""
        todo = _nodes(results)
        while todo:
            node = todo.pop()
            if node in before or hasattr(node, "variable") or _FOLLOWED in node.metadata:
                continue
            node.metadata[_FOLLOWED] = True

            def enter(given: Any) -> None:
                self._calls.append(call)

            def leave(made: Any, given: Any) -> None:
                self._calls.pop()
                self._follow(made, before | _nodes(given), call)

            node.register_prehook(enter)
            node.register_hook(leave)
            todo |= {earlier for earlier, _ in node.next_functions if earlier is not None}


def _nodes(tensors: Iterable[Any]) -> set[Any]:
    """Return the autograd nodes that made the tensors."""
    return {tensor.grad_fn for tensor in tensors if isinstance(tensor, Tensor) and tensor.grad_fn is not None}


def _layer_name(weight: str) -> str:
    return weight.removesuffix("weight").removesuffix(".")


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@cache
def _formula(packet: Any) -> Callable[..., float] | None:
    """Return the FLOPs of an operator as a function of its arguments and `out_val`, its in-place form included."""
    if packet is aten.mv or packet is aten.dot:
        return lambda a, b, out_val: 2.0 * a.numel()
    namespace, _, name = packet._qualified_op_name.partition("::")
    functional = getattr(aten, name.removesuffix("_"), packet) if namespace == "aten" else packet
    return flop_registry.get(packet) or flop_registry.get(functional)


@cache
def _is_light(packet: Any) -> bool:
    """Return whether an operator of torch is known to do at most a few operations an element.

    An in-place form and a backward pass are as light as the operator itself.
    """
    namespace, _, name = packet._qualified_op_name.partition("::") if packet is not None else ("", "", "")
    if namespace != "aten":
        return False
    plain = name.removesuffix("_").removesuffix("_backward")
    kin = (packet, getattr(aten, plain, packet))
    overloads = [getattr(one, overload) for one in kin for overload in one.overloads()]
    tagged = any(op.is_view or not LIGHT_TAGS.isdisjoint(op.tags) for op in overloads)
    return tagged or not LIGHT_WORDS.isdisjoint(plain.split("_"))

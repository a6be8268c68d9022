"""Multiply-accumulates of a forward pass, and the FLOPs of whatever runs; FLOPs are 2 x MACs.

Only products count: convolutions, matrix products and attention. Additions, norms, activations, pooling and losses are
a few operations an element; perturbations, which are many, are counted apart by the meter.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.hooks import RemovableHandle

from fedfore.masks import Mask, prunable_weights
from fedfore.measure.light_operators import is_light
from fedfore.primitives.accounting import gradients_are_dense

aten = torch.ops.aten

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
    """Count one forward pass, in evaluation, of a single example of that shape [C, H, W]; zeros count like others."""
    counter, was_training = FlopCounter(model, None), model.training
    x = torch.zeros(1, *input_shape, device=next(model.parameters()).device)
    try:
        with torch.enable_grad(), _Counting(counter):
            model.eval()(x)
    finally:
        counter.close()
        model.train(was_training)
    layers = {name: int(counter.by_layer[name]) // 2 for name in prunable_weights(model)}
    return ForwardMacs(layers, int(counter.flops) // 2 - sum(layers.values()), tuple(sorted(counter.uncounted)))


@dataclass
class _Call:
    """One call of a layer: its weight's name, its density, and the storage of the weight in its product."""

    name: str
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

    The formulas are those of `torch.utils.flop_counter`. `by_layer` holds, by the weight's name, what the products of a
    layer with a prunable weight took, whole. In `flops` such a product, in the forward pass or in the backward pass of
    what that made, counts times the layer's density: the mask's, or the share of entries that are not zero where that
    is larger. A weight's gradient under `dense_gradients` counts whole, and so does a product outside all such layers.
    """

    def __init__(self, model: nn.Module, mask: Mask | None) -> None:
        self.flops = 0.0
        self.by_layer: defaultdict[str, float] = defaultdict(float)
        self.uncounted: set[str] = set()
        self._calls: list[_Call] = []
        densities = {} if mask is None else mask.layer_densities()
        self._hooks = [
            hook
            for name in prunable_weights(model)
            for hook in self._watch(name, model.get_submodule(_layer_name(name)), densities.get(name, 1.0))
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
            if not is_light(packet) and any(map(_is_floating, tree_leaves((args, out)))):
                self.uncounted.add(packet._qualified_op_name.removeprefix("aten::"))
            return []
        gradients = self._weight_gradients(packet, args, out)
        self._charge(formula(*args, **kwargs, out_val=out), of_weight=bool(gradients))
        return gradients

    def _charge(self, flops: float, of_weight: bool) -> None:
        if not self._calls:
            self.flops += flops
            return
        call = self._calls[-1]
        self.by_layer[call.name] += flops
        self.flops += flops if of_weight and gradients_are_dense() else flops * call.density

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

    def _watch(self, name: str, layer: nn.Module, density: float) -> Iterator[RemovableHandle]:
        """Open a call for every forward pass of `layer`, and again for the backward pass of what it made."""

        def enter(module: nn.Module, args: Any) -> None:
            self._calls.append(_Call(name, density))

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


class _Counting(TorchDispatchMode):
    """Show a counter every operation that runs inside."""

    def __init__(self, counter: FlopCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._counter.count(func, args, kwargs or {}, out)
        return out


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
    if packet is aten._scaled_dot_product_flash_attention_for_cpu:
        return lambda q, k, v, *_, out_val, **__: sdpa_flop_count(q.shape, k.shape, v.shape)
    if packet is aten._scaled_dot_product_flash_attention_for_cpu_backward:
        return lambda out, q, k, v, *_, out_val, **__: sdpa_backward_flop_count(out.shape, q.shape, k.shape, v.shape)
    namespace, _, name = packet._qualified_op_name.partition("::")
    functional = getattr(aten, name.removesuffix("_"), packet) if namespace == "aten" else packet
    return flop_registry.get(packet) or flop_registry.get(functional)

"""Meters: FLOPs, peak live bytes, clock accounts. The harness runs them; a method never sees them.

A device's cost is metered on its real `client_update`, run on a throw-away copy with the on-device algorithm
(`finite_difference` for a zeroth-order method), with 1 batch and with 2: cost = a + b x batches. Where the method has
`num_perturbations` it runs with 2 and with 3 of them, the cost being linear in K. FLOPs are 2 x MACs.
"""

from __future__ import annotations

import copy
import math
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bench.contract import Client, ClientContext, Method, Update, instantiate
from bench.masks import Mask, prunable_weights
from bench.primitives.accounting import Account, account, current_account
from bench.primitives.flat import flat_parameters

ACCOUNTS: tuple[Account, ...] = ("parameters", "gradients", "activations", "perturbation", "optimizer", "messages")
ON_DEVICE = ("finite_difference", "directional", "moment")
"""Estimators that stand for the on-device algorithm `finite_difference`, which is what gets metered."""

CLOCKS = ("train", "setup", "evaluate", "diagnose", "meter", "data")


class Clock:
    """Named accounts of wall-clock seconds. Accounts do not nest."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(CLOCKS, 0.0)

    @contextmanager
    def charge(self, name: str) -> Iterator[None]:
        """Charge the time spent inside to account `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass(frozen=True)
class ForwardMacs:
    """MACs of one forward pass of one example by layer with prunable weights, and the operations not counted."""

    layers: Mapping[str, int]
    uncounted: tuple[str, ...]

    @property
    def dense(self) -> int:
        """All MACs."""
        return sum(self.layers.values())

    def masked(self, mask: Mask | None) -> float:
        """Every layer's MACs times its density."""
        if mask is None:
            return float(self.dense)
        densities = mask.layer_densities()
        return sum(macs * densities[name] for name, macs in self.layers.items())


def forward_macs(model: nn.Module, input_shape: tuple[int, int, int]) -> ForwardMacs:
    """Count a forward pass by fvcore, whose unit is the multiply-accumulate and which is blind to zeros."""
    device = next(model.parameters()).device
    was_training = model.training
    counts = FlopCountAnalysis(model.eval(), torch.zeros(1, *input_shape, device=device))
    counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = counts.by_module()
    model.train(was_training)
    layers = {
        name: int(by_module[name.removesuffix(".weight").removesuffix("weight")]) for name in prunable_weights(model)
    }
    return ForwardMacs(layers, tuple(sorted(counts.unsupported_ops())))


@dataclass(frozen=True)
class StepCost:
    """What one metered run cost: FLOPs, perturbation operations, and the peak of live bytes by account."""

    flops: float
    perturbation_ops: float
    peak: Mapping[Account, int]

    @property
    def peak_bytes(self) -> int:
        """The peak of live tensor bytes."""
        return sum(self.peak.values())


class StepMeter(TorchDispatchMode):
    """Count the FLOPs and the live tensor bytes of everything that runs inside, forward and backward.

    A matrix product or convolution that reads or writes a masked weight counts times the weight's density. `resident`
    are the tensors that live from the beginning, by account; other tensors are booked on the account open when they
    are made, and a parameter's gradient on `gradients`.
    """

    def __init__(self, model: nn.Module, mask: Mask | None, resident: Mapping[Account, list[Tensor]]) -> None:
        super().__init__()
        self.flops = 0.0
        self.perturbation_ops = 0.0
        self._densities = _densities_by_address(model, mask)
        self._inputs: dict[int, float] = {}
        self._sizes: dict[int, tuple[int, Account]] = {}
        self._live: dict[Account, int] = dict.fromkeys(ACCOUNTS, 0)
        self._peak = dict(self._live)
        self._hooks = [p.register_post_accumulate_grad_hook(self._book_gradient) for p in model.parameters()]
        for name, tensors in resident.items():
            for tensor in tensors:
                self._see(tensor, name)

    def cost(self) -> StepCost:
        """Return what was counted so far."""
        return StepCost(self.flops, self.perturbation_ops, dict(self._peak))

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out) * self._density(args, out)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                if current_account() == "perturbation" and not func.is_view:
                    self.perturbation_ops += leaf.numel()
                self._see(leaf, current_account())
        return out

    def _density(self, args: Any, out: Any) -> float:
        operands = [arg for arg in args if isinstance(arg, Tensor)]
        for operand in operands:
            density = self._densities.get(operand.data_ptr())
            if density is not None:
                for other in operands:
                    self._inputs[other.data_ptr()] = density
                return density
        return next((self._inputs[o.data_ptr()] for o in operands if o.data_ptr() in self._inputs), 1.0)

    def _see(self, tensor: Tensor, name: Account) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or storage.nbytes() == 0:
            return
        self._sizes[key] = (storage.nbytes(), name)
        weakref.finalize(storage, self._release, key)
        self._add(name, storage.nbytes())

    def _release(self, key: int) -> None:
        size, name = self._sizes.pop(key)
        self._live[name] -= size

    def _add(self, name: Account, size: int) -> None:
        self._live[name] += size
        if sum(self._live.values()) > sum(self._peak.values()):
            self._peak = dict(self._live)

    def _book_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        key = parameter.grad.untyped_storage()._cdata
        if key in self._sizes:
            size, name = self._sizes[key]
            self._sizes[key] = (size, "gradients")
            self._live[name] -= size
            self._live["gradients"] += size


def _densities_by_address(model: nn.Module, mask: Mask | None) -> dict[int, float]:
    densities = {} if mask is None else mask.layer_densities()
    return {weight.data_ptr(): densities.get(name, 1.0) for name, weight in prunable_weights(model).items()}


def cheapest_bytes(size: int, kept: int, value_bytes: int = 4) -> int:
    """Return the bytes of `size` values, `kept` of them not zero, in the cheapest of dense, bitmap + values, COO."""
    index_bits = max(1, math.ceil(math.log2(size))) if size > 1 else 1
    return min(size * value_bytes, -(-size // 8) + kept * value_bytes, -(-kept * (8 * value_bytes + index_bits) // 8))


def sparse_saving(model: nn.Module, mask: Mask | None) -> int:
    """Return the bytes that the cheapest storage of the masked parameters saves on a device."""
    if mask is None:
        return 0
    return sum(
        weight.numel() * 4 - cheapest_bytes(weight.numel(), mask.layer_kept[name])
        for name, weight in prunable_weights(model).items()
    )


@dataclass(frozen=True)
class DeviceCost:
    """The cost of a device's update: `fixed` once, `per_batch` for every batch of the protocol's size.

    `peak` is by account, in bytes, at the moment of the highest total.
    """

    fixed_flops: float
    flops_per_batch: float
    perturbation_ops: float
    peak: Mapping[Account, int]

    def flops(self, calls: int, batches: float) -> float:
        """FLOPs of `calls` updates that drew `batches` batches together."""
        return self.fixed_flops * calls + self.flops_per_batch * batches

    @property
    def step_flops(self) -> float:
        """FLOPs of one update that draws one batch."""
        return self.flops(1, 1.0)

    @property
    def peak_bytes(self) -> int:
        """The peak of live tensor bytes."""
        return sum(self.peak.values())


@dataclass(frozen=True)
class DeviceSetting:
    """What a metered device starts from: the method, its parameters, the model as received, the context, its data."""

    method: type[Method]
    params: Mapping[str, Any]
    model: nn.Module
    ctx: ClientContext
    client_of: Any
    """Called with a number of batches, returns a Client whose epoch is that many full batches."""


def meter_device(setting: DeviceSetting) -> DeviceCost:
    """Meter a device's real update (see the module's text)."""
    cell = setting.ctx.cell
    if cell.estimator in ON_DEVICE:
        setting = replace(setting, ctx=replace(setting.ctx, cell=replace(cell, estimator="finite_difference")))
    asked = setting.params.get("num_perturbations")
    runs = []
    for batches in (1, 2):
        if isinstance(asked, int) and asked > 3:
            two, drawn = _run(_with_perturbations(setting, 2), batches)
            three, _ = _run(_with_perturbations(setting, 3), batches)
            runs.append((_extrapolate(two, three, asked), drawn))
        else:
            runs.append(_run(setting, batches))
    (one, drawn_one), (two, drawn_two) = runs
    if drawn_two > drawn_one:
        per_batch = (two.flops - one.flops) / (drawn_two - drawn_one)
        fixed = one.flops - per_batch * drawn_one
    else:
        per_batch, fixed = one.flops / max(drawn_one, 1.0), 0.0
    largest = max(one, two, key=lambda cost: cost.peak_bytes)
    return DeviceCost(fixed, per_batch, one.perturbation_ops / max(drawn_one, 1.0), largest.peak)


def _with_perturbations(setting: DeviceSetting, count: int) -> DeviceSetting:
    return replace(setting, params={**setting.params, "num_perturbations": count})


def _extrapolate(two: StepCost, three: StepCost, count: int) -> StepCost:
    steps = count - 2
    return StepCost(
        two.flops + steps * (three.flops - two.flops),
        two.perturbation_ops + steps * (three.perturbation_ops - two.perturbation_ops),
        max(two, three, key=lambda cost: cost.peak_bytes).peak,
    )


def _run(setting: DeviceSetting, batches: int) -> tuple[StepCost, float]:
    """Run one update under the meter; return its cost and the batches it drew."""
    method = instantiate(setting.method, setting.params)
    client: Client = setting.client_of(batches)
    model, ctx = copy.deepcopy(setting.model), setting.ctx
    flat_parameters(model)
    messages = [*ctx.received.values(), *(ctx.mask.values() if ctx.mask is not None else ())]
    resident: dict[Account, list[Tensor]] = {
        "parameters": [*(p.data for p in model.parameters()), *model.buffers()],
        "messages": messages,
        "optimizer": [value for value in client.state.values() if isinstance(value, Tensor)],
    }
    with account("activations"), StepMeter(model, ctx.mask, resident) as meter:
        update: Update = method.client_update(model, client, ctx)
        cost = meter.cost()
        del update
    return cost, float(client.batches_drawn)

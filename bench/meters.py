"""Meters: what a device's update costs, and clock accounts. The harness runs them; a method never sees them.

A device's cost is metered on its real `client_update`, run on throw-away copies of the model with the on-device
algorithm (`finite_difference` for a zeroth-order method): on 2 batches of data and, if it draws more than one, on 1.
Cost = fixed + per batch x batches. It is linear in `num_perturbations`, a large number of which is metered as
`PERTURBATIONS`; many `local_steps` are metered as 1 and 2.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import set_multithreading_enabled
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.contract import Client, ClientContext, Method, Update, instantiate
from bench.flops import FlopCounter, ForwardMacs, forward_macs
from bench.masks import Mask
from bench.memory import ACCOUNTS, LiveBytes, cheapest_bytes, sparse_saving
from bench.primitives.accounting import Account, account, current_account
from bench.primitives.flat import flat_parameters
from bench.primitives.zeroth_order import CHUNK

__all__ = [
    "ACCOUNTS",
    "CLOCKS",
    "Clock",
    "DeviceCost",
    "DeviceSetting",
    "ForwardMacs",
    "StepCost",
    "StepMeter",
    "cheapest_bytes",
    "forward_macs",
    "meter_device",
    "sparse_saving",
]

ON_DEVICE = ("finite_difference", "directional", "moment")
"""Estimators that stand for the on-device algorithm `finite_difference`, which is what gets metered."""

PERTURBATIONS = (CHUNK + 1, CHUNK + 2)
"""Numbers of perturbations that stand for larger ones: a device that rebuilds its estimate holds a chunk at a time."""

CLOCKS = ("train", "setup", "evaluate", "diagnose", "ntk", "meter", "data")


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
class StepCost:
    """What one metered run cost.

    perturbation_ops: real numbers written while perturbing: drawn, masked, scaled, added, taken back; the generator's
    integer arithmetic is not counted. peak: live bytes by account at their highest total. uncounted: operators that may
    multiply matrices and that no formula counts.
    """

    flops: float
    perturbation_ops: float
    peak: Mapping[Account, int]
    uncounted: frozenset[str]

    @property
    def peak_bytes(self) -> int:
        """The peak of live tensor bytes."""
        return sum(self.peak.values())

    def extended(self, after: StepCost, steps: int) -> StepCost:
        """Return the cost `steps` steps of a linear growth later, of which `after` is the first.

        Bytes grow where no account shrinks; otherwise the two peaks are at different moments and the higher one holds.
        """
        growth = {name: after.peak[name] - size for name, size in self.peak.items()}
        if min(growth.values()) < 0:
            peak = max(self, after, key=lambda cost: cost.peak_bytes).peak
        else:
            peak = {name: size + steps * growth[name] for name, size in self.peak.items()}
        return StepCost(
            self.flops + steps * (after.flops - self.flops),
            self.perturbation_ops + steps * (after.perturbation_ops - self.perturbation_ops),
            peak,
            self.uncounted | after.uncounted,
        )


class StepMeter(TorchDispatchMode):
    """Count the FLOPs, perturbation operations and live tensor bytes of everything that runs inside, backward included.

    `resident` are the tensors that live from the beginning, by account. Other tensors are booked on the account open
    when they are made, gradients of parameters on `gradients`. Backward runs in the calling thread meanwhile.
    """

    def __init__(self, model: nn.Module, mask: Mask | None, resident: Mapping[Account, list[Tensor]]) -> None:
        super().__init__()
        self._perturbation_ops = 0.0
        self._products = FlopCounter(model, mask)
        self._bytes = LiveBytes()
        self._hooks = [p.register_post_accumulate_grad_hook(self._book_gradient) for p in model.parameters()]
        for name, tensors in resident.items():
            for tensor in tensors:
                self._bytes.see(tensor, name)

    def cost(self) -> StepCost:
        """Return what was counted so far."""
        return StepCost(
            self._products.flops, self._perturbation_ops, self._bytes.peak, frozenset(self._products.uncounted)
        )

    def __enter__(self) -> StepMeter:
        self._threads = set_multithreading_enabled(False)
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._threads.__exit__(*exc)
        self._products.close()
        self._bytes.close()
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for gradient in self._products.count(func, args, kwargs, out):
            self._bytes.see(gradient, "gradients")
        perturbing = current_account() == "perturbation" and not func.is_view and "empty" not in func.__name__
        makes = _makes_its_results(func)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                if perturbing and leaf.is_floating_point():
                    self._perturbation_ops += leaf.numel()
                if makes:
                    self._bytes.see(leaf, current_account())
                else:
                    self._bytes.see_again(leaf)
        return out

    def _book_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._bytes.see_again(parameter.grad, "gradients")


@cache
def _makes_its_results(func: Any) -> bool:
    """Return whether an operator's results are new: no views and no arguments, which may be the data set's."""
    return func is torch.ops.aten.lift_fresh.default or all(made.alias_info is None for made in func._schema.returns)


@dataclass(frozen=True)
class DeviceCost:
    """The cost of a device's update: `fixed` once, `per_batch` for every batch of the protocol's size.

    `peak` is by account, in bytes, at the moment of the highest total; `sparse_saving` what the masked weights would
    save of it in sparse storage. `perturbation_ops` are those of one batch.
    """

    fixed_flops: float
    flops_per_batch: float
    perturbation_ops: float
    peak: Mapping[Account, int]
    sparse_saving: int = 0
    uncounted: tuple[str, ...] = ()

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

    @property
    def peak_bytes_sparse(self) -> int:
        """The same with masked weights in their cheapest storage."""
        return self.peak_bytes - self.sparse_saving


@dataclass(frozen=True)
class DeviceSetting:
    """What a metered device starts from: the method, its parameters, the model as received, the context, its data."""

    method: type[Method]
    params: Mapping[str, Any]
    model: nn.Module
    ctx: ClientContext
    client_of: Callable[[int], Client]
    """Called with a number of batches, returns a Client whose epoch is that many full batches."""


def meter_device(setting: DeviceSetting) -> DeviceCost:
    """Meter a device's real update (see the module's text)."""
    cell = setting.ctx.cell
    if cell.estimator in ON_DEVICE:
        setting = replace(setting, ctx=replace(setting.ctx, cell=replace(cell, estimator="finite_difference")))
    two, drawn = _cost(setting, 2)
    one, drawn_of_one = _cost(setting, 1) if drawn > 1 else (two, drawn)
    if drawn > drawn_of_one:
        per_batch = (two.flops - one.flops) / (drawn - drawn_of_one)
    else:
        per_batch = two.flops / drawn if drawn else 0.0
    return DeviceCost(
        fixed_flops=one.flops - per_batch * drawn_of_one,
        flops_per_batch=per_batch,
        perturbation_ops=one.perturbation_ops / max(drawn_of_one, 1),
        peak=max(one, two, key=lambda cost: cost.peak_bytes).peak,
        sparse_saving=sparse_saving(setting.model, setting.ctx.mask),
        uncounted=tuple(sorted(one.uncounted | two.uncounted)),
    )


def _cost(setting: DeviceSetting, batches: int) -> tuple[StepCost, int]:
    """Return the cost of an update on `batches` batches of data, and how many it drew."""
    steps, count = (setting.params.get(name) for name in ("local_steps", "num_perturbations"))
    if isinstance(steps, int) and steps > 2:
        setting = replace(setting, params={**setting.params, "local_steps": batches})
    if not (isinstance(count, int) and count > PERTURBATIONS[1]):
        return _run(setting, batches)
    (low, drawn), (high, _) = (
        _run(replace(setting, params={**setting.params, "num_perturbations": number}), batches)
        for number in PERTURBATIONS
    )
    return low.extended(high, count - PERTURBATIONS[0]), drawn


def _run(setting: DeviceSetting, batches: int) -> tuple[StepCost, int]:
    method = instantiate(setting.method, setting.params)
    client = setting.client_of(batches)
    model, ctx = copy.deepcopy(setting.model), setting.ctx
    flat_parameters(model)
    resident: dict[Account, list[Tensor]] = {
        "parameters": [*(p.data for p in model.parameters()), *model.buffers()],
        "messages": [*ctx.received.values(), *(ctx.mask.values() if ctx.mask is not None else ())],
        "optimizer": [value for value in client.state.values() if isinstance(value, Tensor)],
    }
    with _no_garbage_collection(), account("activations"), StepMeter(model, ctx.mask, resident) as meter:
        update: Update = method.client_update(model, client, ctx)
        cost = meter.cost()
        del update
    return cost, client.batches_drawn


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Free tensors by their reference counts alone, so that a peak does not depend on when the collector last ran."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

"""Meters: what a device's update costs, and clock accounts. The harness runs them; a method never sees them.

A device's cost is metered on its real `client_update`, run on throw-away copies of the model with the on-device
algorithm (`finite_difference` for a zeroth-order method): on 2 batches of data and, if it draws more than one, on 1.
Cost = fixed + per batch x batches. A batch is the largest that any client can draw, and where no client holds two of
them the peak is that of an update on the largest client's data; where a device holds more than two of them at once
(`AT_ONCE`), it is that of an update on so many. The cost is linear in the counts of `LINEAR`, large
ones of which are metered as a small number and one more; many `local_steps` are metered as 1, 2 or 3.
"""

from __future__ import annotations

import copy
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import set_multithreading_enabled
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext
from fedfore.contract.exchange import Update
from fedfore.contract.instance import instantiate
from fedfore.contract.method import Method
from fedfore.masks import Mask
from fedfore.measure.flops import FlopCounter, ForwardMacs, forward_macs
from fedfore.measure.memory import ACCOUNTS, LiveBytes, cheapest_bytes, sparse_saving, storage_bytes, tensors_in
from fedfore.primitives.accounting import Account, account, current_account
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.zeroth_order import CHUNK

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

LINEAR: Mapping[str, tuple[str, ...]] = {"setup": ("draws", "forward_directions"), "train": ("num_perturbations",)}
"""By phase, the parameters that an update's cost is linear in."""

AT_ONCE: Mapping[str, str] = {"setup": "inputs_per_draw"}
"""By phase, the parameter that says how many of its examples a device may hold at once."""

FEW, MANY = 2, CHUNK + 1
"""Numbers from which on it is linear: the second draw frees the first one's tensors; a device that rebuilds its
estimate holds ever more perturbations, up to a chunk."""

SCALARS = 64
"""Bytes by which a peak may grow with each draw or perturbation for what is sent of it: beyond, tensors pile up."""

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
    multiply matrices and that no formula counts. drawn: batches of data. uplink_bytes: of the message that goes up.
    kept_bytes: of the state that the device keeps.
    """

    flops: float
    perturbation_ops: float
    peak: Mapping[Account, int]
    uncounted: frozenset[str]
    drawn: int = 0
    uplink_bytes: int = 0
    kept_bytes: int = 0

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
            self.drawn + steps * (after.drawn - self.drawn),
            self.uplink_bytes + steps * (after.uplink_bytes - self.uplink_bytes),
            after.kept_bytes,
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
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._book_gradient) for p in model.parameters() if p.requires_grad
        ]
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
        for leaf in map(_stored, tree_leaves(out)):
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


def _stored(leaf: Any) -> Any:
    """Return a tensor's values where it is sparse, which is how it has a storage; anything else as it is."""
    if not isinstance(leaf, Tensor) or leaf.layout == torch.strided:
        return leaf
    return leaf._values() if leaf.layout == torch.sparse_coo else leaf.values()


@cache
def _makes_its_results(func: Any) -> bool:
    """Return whether an operator's results are new: no views and no arguments, which may be the data set's."""
    return func is torch.ops.aten.lift_fresh.default or all(made.alias_info is None for made in func._schema.returns)


@dataclass(frozen=True)
class DeviceCost:
    """The cost of a device's update: `fixed` once, `per_batch` for every batch of `batch` examples.

    `fixed_on_data` says whether the fixed part is work on a batch of its own, such as an adjustment's gradients. `peak`
    is by account, in bytes, at the moment of the highest total; `sparse_saving` what the masked weights would save of
    it in sparse storage; `state_bytes` what the device had kept from earlier rounds, `kept_bytes` what it keeps after
    this one. `perturbation_ops` are those of one batch, `uplink_bytes` those of one update that draws one batch.
    """

    fixed_flops: float
    flops_per_batch: float
    perturbation_ops: float
    peak: Mapping[Account, int]
    batch: int
    fixed_on_data: bool = False
    sparse_saving: int = 0
    uncounted: tuple[str, ...] = ()
    uplink_bytes: int = 0
    state_bytes: int = 0
    kept_bytes: int = 0

    def flops(self, calls: float, batches: float) -> float:
        """FLOPs of `calls` updates that drew `batches` batches together."""
        return self.fixed_flops * calls + self.flops_per_batch * batches

    def flops_of(self, sizes: Sequence[int], drawn: int) -> float:
        """FLOPs of one update each of devices that hold `sizes` examples and drew `drawn` examples together."""
        calls = sum(min(size / self.batch, 1.0) for size in sizes) if self.fixed_on_data else len(sizes)
        return self.flops(calls, drawn / self.batch)

    def with_peak_of(self, other: DeviceCost) -> DeviceCost:
        """Return this cost with the other's peak where that is higher."""
        if other.peak_bytes <= self.peak_bytes:
            return self
        return replace(self, peak=other.peak, sparse_saving=other.sparse_saving)

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
    """What a metered device starts from: the method, its parameters, the model as received, the context, its data.

    The context's cell has the metered batch as its batch size.
    """

    method: type[Method]
    params: Mapping[str, Any]
    model: nn.Module
    ctx: ClientContext
    client_of: Callable[[int], Client]
    """Called with a number of examples, returns a Client that holds so many."""
    largest: int
    """Examples of the largest client that there is."""
    encoded_bytes: Callable[[Update], int]


def meter_device(setting: DeviceSetting) -> DeviceCost:
    """Meter a device's real update (see the module's text)."""
    cell = setting.ctx.cell
    if cell.estimator in ON_DEVICE:
        setting = replace(setting, ctx=replace(setting.ctx, cell=replace(cell, estimator="finite_difference")))
    batch = setting.ctx.cell.train.batch_size
    two = _cost(setting, 2 * batch, 2)
    one = _cost(setting, batch, 1) if two.drawn > 1 else two
    grown = two.drawn - one.drawn
    drawn, flops = (grown, two.flops - one.flops) if grown > 0 else (two.drawn, two.flops)
    per_batch = flops / drawn if drawn else 0.0
    invented = two.drawn > 1 and setting.largest < 2 * batch
    real = [_cost(setting, setting.largest, 3)] if invented else [one, two]
    at_once = setting.params.get(AT_ONCE.get(setting.ctx.phase, ""))
    held = min(at_once, setting.largest) if two.drawn and isinstance(at_once, int) else 0
    if held > 2 * batch:
        real.append(_cost(setting, held, 2))
    return DeviceCost(
        fixed_flops=one.flops - per_batch * one.drawn,
        flops_per_batch=per_batch,
        perturbation_ops=one.perturbation_ops / max(one.drawn, 1),
        peak=max(real, key=lambda cost: cost.peak_bytes).peak,
        batch=batch,
        fixed_on_data=one.drawn > grown > 0,
        sparse_saving=sparse_saving(setting.model, setting.ctx.mask),
        uncounted=tuple(sorted(one.uncounted.union(*(cost.uncounted for cost in (two, *real))))),
        uplink_bytes=one.uplink_bytes,
        state_bytes=storage_bytes(tensors_in(setting.client_of(1).state)),
        kept_bytes=one.kept_bytes,
    )


def _cost(setting: DeviceSetting, examples: int, most_steps: int) -> StepCost:
    """Return the cost of an update on `examples` examples, of many `local_steps` the first `most_steps`."""
    steps = setting.params.get("local_steps")
    if isinstance(steps, int):
        setting = replace(setting, params={**setting.params, "local_steps": min(steps, most_steps)})
    for name in LINEAR[setting.ctx.phase]:
        count = setting.params.get(name)
        for low in (FEW, MANY):
            if isinstance(count, int) and count > low + 1:
                first, after = (
                    _cost(replace(setting, params={**setting.params, name: low + step}), examples, most_steps)
                    for step in (0, 1)
                )
                if low == MANY or abs(after.peak_bytes - first.peak_bytes) <= SCALARS:
                    return first.extended(after, count - low)
    return _run(setting, examples)


def _run(setting: DeviceSetting, examples: int) -> StepCost:
    method = instantiate(setting.method, setting.params)
    client = setting.client_of(examples)
    model, ctx = copy.deepcopy(setting.model), setting.ctx
    flat_parameters(model)
    resident: dict[Account, list[Tensor]] = {
        "parameters": [*(p.data for p in model.parameters()), *model.buffers()],
        "messages": [*ctx.received.values(), *(ctx.mask.values() if ctx.mask is not None else ())],
        "optimizer": tensors_in(client.state),
    }
    with _no_garbage_collection(), account("activations"), StepMeter(model, ctx.mask, resident) as meter:
        update = method.client_update(model, client, ctx)
        cost = meter.cost()
    return replace(
        cost,
        drawn=client.batches_drawn,
        uplink_bytes=setting.encoded_bytes(update),
        kept_bytes=storage_bytes(tensors_in(client.state)),
    )


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

"""What a device's update costs. The harness meters it; a method never sees the meters.

A device's cost is metered on its real `client_update`, run on throw-away copies of the model with the on-device
algorithm (`finite_difference` for a zeroth-order method): on 2 batches of data and, if it draws more than one, on 1.
Cost = fixed + per batch x batches. A batch is the largest that any client can draw, and where no client holds two of
them the peak is that of an update on the largest client's data; where a device holds more than two of them at once
(`Method.examples_at_once`), it is that of an update on so many. Keys that the cost is linear in (`Key.linear_in`) are
metered at a small number and one more where they are large; many local steps (`Key.local_steps`) as 1, 2 or 3.
"""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from fedfore.cell import Account, Phase
from fedfore.contract.client import Client
from fedfore.contract.config import declared_keys
from fedfore.contract.context import ClientContext, with_own_copies
from fedfore.contract.exchange import Update
from fedfore.contract.instance import instantiate
from fedfore.contract.method import Method
from fedfore.errors import ContractError
from fedfore.measure.memory import sparse_saving, storage_bytes, tensors_in
from fedfore.measure.step_meter import StepCost, StepMeter
from fedfore.primitives.accounting import account
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.zeroth_order import CHUNK

ON_DEVICE = ("finite_difference", "directional", "moment")
"""Estimators that stand for the on-device algorithm `finite_difference`, which is what gets metered."""

FEW, MANY = 2, CHUNK + 1
"""Numbers from which on a cost is linear: the second draw frees the first one's tensors; a device that rebuilds its
estimate holds ever more perturbations, up to a chunk."""

SCALARS = 64
"""Bytes by which a peak may grow with each draw or perturbation for what is sent of it: beyond, tensors pile up."""


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
    at_once = examples_at_once(instantiate(setting.method, setting.params), setting.ctx.phase)
    held = min(at_once, setting.largest) if two.drawn else 0
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


def examples_at_once(method: Method, phase: Phase) -> int:
    """Return what `Method.examples_at_once` does. Raises ContractError (`hook_type`) for what is no whole number."""
    held: object = method.examples_at_once(phase)
    if not isinstance(held, int):
        raise ContractError(
            "hook_type",
            f"{type(method).__name__}.examples_at_once must return a whole number of examples, got {held!r}.",
        )
    return held


def misjudged(setting: DeviceSetting, name: str, count: int) -> str | None:
    """Return, in words, what of an update on one batch is not as the linearity of key `name` has it at `count`.

    None where all is. A peak may differ by what is kept of each of the counted for what is sent. Bytes sent are those
    of training, which alone are metered.
    """
    given, batch = _with(setting, name, count), setting.ctx.cell.train.batch_size
    real, told = _run(given, batch), _extended(given, batch, [name])
    if abs(real.peak_bytes - told.peak_bytes) > SCALARS * count:
        return f"a peak of {real.peak_bytes} bytes, and as a linear key one of {told.peak_bytes}"
    sent = ("uplink_bytes",) if setting.ctx.phase == "train" else ()
    for what in ("flops", "perturbation_ops", "drawn", *sent):
        found, expected = getattr(real, what), getattr(told, what)
        if not math.isclose(found, expected, rel_tol=1e-9):
            return f"{what} = {found:.12g}, and as a linear key {expected:.12g}"
    return None


def _cost(setting: DeviceSetting, examples: int, most_steps: int) -> StepCost:
    """Return the cost of an update on `examples` examples, of many local steps the first `most_steps`."""
    keys = {name: key for name, key in declared_keys(setting.method.Config).items() if _is_count(setting, name)}
    for name in (name for name, key in keys.items() if key.local_steps):
        setting = _with(setting, name, min(setting.params[name], most_steps))
    return _extended(setting, examples, [name for name, key in keys.items() if key.linear_in == setting.ctx.phase])


def _extended(setting: DeviceSetting, examples: int, linear: Sequence[str]) -> StepCost:
    """Return the cost of an update that grows linearly in the counts `linear`, large ones of which are not run."""
    if not linear:
        return _run(setting, examples)
    name, *others = linear
    count = setting.params[name]
    for low in (FEW, MANY):
        if count > low + 1:
            first, after = (_extended(_with(setting, name, low + step), examples, others) for step in (0, 1))
            if low == MANY or abs(after.peak_bytes - first.peak_bytes) <= SCALARS:
                return first.extended(after, count - low)
    return _extended(setting, examples, others)


def _is_count(setting: DeviceSetting, name: str) -> bool:
    return isinstance(setting.params.get(name), int)


def _with(setting: DeviceSetting, name: str, count: int) -> DeviceSetting:
    return replace(setting, params={**setting.params, name: count})


def _run(setting: DeviceSetting, examples: int) -> StepCost:
    method = instantiate(setting.method, setting.params)
    client = setting.client_of(examples)
    model, ctx = copy.deepcopy(setting.model), with_own_copies(setting.ctx)
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

"""What the work of a device costs, metered once for every kind of round."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

from fedfore.cell import Phase
from fedfore.contract.context import ClientContext
from fedfore.federation.ledger import PHASES
from fedfore.federation.observers.observer import Observer, View, Work
from fedfore.federation.rules import expect
from fedfore.measure.device import DeviceCost, DeviceSetting, meter_device
from fedfore.measure.memory import ACCOUNTS, storage_bytes, tensors_in

Kind = tuple[Phase, str, tuple[int, ...]]
"""A phase, what the method calls its round, and the weights that every layer of the mask keeps."""


class CostMeter(Observer):
    """Meters devices, and books the FLOPs of their work."""

    tells_of: ClassVar = "device"

    def __init__(self) -> None:
        self._costs: dict[Kind, DeviceCost] = {}
        self._present: DeviceCost | None = None

    def before_work(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> None:
        self._present = self.cost(view, ctx, cohort)

    def after_work(self, view: View, work: Work) -> None:
        assert self._present is not None, "work follows what goes before it"
        sizes = [client.num_examples for client in view.clients.of(work.cohort, work.ctx.phase)]
        view.ledger.totals[work.ctx.phase].flops += self._present.flops_of(sizes, work.drawn)

    def knows(self, view: View, ctx: ClientContext) -> bool:
        """Return whether a round of this kind has been metered."""
        return _kind(view, ctx) in self._costs

    def cost(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> DeviceCost:
        """Return the metered cost of this kind of round under this mask, on the device that keeps most.

        It is metered the first time, and again when a device brings more from earlier rounds than any did before.
        """
        kind = _kind(view, ctx)
        held = {client: storage_bytes(tensors_in(view.clients.devices[client].state)) for client in cohort}
        fullest = max(held, key=held.__getitem__)
        before = self._costs.get(kind)
        if before is None or held[fullest] > before.state_bytes:
            with view.clock.charge("meter"):
                cost = meter_device(device_setting(view, ctx, fullest))
            self._costs[kind] = cost if before is None else cost.with_peak_of(before)
        return self._costs[kind]

    def costs(self, phase: Phase) -> list[DeviceCost]:
        """Return the costs of all kinds of rounds of a phase, in the order in which they were met."""
        return [cost for (of, _, _), cost in self._costs.items() if of == phase]

    def fields(self, view: View) -> Mapping[str, Any]:
        step, scoring = (self._heaviest(phase) for phase in ("train", "setup"))
        macs = view.server.macs
        uncounted = set(macs.uncounted).union(*(cost.uncounted for cost in self._costs.values()))
        return {
            "forward_macs_dense": macs.dense,
            "forward_macs_masked": macs.masked(view.server.mask),
            "uncounted_ops": ",".join(sorted(uncounted)),
            "device_step_flops": step.flops_per_batch if step else None,
            "device_setup_flops": scoring.flops(1, 1.0) if scoring else None,
            "perturbation_ops": step.perturbation_ops if step else None,
            "metered_batch": next((cost.batch for cost in (step, scoring) if cost), None),
            **self._memory(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "costs": [
                {"phase": phase, "kind": kind, "kept": list(kept), **asdict(cost), "uncounted": list(cost.uncounted)}
                for (phase, kind, kept), cost in self._costs.items()
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._costs = {}
        for stored in state["costs"]:
            cost = dict(stored)
            kind = (cost.pop("phase"), cost.pop("kind"), tuple(cost.pop("kept")))
            self._costs[kind] = DeviceCost(**{**cost, "uncounted": tuple(cost["uncounted"])})

    def _heaviest(self, phase: Phase) -> DeviceCost | None:
        return max(self.costs(phase), key=lambda cost: cost.peak_bytes, default=None)

    def _memory(self) -> dict[str, Any]:
        peaks = {phase: self._heaviest(phase) for phase in PHASES}
        highest = max((cost for cost in peaks.values() if cost), key=lambda cost: cost.peak_bytes, default=None)
        if highest is None:
            return {}
        return {
            **{f"peak_device_bytes_{phase}": cost.peak_bytes if cost else 0 for phase, cost in peaks.items()},
            "peak_device_bytes": highest.peak_bytes,
            **{f"peak_device_bytes_{name}": highest.peak[name] for name in ACCOUNTS},
            "peak_device_bytes_sparse": max(cost.peak_bytes_sparse for cost in self._costs.values()),
        }


def round_kind(view: View, ctx: ClientContext) -> str:
    """Return what the method calls a round. Raises ContractError (`hook_type`) for what is no text."""
    kind = view.clients.method.round_kind(ctx)
    expect(kind, str, f"{type(view.clients.method).__name__}.round_kind")
    return kind


def _kind(view: View, ctx: ClientContext) -> Kind:
    kept = () if ctx.mask is None else tuple(ctx.mask.layer_kept.values())
    return ctx.phase, round_kind(view, ctx), kept


def device_setting(view: View, ctx: ClientContext, client: int) -> DeviceSetting:
    """Return what a device of this round starts from; its data are the meter's to choose."""
    clients, cell = view.clients, ctx.cell
    device = clients.devices[client]
    state = copy.deepcopy(device.state)
    train = replace(cell.train, batch_size=clients.largest_batch())
    return DeviceSetting(
        method=type(clients.method),
        params=cell.params,
        model=clients.load_received(device.clients[ctx.phase], ctx.phase),
        ctx=replace(ctx, cell=replace(cell, train=train)),
        client_of=lambda examples: clients.metered(examples, state, ctx.phase),
        largest=clients.largest(),
        encoded_bytes=lambda update: len(view.channel.encoded(update, client, ctx)),
    )

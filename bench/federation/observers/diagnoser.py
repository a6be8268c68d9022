"""Gradient diagnostics at milestones of the budget (see `fedfore.measure.diagnostics`)."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor, nn

from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, with_own_copies
from fedfore.contract.exchange import Estimate, Update
from fedfore.contract.method import Method
from fedfore.errors import ContractError, Diverged
from fedfore.federation.device import client_of
from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.rules import expect
from fedfore.federation.server import client_context
from fedfore.measure.diagnostics import (
    Diagnosis,
    estimate_quality,
    gradient_energy,
    has_finite_gradient,
    summary,
    variance_ratio,
)
from fedfore.primitives.gradients import Batch
from fedfore.primitives.zeroth_order import Step
from fedfore.records.lines import DIAGNOSTICS
from fedfore.records.probes import MILESTONES


class GradientDiagnoser(Observer):
    """Diagnoses once for the latest milestone that has been reached and not been diagnosed.

    Raises Diverged where training has come to weights without a finite gradient.
    """

    def __init__(self) -> None:
        self.diagnoses: list[Diagnosis] = []
        self.energy_at_start: float | None = None
        """The share of gradient energy that the first mask keeps at the dense initial weights."""

    def after_setup(self, view: View) -> None:
        mask = view.server.mask
        if mask is not None:
            with view.clock.charge("diagnose"):
                self.energy_at_start = gradient_energy(
                    view.server.dense_start(), view.world.batch(view.world.probe), mask
                )
        self._diagnose(view)

    def after_round(self, view: View) -> None:
        self._diagnose(view)

    def fields(self, view: View) -> Mapping[str, Any]:
        return summary(self.diagnoses, self.energy_at_start)

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {DIAGNOSTICS: [asdict(one) for one in self.diagnoses]}

    def state_dict(self) -> dict[str, Any]:
        return {"diagnoses": [asdict(one) for one in self.diagnoses], "energy_at_start": self.energy_at_start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.diagnoses = [Diagnosis(**one) for one in state["diagnoses"]]
        self.energy_at_start = state["energy_at_start"]

    def _diagnose(self, view: View) -> None:
        milestone = max(milestone for milestone in MILESTONES if view.ledger.progress >= milestone - 1e-9)
        if self.diagnoses and self.diagnoses[-1].moment == milestone:
            return
        world, mask, rounds = view.world, view.server.mask, view.ledger.totals["train"].rounds
        estimates = view.server.method.estimate is not None
        with view.clock.charge("diagnose"):
            seen = world.batch(world.probe[: world.cell.train.batch_size])
            if (estimates or mask) and not has_finite_gradient(view.clients.scratch(view.server.model), seen):
                raise Diverged(
                    f"The gradient of probe examples is not finite after train round {rounds}; try a smaller learning "
                    "rate."
                )
            quality = _quality(view, seen) if estimates else {}
            model = view.clients.scratch(view.server.model)
            energy = gradient_energy(model, world.batch(world.probe), mask) if mask else None
            self.diagnoses.append(Diagnosis(moment=milestone, round=rounds, **quality, grad_energy=energy))


def _quality(view: View, seen: Batch) -> dict[str, float | None]:
    """Rehearse the round that would come next with one client whose data are a batch, and judge what it sends.

    States are copies and the batch is drawn by a stream of its own, so that training does not notice.
    """
    world, server, clients = view.world, view.server, view.clients
    size, round = world.cell.train.batch_size, view.ledger.totals["train"].rounds
    progress = min(view.ledger.progress, math.nextafter(1.0, 0.0))
    asked = replace(
        server.context("train", round, progress, (0,)),
        state=copy.deepcopy(server.state),
        notes=copy.deepcopy(server.notes),
    )
    message = server.method.broadcast(clients.scratch(server.model), asked)
    state = copy.deepcopy(clients.devices[0].state)
    client = client_of(world, 0, world.probe[:size], state, "probe", as_they_are=True)
    ctx = client_context(asked, message.tensors)
    update = clients.method.client_update(clients.scratch(server.model), client, with_own_copies(ctx))
    estimate = estimated(clients.method, clients.scratch(server.model), update, client, ctx)
    if estimate is None:
        return {}
    batches = [world.batch(part[:size]) for part in world.parts]
    sizes = [len(part) for part in world.parts]
    return {
        **estimate_quality(clients.scratch(server.model), seen, estimate, server.mask),
        "variance_ratio": variance_ratio(clients.scratch(server.model), batches, sizes, server.mask),
    }


def estimated(method: Method, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
    """Return the gradient that the method reads out of an update, or None.

    Raises ContractError (`hook_type`) for what is no estimate of a gradient of `model`.
    """
    if method.estimate is None:
        return None
    estimate = method.estimate(model, update, client, ctx)
    if estimate is None:
        return None
    expect(estimate, Estimate, "estimate")
    expect(estimate.gradient, Tensor, "Estimate.gradient")
    if estimate.step is not None:
        expect(estimate.step, Step, "Estimate.step")
    size = sum(parameter.numel() for parameter in model.parameters())
    if estimate.gradient.shape != (size,):
        raise ContractError(
            "hook_type",
            f"{type(method).__name__}.estimate returns a gradient of shape "
            f"{list(estimate.gradient.shape)}; the model has {size} parameters.",
        )
    return estimate

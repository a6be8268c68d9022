"""What a method declares of itself, and that nothing is read from the names of its keys and tensors instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import PositiveInt
from torch import nn

from fedfore.api import BPFreeConfig, Client, ClientContext, Key, Method, ServerContext, Update
from fedfore.contract.config import declared_keys
from fedfore.contract.registry import MethodEntry
from fedfore.execution.conformance import check_method
from fedfore.measure.device import FEW, meter_device
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives.flat import flat_parameters
from tests.test_device_costs import BATCH, client_of, lenet5, setting


@dataclass(frozen=True)
class Quadratic:
    """As many passes as the square of a key whose name other methods have for a linear one."""

    num_perturbations: PositiveInt = 500


class Squares(Method):
    """Compares every perturbation with every other one."""

    Config: ClassVar[type] = Quadratic

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        ((x, _),) = client.batches(steps=1)
        count = self.config.num_perturbations
        with torch.no_grad():
            outputs = [model(x).sum() for _ in range(count**2)]
        return Update(client.num_examples, scalars=torch.stack(outputs))


@dataclass(frozen=True)
class Declared:
    """A count under a name of its own."""

    trials: Annotated[PositiveInt, Key(linear_in="train", tiny=3)] = 500


class Trials(Method):
    """A pass a trial."""

    Config: ClassVar[type] = Declared
    counts: ClassVar[list[int]] = []

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        self.counts.append(self.config.trials)
        ((x, _),) = client.batches(steps=1)
        with torch.no_grad():
            outputs = [model(x).sum() for _ in range(self.config.trials)]
        return Update(client.num_examples, scalars=torch.stack(outputs))

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        flat_parameters(model).add_(1e-3)
        ctx.note("trials", [len(update.scalars) for update in updates if update.scalars is not None])


def directly(method: type[Method], **given: Any) -> float:
    """Return the FLOPs of the real update, run under the meter as it is."""
    start = setting(method, lenet5(), **given)
    with StepMeter(start.model, None, {}) as meter:
        method(method.Config(**given)).client_update(start.model, client_of(BATCH), start.ctx)
        return meter.cost().flops


def test_a_key_that_declares_nothing_is_metered_as_it_is_whatever_its_name() -> None:
    measured = meter_device(setting(Squares, lenet5(), num_perturbations=12))
    assert measured.flops(1, 1) == directly(Squares, num_perturbations=12)
    assert measured.flops(1, 1) == 16 * directly(Squares, num_perturbations=3)


def test_a_count_of_any_name_that_declares_itself_linear_is_metered_as_few() -> None:
    Trials.counts.clear()
    measured = meter_device(setting(Trials, lenet5(), trials=40))
    assert set(Trials.counts) == {FEW, FEW + 1}
    assert measured.flops(1, 1) == directly(Trials, trials=40)


def test_a_count_is_linear_in_the_phase_that_it_declares_alone() -> None:
    Trials.counts.clear()
    meter_device(setting(Trials, lenet5(), phase="setup", trials=5))
    assert set(Trials.counts) == {5}


def test_a_subclass_takes_a_declaration_back_by_declaring_the_key_anew() -> None:
    @dataclass(frozen=True)
    class Own(BPFreeConfig):
        num_perturbations: PositiveInt = 7

    assert declared_keys(BPFreeConfig)["num_perturbations"].linear_in == "train"
    assert "num_perturbations" not in declared_keys(Own)


def test_the_conformance_suite_runs_a_method_at_the_values_that_it_declares_tiny() -> None:
    Trials.counts.clear()
    findings = check_method(MethodEntry("trials", "plugin", Path(__file__), Trials))
    assert [finding.rule for finding in findings if finding.outcome == "broken"] == ["hidden_state"], "its counts"
    assert set(Trials.counts) == {3}

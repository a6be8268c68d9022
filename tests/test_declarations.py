"""What a method declares of itself, and that nothing is read from the names of its keys and tensors instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import nn

from fedfore.api import (
    BPFreeConfig,
    Client,
    ClientContext,
    Context,
    Estimate,
    Key,
    Message,
    Method,
    ServerContext,
    Update,
    shares,
)
from fedfore.baselines.baffle import Baffle
from fedfore.cli.main import main
from fedfore.contract.config import declared_keys
from fedfore.contract.registry import MethodEntry, discover
from fedfore.execution.conformance import check_method
from fedfore.federation.loop import Federation
from fedfore.measure.device import FEW, meter_device
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.gradients import Batch
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig, pack, unpack
from fedfore.records.live import LiveRun
from tests.conftest import run_in_this_process
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

    trials: Annotated[PositiveInt, Key(linear_in="train", tiny=5)] = 500


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
    assert set(Trials.counts) == {5, 2, 3, 4, 7, 60}, "and what `linear_cost` tries"


@dataclass(frozen=True)
class Own:
    """A zeroth-order method's keys under names of its own."""

    directions: Annotated[PositiveInt, Key(linear_in="train", tiny=4)] = 20
    size: PositiveFloat = 1e-3


class Keyed(Method):
    """Forward passes along directions from a seed that travels as `key`."""

    Config: ClassVar[type] = Own
    uses: ClassVar = frozenset({"estimator"})

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"key": torch.tensor(ctx.seed("perturbation"))})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        batch = Batch(*next(client.batches(steps=1)))
        sent = self._step(ctx, int(ctx.received["key"])).send(model, [batch], [client.id], ctx.mask)
        return Update(client.num_examples, **pack(sent))

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        sent = [unpack(update, self.config.directions)[0] for update in updates]
        step = self._step(ctx, ctx.seed("perturbation"))
        gradient = step.estimate(sent, shares(updates), ctx.cohort, model, ctx.mask)
        flat_parameters(model).sub_(gradient, alpha=0.01)

    def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
        step = self._step(ctx, int(ctx.received["key"]))
        sent = unpack(update, self.config.directions)
        return Estimate(step.estimate(sent, [1.0], [client.id], model, ctx.mask), step)

    def _step(self, ctx: Context, seed: int) -> Step:
        config = ZerothOrderConfig(num_perturbations=self.config.directions, sigma=self.config.size)
        return Step(ctx.cell.estimator or "finite_difference", config, seed, ctx.round)


class Stepless(Keyed):
    """Says what its gradient is, and not how it came about."""

    def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
        whole = super().estimate(model, update, client, ctx)
        return Estimate(whole.gradient) if whole else None


class Silent(Keyed):
    """Declares no estimate."""

    estimate = None  # type: ignore[assignment]


def diagnoses(made: Federation) -> list[dict[str, Any]]:
    return list(made.run().log()["diagnostics.jsonl"])


@pytest.mark.thorough
def test_a_seed_under_another_name_is_diagnosed_as_that_of_baffle(federation: Callable[..., Federation]) -> None:
    own = diagnoses(federation(Keyed, estimator="directional"))
    baffle = diagnoses(
        federation(Baffle, estimator="directional", given={"num_perturbations": 20, "sigma": 1e-3, "lr": 0.01})
    )
    assert own[0] == baffle[0], "before training they are the same method"
    assert all(0 < line["fd_scalar_error"] < 0.5 and 0 < line["grad_cosine"] < 1 for line in own)


@pytest.mark.parametrize(("method", "known"), [(Stepless, True), (Silent, False)])
def test_what_is_not_declared_is_unknown_and_so_never_certified(
    federation: Callable[..., Federation], method: type[Method], known: bool
) -> None:
    found = federation(method, estimator="directional").run().fields()
    assert found["fd_scalar_error"] is None
    assert (found["grad_cosine"] is not None, found["grad_rel_error"] is not None) == (known, known)


class Crowded(Baffle):
    """Keeps a state of its own under the names that its base class has for other things."""

    def start(self, model: nn.Module, ctx: ServerContext) -> None:
        super().start(model, ctx)
        ctx.state.update(adam=1.0, average=torch.zeros(3), epoch_rounds=7)


@pytest.mark.thorough
def test_a_subclass_may_keep_its_state_under_any_name(federation: Callable[..., Federation]) -> None:
    given = {"num_perturbations": 4, "ema_decay": 0.9}
    made = [federation(method, estimator="directional", given=given).run() for method in (Baffle, Crowded)]
    assert torch.equal(flat_parameters(made[0].model), flat_parameters(made[1].model))
    assert made[1].server.state["epoch_rounds"] == 7


DRAWN = """
from fedfore.api import Look, Method


class Drawn(Method):
    '''Asks to be drawn.'''

    label = {label}
    look = {look}
"""
MATRIX = (
    "method=drawn", "dataset=digits", "model=lenet5", "sparsity=0.0", "alpha=iid", "seed=0", "train.meter_only=true",
    "train.clients=3",
)  # fmt: skip


def test_a_record_says_how_its_method_asks_to_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_this_process(monkeypatch)
    (tmp_path / "drawn.py").write_text(DRAWN.format(label="'Drawn!'", look="Look('#123456', line='dotted')"))
    asked = [word for key in MATRIX for word in ("--set", key)]
    assert main(["run", *asked, "--plugins", str(tmp_path), "--out", str(tmp_path / "run")]) == 0
    run = LiveRun(tmp_path / "run")
    record = run.found(*run.recorded())
    assert (
        record is not None
        and record.label == "Drawn!"
        and record.look == {"colour": "#123456", "marker": None, "line": "dotted"}
    )


@pytest.mark.parametrize(
    ("label", "look", "said"),
    [
        ("''", "None", "its label '' is no text of 1 to 60 characters"),
        ("3", "None", "its label 3 is no text"),
        (repr("two\nlines"), "None", "is no text"),
        ("None", "{'colour': '#123456'}", "its look is a dict, and not a fedfore.api.Look"),
        ("None", "Look('red')", "the look's colour 'red' is not written as \"#rrggbb\""),
        ("None", "Look(marker='+')", "the look's marker '+' is none of o, s, "),
        ("None", "Look(line='dashed')", "the look's line 'dashed' is none of solid, dotted, dashdot"),
    ],
)
def test_a_label_or_a_look_that_cannot_be_drawn_is_one_sentence(
    label: str, look: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "drawn.py").write_text(DRAWN.format(label=label, look=look))
    problem = discover([tmp_path])["drawn"].problem or ""
    assert said in problem and "\n" not in problem

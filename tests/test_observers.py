"""What observers see of a federation: fields and lines of clients, of the headline's window, of kernels, by hand."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Estimate, Message, ServerContext, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.cell import Cell, Protocol
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError, ContractError, Diverged
from fedfore.execution.executors.inline import Inline
from fedfore.execution.feasibility import Feasibility
from fedfore.execution.matrix import resolve
from fedfore.execution.runner import RunOptions, run_plan
from fedfore.federation.loop import Federation
from fedfore.federation.observers.diagnoser import GradientDiagnoser
from fedfore.federation.observers.evaluator import Evaluator
from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.observers.sums import partition_sha256
from fedfore.primitives.flat import flat_parameters
from fedfore.records.lines import CLIENTS, EIGENVALUES, LAYERS, LINES, ROUNDS
from fedfore.records.metrics import FIELDS, METRICS
from fedfore.records.store import LiveRun
from tests.conftest import TINY

Make = Callable[..., Federation]
SMALL = "lenet5:width=0.3"
UNEVEN = replace(TINY, clients=5, min_client_examples=5)
FEW = {"num_perturbations": 4}


# Clients


def test_a_line_a_client_says_what_it_holds_and_how_well_its_classes_are_known(federation: Make) -> None:
    made = federation(FedAvg, UNEVEN, alpha=0.5, model=SMALL, given={"lr": 0.1}).run()
    world, last = made.world, made.seen_by(Evaluator).points[-1].test
    lines = made.lines()[CLIENTS]
    assert [line["client"] for line in lines] == list(range(5))
    for line, part in zip(lines, world.parts, strict=True):
        labels = world.train_set.labels[torch.from_numpy(part)].tolist()
        assert line["class_counts"] == [labels.count(k) for k in range(10)]
        assert line["examples"] == len(part)
        assert line["test_accuracy"] == pytest.approx(np.mean([last.class_accuracy[k] for k in labels]))
    accuracies = sorted(line["test_accuracy"] for line in lines)
    fields = made.fields()
    assert fields["client_accuracy_mean"] == pytest.approx(np.mean(accuracies))
    assert fields["client_accuracy_min"] == accuracies[0]
    assert fields["client_accuracy_p10"] == pytest.approx(accuracies[0] + 0.4 * (accuracies[1] - accuracies[0]))
    assert accuracies[0] < accuracies[1]


def test_without_an_evaluation_a_client_has_no_accuracy(federation: Make) -> None:
    made = federation(FedAvg, Protocol(clients=4, batch_size=16, setup_only=True)).run()
    assert {line["test_accuracy"] for line in made.lines()[CLIENTS]} == {None}
    assert sum(sum(line["class_counts"]) for line in made.lines()[CLIENTS]) == 160


# The partition


def test_the_hash_of_a_partition_is_that_of_every_clients_number_of_examples_and_their_indices() -> None:
    numbers = [2, 7, 1, 1, 300]
    expected = hashlib.sha256(b"".join(number.to_bytes(8, "little") for number in numbers)).hexdigest()
    assert partition_sha256([np.array([7, 1]), np.array([300])]) == expected
    other = [[[7], [1, 300]], [[300], [7, 1]], [[1, 7], [300]], [[7, 1], [300], []]]
    assert len({expected, *(partition_sha256([np.array(part, dtype=int) for part in one]) for one in other)}) == 5


def test_cells_of_one_seed_alpha_and_clients_have_one_partition_whatever_they_learn(federation: Make) -> None:
    def hash_of(method: type[FedAvg | Baffle] = FedAvg, train: Protocol = TINY, **fields: Any) -> str:
        return str(federation(method, train, **{"alpha": 1.0, **fields}).fields()["partition_sha256"])

    plain = hash_of()
    assert plain == hash_of(FedAvgERK, sparsity=0.8, model="lenet5:norm=batch")
    assert plain == hash_of(Baffle, replace(TINY, batch_size=7, participation=0.5), estimator="moment")
    others = [hash_of(seed=1), hash_of(alpha=2.0), hash_of(alpha="iid"), hash_of(train=replace(TINY, clients=3))]
    assert len({plain, *others}) == 5


# The headline's window


@pytest.mark.parametrize(
    ("train", "span"),
    [
        (replace(TINY, rounds=10, eval_every=1.0), 0.4),
        (replace(TINY, rounds=3, eval_every=1.0), 2 / 3),
        (replace(TINY, rounds=3, eval_every=3.0), 2 / 3),
        (replace(TINY, rounds=None, data_passes=4, eval_every=2.0), 0.75),
        (replace(TINY, rounds=1), 0.0),
    ],
    ids=["the last five of ten", "all three", "all three, whatever the interval", "data passes", "one round"],
)
def test_the_headlines_span_is_the_share_of_the_budget_between_its_first_and_last_evaluation(
    federation: Make, train: Protocol, span: float
) -> None:
    fields = federation(FedAvg, train, model=SMALL).run().fields()
    assert fields["test_accuracy_span"] == pytest.approx(span)


# Trials of tuning

TRIAL = replace(TINY, rounds=8, eval_every=1.0, validation_fraction=0.25, recalibrate=True)


@pytest.mark.parametrize("stage", ["tune1", "tune2"])
def test_a_trial_is_evaluated_on_validation_data_alone_and_inside_the_window_alone(
    federation: Make, stage: str
) -> None:
    asked = {"model": "lenet5:width=0.3,norm=batch", "given": {"lr": 0.05}}
    trial, result = (federation(FedAvg, TRIAL, stage=one, **asked).run() for one in (stage, "report"))
    assert torch.equal(flat_parameters(trial.model), flat_parameters(result.model))
    lines, all_lines = (one.log()[ROUNDS] for one in (trial, result))
    assert [line["round"] for line in lines] == [4, 5, 6, 7, 8] and len(all_lines) == 9
    known = {"round", "data_passes", "uplink_bytes", "downlink_bytes", "validation_accuracy"}
    for line, other in zip(lines, all_lines[4:], strict=True):
        assert line == {name: other[name] if name in known else None for name in other}
    fields, others = trial.fields(), result.fields()
    assert fields["validation_accuracy"] == pytest.approx(np.mean([line["validation_accuracy"] for line in lines]))
    assert fields["validation_accuracy"] == others["validation_accuracy"] and others["test_accuracy"] is not None
    assert fields["partition_sha256"] == others["partition_sha256"]
    learnt = [name for name in fields if fields[name] is not None and "accuracy" in name]
    assert learnt == ["test_accuracy_span", "validation_accuracy"]
    assert {"peak_device_bytes", "train_flops_total", "grad_cosine", "ntk_mmd2"} & fields.keys() == set()
    assert [key for key in trial.lines() if trial.lines()[key]] == []


def test_a_trial_whose_validation_loss_is_not_finite_diverged(federation: Make) -> None:
    with pytest.raises(Diverged, match="after train round"):
        federation(FedAvg, TRIAL, model=SMALL, given={"lr": 1e12}, stage="tune1").run()


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        (TINY, "train.validation_fraction = 0 holds out no example of digits, and a trial of tuning is judged by"),
        (replace(TINY, validation_fraction=1e-6), "train.validation_fraction = 1e-06 holds out no example of digits"),
        (replace(TINY, rounds=None, setup_only=True, validation_fraction=0.1), "A trial of tuning has to train"),
    ],
)
def test_a_trial_without_validation_data_or_training_is_refused(train: Protocol, sentence: str) -> None:
    cell = Cell("fedavg", "digits", "lenet5", train)
    Feasibility().require(cell)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        Feasibility().require(replace(cell, stage="tune1"))


def test_a_trials_interval_means_nothing_and_may_be_above_a_shortened_budget() -> None:
    cell = Cell("fedavg", "digits", "lenet5", replace(TINY, eval_every=5.0, validation_fraction=0.1), stage="tune1")
    Feasibility().require(cell)
    with pytest.raises(ConfigError, match="eval_every = 5 is above the budget"):
        Feasibility().require(replace(cell, stage="report"))


# Kernels


def test_every_kernel_that_is_measured_leaves_its_normalised_eigenvalues(federation: Make) -> None:
    train = Protocol(clients=3, batch_size=16, setup_only=True)
    lines = federation(FedAvg, train, model=SMALL, ntk=True).run().lines()[EIGENVALUES]
    owners = [(line["inputs"], line["client"]) for line in lines]
    assert {*owners} == {(inputs, owner) for inputs in ("real", "gaussian") for owner in (None, 0, 1, 2)}
    assert len(owners) == 8
    for line in lines:
        values = np.array(line["eigenvalues"])
        assert len(values) == (60 if line["client"] is None else 20)
        assert values.sum() == pytest.approx(1.0)
        assert (np.diff(values) <= 0).all() and values[0] > 1.5 * values[1]
    assert EIGENVALUES not in federation(FedAvg, train, model=SMALL, ntk=False).run().lines()


# Observers, and nobody


def test_a_federation_that_nobody_observes_learns_the_same(federation: Make) -> None:
    watched = federation(FedAvgERK, sparsity=0.8).run()
    alone = Federation(watched.world, FedAvgERK).run()
    assert torch.equal(flat_parameters(alone.model), flat_parameters(watched.model))
    assert alone.fields() == {} and alone.lines() == {} and alone.log() == {}
    ours, theirs = alone.totals["train"], watched.totals["train"]
    assert theirs.flops > 0 and replace(ours, flops=theirs.flops) == theirs


def test_an_observer_of_ones_own_is_told_of_everything_and_its_fields_are_the_records(federation: Make) -> None:
    class Counts(Observer):
        """Counts what it is told."""

        def __init__(self) -> None:
            self.told: list[str] = []

        def after_setup(self, view: View) -> None:
            self.told.append(f"setup {view.ledger.totals['setup'].rounds}")

        def before_work(self, view: View, ctx: ClientContext, cohort: Any) -> None:
            self.told.append(f"{ctx.phase} {ctx.round}: {len(cohort)}")

        def after_work(self, view: View, work: Any) -> None:
            self.told.append(f"{len(work.updates)} of {work.drawn}")

        def after_round(self, view: View) -> None:
            self.told.append(f"round {view.ledger.totals['train'].rounds}")

        def fields(self, view: View) -> dict[str, Any]:
            return {"told": len(self.told)}

    counts = Counts()
    made = federation(FedAvg, model=SMALL, options={"also": [counts]}).run()
    work = ["4 of 160", "round"]
    assert counts.told == ["setup 0", "train 0: 4", work[0], "round 1", "train 1: 4", work[0], "round 2"]
    assert made.fields()["told"] == 7


# Estimates


class OtherWords(Baffle):
    """Sends its seed under another name, and says how its estimate is read."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"start": super().broadcast(model, ctx).tensors["seed"]})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        return super().client_update(model, client, self._translated(ctx))

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        return super().client_updates(model, clients, self._translated(ctx))

    def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
        return super().estimate(model, update, client, self._translated(ctx))

    def _translated(self, ctx: ClientContext) -> ClientContext:
        return replace(ctx, received={"seed": ctx.received["start"]})


def quality(made: Federation) -> list[Any]:
    return made.run().seen_by(GradientDiagnoser).diagnoses


def test_an_estimate_is_read_by_the_method_and_not_from_the_names_of_its_tensors(federation: Make) -> None:
    one, other = (quality(federation(m, given=FEW, estimator="directional")) for m in (Baffle, OtherWords))
    assert one == other and one[0].grad_rel_error > 1 and one[0].fd_scalar_error is not None


def test_a_method_that_does_not_say_how_its_estimate_is_read_has_none(federation: Make) -> None:
    class Silent(Baffle):
        """Says nothing of its estimates."""

        estimate = None

    class Opaque(Baffle):
        """Knows its gradient, and no scalars that made it."""

        def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
            found = super().estimate(model, update, client, ctx)
            return None if found is None else Estimate(found.gradient)

    (silent, *_), (opaque, *_) = (quality(federation(m, given=FEW, estimator="moment")) for m in (Silent, Opaque))
    assert (silent.grad_rel_error, silent.fd_scalar_error, silent.variance_ratio) == (None, None, None)
    assert opaque.grad_rel_error > 1 and opaque.variance_ratio > 0 and opaque.fd_scalar_error is None


@pytest.mark.parametrize("wrong", [torch.zeros(3), Estimate(torch.zeros(3))], ids=["a tensor", "a short one"])
def test_what_is_no_estimate_of_the_models_gradient_breaks_the_contract(
    federation: Make, wrong: Tensor | Estimate
) -> None:
    class Wrong(Baffle):
        """Returns what no estimate is."""

        def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Any:
            return wrong

    with pytest.raises(ContractError, match="estimate") as caught:
        federation(Wrong, given=FEW, estimator="directional").run()
    assert caught.value.rule == "hook_type"


# In a run


def test_a_run_stores_the_lines_of_clients_and_kernels_and_every_field_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5:width=0.25"]}
    methods = discover(())
    planned = resolve({"grid": grid, "train": {"clients": 2, "rounds": 1}}, methods)
    (record,) = run_plan(planned, methods, RunOptions(tmp_path, "", executor=Inline())).records
    assert record.status == "ok"
    assert {CLIENTS, EIGENVALUES, LAYERS} < set(record.files)
    run = LiveRun(tmp_path)
    clients = run.lines(record.cell_id, CLIENTS)
    assert sum(line["examples"] for line in clients) == 1437
    assert len(run.lines(record.cell_id, EIGENVALUES)) == 6
    stored = json.loads((tmp_path / "cells" / record.cell_id / "record.json").read_text(encoding="utf-8"))
    assert set(stored) <= {*METRICS, *FIELDS} and len(stored["partition_sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "line", "fits"),
    [
        (CLIENTS, {"client": 0, "examples": 3, "class_counts": [1, 2], "test_accuracy": None}, True),
        (CLIENTS, {"client": 0, "examples": 3, "class_counts": 3, "test_accuracy": None}, False),
        (CLIENTS, {"client": 0, "examples": 3, "class_counts": ["1"], "test_accuracy": None}, False),
        (CLIENTS, {"client": 0, "examples": 3, "test_accuracy": None}, False),
        (EIGENVALUES, {"client": None, "inputs": "real", "eigenvalues": [0.5, 0.5]}, True),
        (EIGENVALUES, {"client": None, "inputs": 1, "eigenvalues": [0.5, 0.5]}, False),
    ],
)
def test_lines_hold_what_their_file_says(name: str, line: dict[str, Any], fits: bool) -> None:
    assert (LINES[name].problem(line) is None) is fits

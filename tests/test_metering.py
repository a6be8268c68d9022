"""Costs without training: the same numbers as a run's, no data file, and what stands in for a mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import nn

from fedfore.api import Client, ClientContext, Context, Key, Message, Method, ServerContext, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.baffle_erk import BaffleERK
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedmef import FedMef
from fedfore.baselines.fedtiny import FedTiny
from fedfore.cell import Cell, Protocol
from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError, DataError, StoreError
from fedfore.execution.cost import layer_densities
from fedfore.execution.executors.inline import Inline
from fedfore.execution.matrix import PlannedCell, resolve
from fedfore.execution.metering import metered_fields
from fedfore.execution.runner import RunOptions, run_plan
from fedfore.execution.worker import METERED_ONLY
from fedfore.federation.assembly import federation_of
from fedfore.masks import Mask, prunable_shapes
from fedfore.methods.fed_ntk_zo import FedNTKZO
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.records.metrics import PEAK_PARTS
from fedfore.records.store import (
    LAYERS,
    LiveRun,
    is_volatile,
    lines_writer,
    load_table,
    write_plan,
    write_record,
)
from fedfore.tasks.datasets import DATASETS
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import stand_in
from fedfore.tasks.models import build
from tests.conftest import make_cell
from tests.synthetic import bare_record

CPU = torch.device("cpu")
TRAIN = Protocol(clients=3, batch_size=8, rounds=1)
FEW = {"num_perturbations": 3}
NTK: dict[str, Any] = {**FEW, "iterations": 2, "draws": 3, "inputs_per_draw": 4}


def fields(method: type[Method], *, densities: dict[str, float] | None = None, **settings: Any) -> dict[str, Any]:
    return metered_fields(make_cell(method, TRAIN, **settings), method, CPU, densities)


@pytest.fixture(scope="module")
def few() -> Dataset:
    """Three clients of two batches each."""
    data = stand_in("digits", 3 * 2 * TRAIN.batch_size)
    return replace(data, test=data.train)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (FedAvg, {}),
        (FedAvg, {"given": {"memory": "checkpoint"}}),
        (Baffle, {"given": FEW, "estimator": "directional"}),
        (BaffleERK, {"given": FEW, "estimator": "directional", "sparsity": 0.8}),
        (FedMef, {"sparsity": 0.8, "given": {"adjust_every": 1.0}}),
    ],
    ids=["fedavg", "checkpoint", "baffle", "baffle_erk", "fedmef"],
)
@pytest.mark.thorough
def test_every_cost_is_that_of_a_run(few: Dataset, method: type[Method], settings: dict[str, Any]) -> None:
    settings = {"train": replace(TRAIN, min_client_examples=1), **settings}
    metered = metered_fields(make_cell(method, **settings), method, CPU)
    cell = make_cell(method, **settings)
    ran = federation_of(cell, method, few, CPU).run().fields()
    mask_bytes = -(-ran["num_prunable"] // 8) if "sparsity" in method.uses else 0
    ran["downlink_bytes_per_client_round"] -= mask_bytes  # a real run's first round sends the mask as well
    assert metered.keys() <= ran.keys()
    exact = [name for name in metered if not is_volatile(name)]
    assert {name: metered[name] for name in exact} == {name: ran[name] for name in exact}


@pytest.mark.parametrize(("iterations", "mask_bytes"), [(1, 0), (2, 61_470)])
@pytest.mark.thorough
def test_a_foresight_setup_is_metered_at_its_first_round(few: Dataset, iterations: int, mask_bytes: int) -> None:
    """Later rounds hold the mask besides, a byte a weight."""
    settings: dict[str, Any] = {"given": {**NTK, "iterations": iterations}, "sparsity": 0.8}
    cell = make_cell(FedNTKZO, replace(TRAIN, min_client_examples=1), estimator="directional", **settings)
    ran = federation_of(cell, FedNTKZO, few, CPU).run().fields()
    metered = fields(FedNTKZO, **settings)
    assert ran["num_prunable"] == 61_470
    assert ran["peak_device_bytes_setup"] - metered["peak_device_bytes_setup"] == mask_bytes
    assert (ran["device_setup_flops"] == metered["device_setup_flops"]) == (iterations == 1)
    assert ran["uplink_bytes_per_client_round"] == metered["uplink_bytes_per_client_round"]


@pytest.mark.parametrize("where", ["devices", "devices_forward", "server"])
def test_erk_densities_stand_in_for_a_mask_that_would_have_to_be_scored(where: str) -> None:
    found = fields(FedNTKZO, given={**NTK, "where": where, "forward_directions": 4}, sparsity=0.8)
    erk = fields(BaffleERK, given=FEW, sparsity=0.8)
    for name in ("forward_macs_masked", "device_step_flops", "layer_density_min", "peak_device_bytes_train"):
        assert found[name] == erk[name], name
    assert (found["peak_device_bytes_setup"] == 0) == (where == "server")
    assert (found["device_setup_flops"] is None) == (where == "server")


def test_a_mask_that_needs_no_score_is_the_methods_own() -> None:
    uniform = fields(FedNTKZO, given={**NTK, "saliency": "uniform"}, sparsity=0.8)
    assert uniform["forward_macs_masked"] == pytest.approx(0.2 * uniform["forward_macs_dense"], rel=1e-3)


def test_given_densities_take_the_place_of_erk() -> None:
    shapes = prunable_shapes(build("lenet5", (1, 32, 32), 10))
    uniform = dict.fromkeys(shapes, 0.2)
    found = fields(FedNTKZO, given=NTK, sparsity=0.8, densities=uniform)
    assert found["forward_macs_masked"] == pytest.approx(0.2 * found["forward_macs_dense"], rel=1e-3)


@pytest.mark.thorough
def test_few_draws_and_directions_extended_cost_what_many_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {**NTK, "draws": 5, "forward_directions": 6, "where": "devices_forward", "num_perturbations": 6}
    extended = fields(FedNTKZO, given=given, sparsity=0.8)
    monkeypatch.setattr("fedfore.measure.device.declared_keys", lambda kind: {})
    whole = fields(FedNTKZO, given=given, sparsity=0.8)
    exact = [name for name in whole if not is_volatile(name)]
    assert {name: extended[name] for name in exact} == {name: whole[name] for name in exact}


@pytest.mark.thorough
def test_adjustments_are_metered_as_rounds_of_their_own() -> None:
    """They peak higher than training alone, since they read dense gradients after it."""
    adjusting, training = (fields(FedMef, sparsity=0.8, given={"adjust_every": n}) for n in (10, 1.0))
    assert adjusting["peak_device_bytes"] > training["peak_device_bytes"]
    assert adjusting["downlink_bytes_per_client_round"] == training["downlink_bytes_per_client_round"]


class ControlVariates(Method):
    """What SCAFFOLD sends: the server's variate down, a change of the client's up; both begin as zeros."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"server": ctx.state.setdefault("server", torch.zeros_like(flat_parameters(model)))})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        before = flat_parameters(model).clone()
        update = super().client_update(model, client, ctx)
        own = client.state.get("own", torch.zeros_like(before))
        client.state["own"] = own - ctx.received["server"] + (before - flat_parameters(model))
        return replace(update, tensors={"change": client.state["own"] - own})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        ctx.state["server"] = ctx.state["server"] + sum(u.tensors["change"] for u in updates) / len(updates)
        return super().aggregate(model, updates, ctx)


def test_messages_and_states_that_begin_empty_are_metered_when_they_are_not(few: Dataset) -> None:
    def ran(rounds: int) -> dict[str, Any]:
        train = replace(TRAIN, rounds=rounds, min_client_examples=1)
        cell = make_cell(ControlVariates, train, given=given)
        return federation_of(cell, ControlVariates, few, CPU).run().fields()

    given = {"lr": 1e-3}  # no client's network dies, whose change would be zeros again
    metered, three, four = fields(ControlVariates, given=given), ran(3), ran(4)
    for direction in ("uplink_bytes", "downlink_bytes"):
        steady = (four[direction] - three[direction]) / TRAIN.clients
        assert metered[f"{direction}_per_client_round"] == pytest.approx(steady, rel=0.1)
        assert steady > 1.5 * 4 * 61_706
    for name in ("peak_device_bytes", "peak_device_bytes_optimizer", "device_step_flops"):
        assert metered[name] == four[name], name


@dataclass(frozen=True)
class Period(LocalSGDConfig):
    sync_every: Annotated[int, Key(period=True)] = 10


class Syncing(Method):
    """Sends a copy of the model beside it in every so many rounds."""

    Config = Period

    def round_kind(self, ctx: Context) -> str:
        return "sync" if ctx.round % self.config.sync_every == 0 < ctx.round else "train"

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        copies = [flat_parameters(model).clone() for _ in range(5)] if self.round_kind(ctx) == "sync" else []
        update = super().client_update(model, client, ctx)
        return replace(update, tensors={"sum": sum(copies, torch.zeros(1))[:1]})


@pytest.mark.parametrize("every", [10, 100, 1031])
@pytest.mark.thorough
def test_every_kind_of_round_is_metered_whatever_its_period(every: int) -> None:
    kinds = [fields(method, given=given, sparsity=0.8) for method, given in (
        (Syncing, {"sync_every": every}), (FedMef, {"adjust_every": every}), (FedMef, {"adjust_every": 1.0})
    )]  # fmt: skip
    syncing, adjusting, training = (kind["peak_device_bytes"] for kind in kinds)
    assert syncing > fields(FedAvg)["peak_device_bytes"] + 4 * 4 * 61_706
    assert adjusting > training


@pytest.mark.thorough
def test_a_setup_whose_rounds_build_on_each_other_is_metered_to_its_last_kind() -> None:
    with_norms = fields(FedTiny, model="resnet14:width=0.25", sparsity=0.5)
    assert with_norms["peak_device_bytes_setup"] > 0 and with_norms["sparsity_measured"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.thorough
def test_a_draw_of_real_inputs_is_metered_whole_at_any_batch_size() -> None:
    given = {**NTK, "inputs": "real", "inputs_per_draw": 64}
    peaks = [
        metered_fields(
            make_cell(FedNTKZO, replace(TRAIN, batch_size=size), given=given, estimator="moment", sparsity=0.8),
            FedNTKZO,
            CPU,
        )["peak_device_bytes_setup"]
        for size in (64, 8)
    ]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.05)


def test_no_accuracy_and_no_total_is_made_up() -> None:
    unknown = {"test_accuracy", "train_flops_total", "setup_flops_total", "uplink_bytes", "label_skew_tv"}
    assert not unknown & fields(FedAvg).keys()


def test_bytes_do_not_depend_on_the_federation_that_is_imagined() -> None:
    few, many = (
        metered_fields(make_cell(FedAvg, replace(TRAIN, clients=clients, participation=share), alpha=0.01), FedAvg, CPU)
        for clients, share in ((3, 1.0), (40, 0.1))
    )
    assert {k: v for k, v in few.items() if not is_volatile(k)} == {k: v for k, v in many.items() if not is_volatile(k)}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_stand_in_has_the_shape_of_its_data_set_and_any_number_of_examples(name: str) -> None:
    made = stand_in(name, 25)
    x, y = made.train.batch(torch.arange(25))
    assert x.shape == (25, *made.spec.input_shape)
    assert set(y.tolist()) <= set(range(made.spec.num_classes)) and len(set(y.tolist())) > 9
    assert len(made.test) == 0


# In a matrix


def planned(**train: Any) -> list[PlannedCell]:
    grid = {"method": ["fedavg"], "dataset": ["cifar10"], "model": ["lenet5"]}
    return resolve({"grid": grid, "train": {"meter_only": True, "batch_size": 4, **train}}, discover(()))


@pytest.mark.parametrize("budget", [{"rounds": 2}, {"data_passes": 1.0}])
def test_a_metering_only_cell_has_no_budget(budget: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"\[train\] meter_only = true trains nothing"):
        planned(**budget)


def test_metering_only_and_setup_only_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        planned(setup_only=True)


def test_a_metering_only_cell_is_stored_without_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = RunOptions(tmp_path / "run", "test", executor=Inline(), data_dir=tmp_path / "nowhere")
    (record,) = run_plan(planned(), discover(()), options).records
    assert (record.status, record.reason) == ("ok", METERED_ONLY)
    assert record.test_accuracy is None and record.data_passes is None
    assert record.device_step_flops == 2 * 4 * 1_602_360
    assert load_table(LiveRun(tmp_path / "run"))["peak_device_bytes"].notna().all()


def test_data_files_are_still_asked_for_where_a_cell_trains(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        run_plan(
            planned(meter_only=False, rounds=1),
            discover(()),
            RunOptions(tmp_path, "", 1, data_dir=tmp_path / "nowhere"),
        )


# Stored densities


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., Path]:
    """Write a run of finished cells, each with the density of its one layer, in tenths."""

    def write(*cells: tuple[Cell, int]) -> Path:
        write_plan(tmp_path, [cell for cell, _ in cells], "test", extend=False)
        for cell, kept in cells:
            write_record(tmp_path, bare_record(cell, status="failed" if kept == FAILED else "ok"))
            with lines_writer(tmp_path, cell.id, LAYERS) as line:
                line({"layer": "fc.weight", "size": 10, "kept": kept, "forward_macs_dense": 1})
        return tmp_path

    return write


FAILED = 9
LIKENESS = ("method", "dataset", "model", "sparsity", "seed")


def masked(id: str, seed: int = 0, alpha: float | str = "iid", **params: Any) -> Cell:
    return Cell("fed_ntk_zo", "digits", "lenet5", Protocol(rounds=1), 0.8, alpha, seed, params=params, id=id)


def test_densities_come_from_the_cell_that_has_what_is_given(stored: Callable[..., Path]) -> None:
    run = stored((masked("a", draws=1), 1), (masked("b", draws=2), 2), (masked("c", 1, 0.1, draws=2), 3))
    assert layer_densities(LiveRun(run), masked("", draws=2), [*LIKENESS, "params.draws"]) == {"fc.weight": 0.2}
    assert layer_densities(LiveRun(run), masked("", 1), LIKENESS) == {"fc.weight": 0.3}
    assert layer_densities(LiveRun(run), masked("", 1, 0.1), [*LIKENESS, "alpha"]) == {"fc.weight": 0.3}


def test_cells_of_equal_densities_are_one_and_failed_ones_are_none(stored: Callable[..., Path]) -> None:
    run = stored((masked("a"), 2), (masked("b", alpha=0.1), 2), (masked("c", alpha=1.0), FAILED))
    assert layer_densities(LiveRun(run), masked(""), LIKENESS) == {"fc.weight": 0.2}


def test_several_cells_are_told_apart_by_every_field_in_which_they_differ(stored: Callable[..., Path]) -> None:
    run = stored((masked("a", draws=1), 1), (masked("b", alpha=0.1, draws=2), 2))
    with pytest.raises(StoreError) as caught:
        layer_densities(LiveRun(run), masked(""), LIKENESS)
    assert str(caught.value).endswith(
        "2 cells like this one whose layer densities differ; they differ in alpha (iid, 0.1), params.draws (1, 2): "
        "choose with --alpha or --set params.fed_ntk_zo.draws=."
    )


@pytest.mark.parametrize(
    ("like", "words"),
    [
        (masked("", seed=7), "seed 7 like this one; it has 0, 1"),
        (replace(masked(""), sparsity=0.9), "sparsity 0.9 like this one; it has 0.8"),
        (replace(masked(""), model="lenet5:width=2"), "model lenet5:width=2 like this one; it has lenet5"),
        (replace(masked(""), method="baffle"), "method baffle like this one; it has fed_ntk_zo"),
    ],
)
def test_a_cell_that_is_not_there_is_told_what_is(like: Cell, words: str, stored: Callable[..., Path]) -> None:
    run = stored((masked("a"), 1), (masked("b", seed=1), 2))
    with pytest.raises(StoreError) as caught:
        layer_densities(LiveRun(run), like, LIKENESS)
    assert words in str(caught.value)


# The command


def test_the_command_prints_a_records_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "lenet5", "--dataset", "digits", "--method", "baffle", "--batch", "4", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["peak_device_bytes"] == sum(record[part] for part in PEAK_PARTS)
    assert (record["method"], record["model"], record["train"]["batch_size"]) == ("baffle", "lenet5", 4)
    assert record["uplink_bytes_per_client_round"] == 4 * 500 + 8 + 4 + 1
    assert not any(is_volatile(name) for name in record)


def test_the_table_holds_the_same_numbers_with_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "lenet5", "--batch", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fedavg, cifar10, lenet5, sparsity 0, batch 1"
    (flops,) = (line for line in lines if "Device-step FLOPs" in line)
    assert flops.split()[-4:] == ["3.2", "M", "3,204,720", "FLOPs"]
    assert not any("Setup-round" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lenet6"], 'Did you mean "lenet5"?'),
        (["lenet5", "--method", "bafle"], 'Did you mean "baffle"?'),
        (["lenet5", "--sparsity", "1"], "a sparsity is the fraction of zeros"),
        (["lenet5", "--set", "seed=[0,1]"], "these settings make 2"),
        (["resnet20", "--method", "baffle"], "baffle does not apply: batch statistics"),
        (["lenet5", "--run", "nowhere"], "is no run directory"),
        (["lenet5", "--batch", str(2**31)], "train.batch_size = 2147483648"),
        (["lenet5", "--batch", str(2**31 - 1)], "too little memory for a step of fedavg on lenet5 at batch 2147483647"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err

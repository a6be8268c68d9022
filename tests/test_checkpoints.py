"""A cell that was interrupted ends as if it never was, bit for bit: in one process, and killed at random instants."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.contract.registry import discover
from fedfore.errors import StoreError
from fedfore.execution import keeper
from fedfore.execution.checkpoint import Stamp, read_checkpoint, unusable, write_checkpoint
from fedfore.execution.executors.inline import Inline
from fedfore.execution.job import Job
from fedfore.execution.matrix import PlannedCell
from fedfore.execution.runner import Progress, RunOptions, run_plan
from fedfore.execution.worker import prepared, run_job
from fedfore.federation.loop import Federation
from fedfore.records.code_hash import HASH_SCHEME, code_sha256
from fedfore.records.heartbeat import read_heartbeat
from fedfore.records.record import Origin, Record, is_volatile, record_to_json
from fedfore.records.run_folder import checkpoint_file
from fedfore.records.store import cell_dir
from tests.test_executors import descendants, is_alive, workers_of
from tests.test_runner import fedfore, records, science, start, wait_until

STAMP = Stamp("cell-1", "abc", 2)
CPU = torch.device("cpu")
METHODS = discover()
ESTIMATORS = ("finite_difference", "directional", "moment", "exact")
QUICK: dict[str, Any] = {"num_perturbations": 3, "local_steps": 2, "iterations": 2, "draws": 1, "inputs_per_draw": 4,
                         "adjust_every": 1, "adjust_until": 3}  # fmt: skip
BY_NAME = [(name, None) for name, entry in METHODS.items() if entry.method and "estimator" not in entry.method.uses]
BY_ESTIMATOR = [("fed_ntk_zo", name) for name in ESTIMATORS]
IN_FAST_TESTS = {("fedmef", None), ("fed_ntk_zo", "moment")}


# The file


def test_a_state_comes_back_from_its_file_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 2).t(), "half": torch.randn(4).bfloat16(), "bits": torch.tensor([True, False]),
        "number": torch.tensor(7), "none": torch.empty(0, 3), "bytes": torch.arange(5, dtype=torch.uint8),
    }  # fmt: skip
    state = {"tensors": tensors, "list": [1, 0.1, "x", None, [tensors["float"]], {}], "nan": float("inf"), "big": 2**70}
    write_checkpoint(tmp_path / "c", state, STAMP)
    found = read_checkpoint(tmp_path / "c", CPU)
    for name, tensor in tensors.items():
        assert torch.equal(found["tensors"][name], tensor) and found["tensors"][name].dtype == tensor.dtype
    assert torch.equal(found["list"].pop(4)[0], tensors["float"])
    assert found["list"] == [1, 0.1, "x", None, {}] and found["nan"] == float("inf") and found["big"] == 2**70
    assert unusable(tmp_path / "c", STAMP) is None


def test_a_damaged_checkpoint_and_one_of_other_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    write_checkpoint(path, {"tensor": torch.arange(100.0), "bytes": 12345}, STAMP)
    assert "was made with other code" in str(unusable(path, replace(STAMP, code_sha256="abd")))
    os.mkfifo(tmp_path / "fifo")
    assert "is damaged" in str(unusable(tmp_path / "fifo", STAMP))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-9] ^= 1
    for content in (b"", b"{}", whole[:-1], bytes(flipped), whole + b"x", whole.replace(b"12345", b"12346")):
        path.write_bytes(content)
        assert "is damaged" in str(unusable(path, STAMP)), content[:20]
        with pytest.raises(StoreError, match="damaged"):
            read_checkpoint(path, CPU)


def test_a_checkpoint_that_cannot_be_used_is_named_and_set_aside_and_the_cell_starts_anew(tmp_path: Path) -> None:
    cell = planned("fedavg", None)
    file = checkpoint_file(tmp_path, cell.id)
    write_checkpoint(file, {}, Stamp(cell.id, "other", HASH_SCHEME))
    said: list[str] = []
    outcome = run_plan([PlannedCell(cell)], METHODS, RunOptions(tmp_path, "x", Inline()), Progress(said=said.append))
    assert outcome.is_complete
    assert said == [f"The checkpoint of {cell.id} was made with other code than is here; the cell starts anew."]
    assert [path.name for path in file.parent.iterdir()] == [f"{file.name}.unusable"]


# In one process


def planned(method: str, estimator: str | None) -> Cell:
    kind = METHODS[method].method
    assert kind is not None
    names = asdict(kind.Config())
    params = names | {key: value for key, value in QUICK.items() if key in names}
    cell = Cell(
        method=method, dataset="digits", model="lenet5:width=0.3", sparsity=0.8 if "sparsity" in kind.uses else 0.0,
        alpha=1.0, estimator=estimator, params=params,
        train=Protocol(clients=4, participation=0.5, batch_size=16, rounds=4, ntk=False),
    )  # fmt: skip
    return replace(cell, id=cell_id(cell, names))


def job_of(cell: Cell, folder: Path, **options: Any) -> Job:
    code = code_sha256(METHODS[cell.method].file)
    origin = Origin("baseline", (), code, HASH_SCHEME, None, "e", 1)
    return Job(cell, folder, origin, "cpu", None, (), checkpoint_file(folder, cell.id), **options)


def ended(job: Job, should_stop: Callable[[], bool] = lambda: False) -> Record | None:
    assert prepared(job) is None
    return run_job(job, should_stop)


def numbers(job: Job, record: Record | None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what two runs of a cell have in common: its record's fields, and its files."""
    assert record is not None and record.status == "ok", record
    fields = {name: value for name, value in record_to_json(record).items() if not is_volatile(name)}
    folder = cell_dir(job.aside, job.cell.id)
    return fields, {name: (folder / name).read_bytes() for name in record.files}


@pytest.mark.parametrize(
    ("method", "estimator"),
    [
        pytest.param(*one, marks=() if one in IN_FAST_TESTS else pytest.mark.slow)
        for one in (*BY_NAME, *BY_ESTIMATOR, ("baffle", "moment"), ("baffle_erk", "directional"))
    ],
)
def test_a_cell_stopped_after_each_of_its_steps_ends_as_if_it_never_was(
    tmp_path: Path, method: str, estimator: str | None
) -> None:
    cell = planned(method, estimator)
    whole, stopped = job_of(cell, tmp_path / "whole"), job_of(cell, tmp_path / "stopped")
    expected = numbers(whole, ended(whole))
    stops = 0
    while (record := ended(stopped, lambda: True)) is None:
        assert stopped.checkpoint.exists()
        stops += 1
    assert stops >= 2 + cell.train.budget
    assert numbers(stopped, record) == expected


def test_a_cell_that_runs_out_of_time_goes_on_and_counts_as_missing(tmp_path: Path) -> None:
    plan, options = [PlannedCell(planned("fedavg", None))], RunOptions(tmp_path, "x", Inline(), timeout_seconds=1e-3)
    outcome = run_plan(plan, METHODS, options)
    ((record,), (missing,)) = outcome.failures, outcome.missing
    assert (record.status, missing) == ("timeout", plan[0].cell.id) and not outcome.is_complete
    assert record.reason == "longer than --timeout 0.001 seconds; the same command goes on from its checkpoint"
    while not outcome.is_complete:
        outcome = run_plan(plan, METHODS, options)
    assert outcome.records[0].status == "ok"
    assert not (tmp_path / "checkpoints").exists() and not list(tmp_path.glob("failed/cells/*"))


def test_checkpoints_come_at_their_time_and_cost_a_hundredth_at_most(
    federation: Callable[..., Federation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: a step takes 1 second, and a checkpoint 2."""
    clock, written = [0.0], list[float]()

    def write(*_: object) -> None:
        written.append(clock[0])
        clock[0] += 2.0

    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(keeper, "write_checkpoint", write)
    cell = planned("fedavg", None)
    made = federation(METHODS["fedavg"].method)
    looked_after = keeper.Keeper(job_of(cell, tmp_path, checkpoint_seconds=60.0), tmp_path, lambda: False)
    for _ in range(600):
        clock[0] += 1.0
        looked_after.after_step(made)
    assert written == [60.0, 262.0, 464.0]


def test_the_time_left_of_a_cell_is_told_from_its_rounds_without_its_setup(
    federation: Callable[..., Federation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of our own: what comes before the first round takes 100 seconds, and a round 1 second."""
    clock = [0.0]
    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(keeper, "seconds_now", lambda: clock[0])
    made = federation(METHODS["fedavg"].method, Protocol(clients=4, batch_size=16, rounds=5))
    looked_after = keeper.Keeper(job_of(planned("fedavg", None), tmp_path), tmp_path, lambda: False)
    clock[0], told = 100.0, list[float | None]()
    while made.advance():
        clock[0] += 1.0
        looked_after.after_step(made)
        beat = read_heartbeat(tmp_path)
        told += [beat and beat.seconds_left] if made.totals["train"].rounds else []
    assert told == [None, *(pytest.approx(left) for left in (3, 2, 1, 0))]


def test_a_checkpoint_that_cannot_be_written_is_told_and_the_cell_goes_on(tmp_path: Path) -> None:
    job = job_of(planned("fedavg", None), tmp_path, checkpoint_seconds=1e-9)
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.warns(RuntimeWarning, match="No checkpoint was written: Cannot write"):
        assert numbers(job, ended(job))


def test_a_cell_keeps_its_model_where_that_is_asked_for(tmp_path: Path) -> None:
    job = job_of(planned("fedavg_erk", None), tmp_path, save_model=True)
    record = ended(job)
    assert record is not None and "model.safetensors" in record.files
    tensors = load_file(cell_dir(tmp_path, job.cell.id) / "model.safetensors")
    masks = {name.removeprefix("mask."): mask for name, mask in tensors.items() if name.startswith("mask.")}
    assert masks and all(mask.dtype == torch.bool for mask in masks.values())
    assert all(torch.all(tensors[name][~mask] == 0) for name, mask in masks.items())
    kept = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert kept == pytest.approx(1 - float(record.sparsity_measured or 0))


# Killed at random instants

MIXED = """
[[grid]]
method = {first_order}
dataset = ["digits"]
model = ["lenet5:width=0.3,norm=batch"]
sparsity = [0.8]
seed = {seeds}
[[grid]]
method = ["fed_ntk_zo"]
dataset = ["digits"]
model = ["lenet5:width=0.3"]
sparsity = [0.8]
seed = {seeds}
estimator = {estimators}
[train]
clients = 4
participation = 0.5
batch_size = 16
rounds = {rounds}
ntk = false
[params]
local_steps = 2
num_perturbations = 5
adjust_every = 10
adjust_until = 100
[params.fed_ntk_zo]
iterations = 4
draws = 1
inputs_per_draw = 8
"""
FEW = {"first_order": ["fedmef"], "estimators": ["moment"], "seeds": [0], "rounds": 60}
MANY = {"first_order": ["fedavg", "fedmef", "fedtiny", "feddst"], "estimators": ["directional", "moment"]}
SIGNALS = ("KILL group", "KILL run", "KILL cell", "TERM run", "TERM group", "INT group", "HUP run", "TERM cell")


def strike(process: Any, what: str) -> None:
    """Send a signal to a run, to all of its group, or to one of its cells."""
    name, _, whom = what.partition(" ")
    number = getattr(signal, f"SIG{name}")
    if whom == "cell":
        for worker in workers_of(process.pid)[:1]:
            os.kill(worker, number)
    elif whom == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)


@pytest.mark.parametrize(
    ("kills", "mixed", "longest_seconds"),
    [
        (3, FEW, 1.5),
        pytest.param(30, {**MANY, "seeds": [0], "rounds": 100}, 3.0, marks=pytest.mark.slow),
        pytest.param(200, {**MANY, "seeds": [0, 1, 2, 3], "rounds": 150}, 3.0, marks=pytest.mark.kills),
    ],
)
@pytest.mark.thorough
def test_a_matrix_killed_at_random_instants_ends_as_if_it_never_was(
    tmp_path: Path, kills: int, mixed: Mapping[str, object], longest_seconds: float
) -> None:
    path, run, chance = tmp_path / "mixed.toml", tmp_path / "killed", random.Random(kills)
    path.write_text(MIXED.format(**mixed))
    command = ("run", path, "--out", run, "--checkpoint-seconds", 0.01, "--rerun", "failed", "--workers", 2)
    struck, kept = 0, dict[str, Any]()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a run started where it is ignored would ignore it, too
    while struck < kills:
        process = start(*command)
        wait_until(lambda process=process: workers_of(process.pid) or process.poll() is not None, 120)
        time.sleep(chance.uniform(0.0, longest_seconds))
        if process.poll() is not None:
            shutil.rmtree(run)  # it has come to its end: begin anew
            kept.clear()
            continue
        started, what = descendants(process.pid), chance.choice(SIGNALS)
        strike(process, what)
        struck += 1
        if what.endswith("cell"):
            time.sleep(chance.uniform(0.0, 1.0))
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        wait_until(lambda started=started: not any(map(is_alive, started)), 30)
        per_cell = [file.name.partition(".safetensors")[0].lstrip(".") for file in run.glob("checkpoints/*")]
        assert all(per_cell.count(cell) <= 2 for cell in per_cell), per_cell
        finished = {cell: record for cell, record in records(run).items() if record["status"] == "ok"}
        assert all(finished.get(cell) == record for cell, record in kept.items()), "a finished record was lost"
        kept = finished
    done = fedfore(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = fedfore("run", path, "--out", tmp_path / "whole", "--workers", 0)
    assert whole.returncode == 0
    assert science(run) == science(tmp_path / "whole")
    for cell, record in records(run).items():
        for name in record["files"]:
            assert (run / "cells" / cell / name).read_bytes() == (
                tmp_path / "whole" / "cells" / cell / name
            ).read_bytes()
    assert not (run / "checkpoints").exists() and json.loads((run / "plan.json").read_text())["cells"]

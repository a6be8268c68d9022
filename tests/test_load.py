"""What large matrices cost: how often records are read, what is planned once, and a driver that stays flat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from fedfore.cell import Cell, Protocol
from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.execution.executors.processes import Processes
from fedfore.execution.job import Job
from fedfore.execution.matrix import PlannedCell, resolve
from fedfore.execution.runner import Progress, RunOptions, run_plan
from fedfore.execution.worker import conclude
from fedfore.judgement.sides import means_of
from fedfore.records.lines import LAYERS, ROUNDS
from fedfore.records.plan_file import read_commands
from fedfore.records.reader import Reader
from fedfore.records.record import Moment
from fedfore.records.run_folder import RECORD, cell_dir, read_record, write_record
from tests import synthetic

SECONDS_A_CELL = 1e-3
"""A bound on the processor time that planning one cell takes; three times of what it took when it was set."""


def count(patch: pytest.MonkeyPatch, where: str, key: Callable[..., object] = lambda *given: None) -> Counter[object]:
    """Count the calls of a function by `key` of their arguments."""
    folder, _, name = where.rpartition(".")
    module = __import__(folder, fromlist=[name])
    function, calls = getattr(module, name), Counter[object]()

    def counted(*given: Any, **named: Any) -> Any:
        calls[key(*given)] += 1
        return function(*given, **named)

    patch.setattr(module, name, counted)
    return calls


def layers(cell: Cell) -> list[dict[str, Any]]:
    return [{"layer": name, "size": 100, "kept": 50} for name in ("conv1.weight", "fc1.weight")]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    planned = synthetic.cells(("fedtiny", "fed_ntk_zo", "fedavg"), sparsities=(0.5, 0.9), alphas=("iid",), seeds=(0, 1))
    synthetic.write_run(tmp_path / "run", planned)
    for cell in planned:
        synthetic.write_lines(tmp_path / "run", cell, LAYERS, layers(cell))
    return tmp_path / "run"


@pytest.mark.parametrize("verb", ["report", "show"])
@pytest.mark.thorough
def test_a_verb_reads_each_record_once(run: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = count(monkeypatch, "fedfore.records.run_folder.record_from_json", lambda stored, cell: cell)
    assert main([verb, str(run)]) == 0
    assert set(read.values()) == {1} and len(read) == 10


@pytest.mark.thorough
def test_a_report_reads_lines_once_to_show_them_and_to_say_what_is_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = count(monkeypatch, "fedfore.records.run_folder.read_cell_lines", lambda folder, cell, name: (cell, name))
    assert main(["report", str(run)]) == 0
    assert {times for (_, name), times in read.items() if name in (ROUNDS, LAYERS)} == {1}


def matrix(folder: Path, **grid: list[Any]) -> Path:
    """Write a matrix of cells that train for two rounds."""
    own = {"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5"], "seed": [0, 1], **grid}
    path = folder / "some.toml"
    path.write_text(tomli_w.dumps({"grid": own, "train": {"rounds": 2, "clients": 4}}))
    return path


@pytest.fixture
def finished(tmp_path: Path) -> Callable[[], int]:
    """Return what resumes a run of which every cell has a record."""
    path = matrix(tmp_path, **{"params.fedavg.lr": [0.1, 0.2]})
    document = {"grid": [{"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5"], "seed": [0, 1],
                          "params.fedavg.lr": [0.1, 0.2]}], "train": {"rounds": 2, "clients": 4}}  # fmt: skip
    for item in resolve(document, discover(())):
        write_record(tmp_path / "run", synthetic.record(item.cell))
    return lambda: main(["run", str(path), "--out", str(tmp_path / "run")])


def test_a_resumed_run_plans_once_and_reads_each_record_once(
    finished: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = count(monkeypatch, "fedfore.execution.tuning.resolve")
    read = count(monkeypatch, "fedfore.records.run_folder.record_from_json", lambda stored, cell: cell)
    assert finished() == 0
    assert planned.total() == 1
    assert len(read) == 4 and set(read.values()) == {1}  # to see what is to run, and for its tables


@pytest.mark.thorough
def test_a_report_is_written_anew_only_where_something_changed(
    tmp_path: Path, finished: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = count(monkeypatch, "fedfore.plots.report.page._page")
    assert finished() == 0 and finished() == 0
    written = (tmp_path / "run" / "report.html").read_bytes()
    assert finished() == 0
    assert drawn.total() == 1
    cell = next((tmp_path / "run" / "cells").iterdir())
    (cell / RECORD).touch()
    assert finished() == 0
    assert drawn.total() == 2 and (tmp_path / "run" / "report.html").read_bytes() == written
    (tmp_path / "run" / "matrix.toml").write_text("")
    assert finished() == 0
    assert drawn.total() == 3


def test_a_reader_reads_a_record_again_where_it_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = count(monkeypatch, "fedfore.records.attempts.read_record")
    (cell,) = synthetic.cells(("fedavg",), alphas=("iid",), seeds=(0,))
    reader = Reader(tmp_path)
    assert reader.find(cell.id) is None
    first = synthetic.record(cell)
    for record in (first, replace(first, attempt=2), None):
        if record is None:
            (cell_dir(tmp_path, cell.id) / RECORD).unlink()
        else:
            write_record(tmp_path, record)
        assert reader.find(cell.id) == record == reader.find(cell.id)
    assert read.total() == 4


def test_a_cell_is_planned_in_a_millisecond() -> None:
    grid = {"method": ["fedtiny", "fedmef"], "dataset": ["digits"], "model": ["lenet5"], "seed": list(range(100)),
            "sparsity": [0.1, 0.3, 0.5, 0.7, 0.9], "alpha": ["iid", 1.0]}  # fmt: skip
    start = time.process_time()
    assert len(resolve({"grid": [grid], "train": {"rounds": 100}, "params": {}}, discover(()))) == 2000
    assert time.process_time() - start < 2000 * SECONDS_A_CELL


def test_what_names_series_is_found_once_and_not_once_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    for number, rates in enumerate(([10, 20], list(range(10, 50)))):
        planned = synthetic.cells(("baffle",), alphas=("iid",), seeds=(0,), num_perturbations=rates)
        synthetic.write_run(tmp_path / str(number), planned)
        with monkeypatch.context() as patch:
            calls = count(patch, "fedfore.plots.naming._varying")
            assert main(["show", str(tmp_path / str(number)), "--columns", "test_accuracy"]) == 0
        looked.append(calls.total())
    assert looked[0] == looked[1]


@pytest.mark.thorough
def test_comparisons_and_rankings_are_made_once_a_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = count(monkeypatch, "fedfore.plots.charts.forest.comparisons")
    ranked = count(monkeypatch, "fedfore.plots.report.page.rankings")
    anew = count(monkeypatch, "fedfore.plots.findings.rankings")
    monkeypatch.setattr("fedfore.plots.charts.forest.MOST_ROWS", 1)
    assert main(["report", str(run)]) == 0
    assert (compared.total(), ranked.total(), anew.total()) == (1, 1, 0)
    assert (run / "report.html").read_text().count('id="forest-') > 1


@pytest.mark.parametrize(
    ("where", "times"),
    [("fedfore.judgement.sides.counted", 1), ("fedfore.judgement.sides.estimate_of", 8)],
)
def test_a_metric_is_looked_up_once_and_not_once_a_point(
    where: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = pd.DataFrame({"test_accuracy": 0.5, "status": "ok", "chance_accuracy": 0.1}, index=range(40))
    calls = count(monkeypatch, where)
    means = list(means_of(cells, "test_accuracy", np.split(np.arange(40), 8)))
    assert [one.mean for one in means] == [0.5] * 8 and calls.total() == times


@pytest.mark.thorough
def test_a_plan_is_parsed_once_and_stays_as_it_is_where_a_run_asks_for_the_same(
    tmp_path: Path, finished: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finished() == 0
    plan = tmp_path / "run" / "plan.json"
    before = plan.stat()
    parsed = count(monkeypatch, "fedfore.records.plan_file.cell_from_json")
    stored = count(monkeypatch, "fedfore.records.plan_file.read_object")
    assert finished() == 0
    assert (plan.stat().st_ino, plan.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert stored.total() <= 1 and parsed.total() <= 4
    plan.write_text(plan.read_text().replace("some.toml", "another.toml"))
    assert finished() == 0
    assert plan.stat().st_ino != before.st_ino and len(read_commands(tmp_path / "run")) == 2


@pytest.mark.thorough
def test_a_report_draws_the_first_figures_of_a_kind_and_says_how_to_get_the_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedfore.plots.charts.forest.MOST_ROWS", 1)
    monkeypatch.setattr("fedfore.plots.report.pictures.MOST_OF_A_KIND", 1)
    drawn = count(monkeypatch, "fedfore.plots.report.pictures._picture", lambda planned: planned.name.split("-")[0])
    assert main(["report", str(run)]) == 0
    assert set(drawn.values()) == {1}
    assert "fedfore plot RUN --only forest" in (run / "report.html").read_text()


def at_once(job: Job, *_: object) -> None:
    """End a cell without running it, in its process."""
    conclude(job, "ok", None, {"test_accuracy": 0.5}, Moment.now())


def held() -> tuple[int, int, int]:
    """Return what this process holds: KiB of memory, open files, threads."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]), len(list(Path("/proc/self/fd").iterdir())), int(status["Threads"])


@pytest.mark.slow
def test_the_driver_holds_as_much_after_a_hundred_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedfore.execution.executors.cell_process._live", at_once)
    cells = [
        Cell("fedavg", "digits", "lenet5", Protocol(rounds=1), seed=seed, id=f"fedavg-{seed:012}")
        for seed in range(120)
    ]
    samples: list[tuple[int, int, int]] = []
    progress = Progress(done=lambda record: samples.append(held()))
    options = RunOptions(tmp_path / "run", "fedfore run some.toml", Processes(2))
    outcome = run_plan([PlannedCell(cell) for cell in cells], discover(()), options, progress)
    assert len(outcome.records) == 120 and read_record(tmp_path / "run", cells[-1].id) is not None
    early, late = samples[19], samples[-1]
    assert late[0] - early[0] < 2048, "KiB"
    assert late[1] <= early[1] and late[2] <= early[2]

"""Runs through the real command: resume, kill, workers, dead workers, plug-ins outside the repository."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedfore.cli.main import main
from fedfore.records.store import ROUNDS, LiveRun, is_volatile, load_table

PLUGINS = Path(__file__).parent / "plugins"
MATRIX = """
[grid]
method = ["fedavg", "fedavg_erk", "baffle"]
dataset = ["digits"]
model = ["lenet5"]
sparsity = [0.5, 0.9]
alpha = ["iid"]
seed = [0]
[train]
clients = 4
rounds = 2
ntk = false
[params.baffle]
num_perturbations = 4
"""
CELLS = 4

CRASHING = '''
"""A method that ends its worker, and one that waits."""
import os, time
from dataclasses import dataclass
from fedfore.api import Method
from fedfore.primitives.local_sgd import LocalSGDConfig

@dataclass(frozen=True)
class Config(LocalSGDConfig):
    fate: str = "none"

class Crashing(Method):
    """Ends as its fate says."""
    Config = Config

    def aggregate(self, model, updates, ctx):
        if self.config.fate == "killed":
            os.kill(os.getpid(), 9)
        if self.config.fate == "slow":
            time.sleep(600)
        if self.config.fate == "raises":
            raise RuntimeError("the method has a bug")
        if self.config.fate == "memory":
            raise MemoryError("too big")
        return super().aggregate(model, updates, ctx)
'''


def crashing(tmp_path: Path, fates: Sequence[str], seeds: Sequence[int] = (0,)) -> tuple[Path, Path]:
    """Return a folder with the crashing method, and a matrix of its cells with these fates."""
    folder, path = tmp_path / "plugins", tmp_path / "fates.toml"
    folder.mkdir()
    (folder / "crashing.py").write_text(CRASHING)
    path.write_text(
        '[grid]\nmethod = ["crashing"]\ndataset = ["digits"]\nmodel = ["lenet5"]\n'
        f'seed = {list(seeds)}\n"params.crashing.fate" = {json.dumps(fates)}\n[train]\nclients = 4\nrounds = 1\n'
        "ntk = false\n"
    )
    return folder, path


def fedfore(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedfore.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fedfore.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def records(run: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(run.glob("cells/*/record.json"))}


def science(run: Path) -> dict[str, dict[str, Any]]:
    return {
        cell: {name: value for name, value in record.items() if not is_volatile(name)}
        for cell, record in records(run).items()
    }


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "tiny.toml"
    path.write_text(MATRIX)
    return path


@pytest.fixture(scope="module")
def finished(matrix: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    run = tmp_path_factory.mktemp("run") / "two-workers"
    return run, fedfore("run", matrix, "--workers", 2, "--out", run)


def test_a_matrix_runs_to_a_report_with_figures(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run, done = finished
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"Report: {run / 'report.html'}"
    report = (run / "report.html").read_text()
    assert report.count("<img") + report.count("<svg") >= 4
    assert "http" not in report.replace("http://www.w3.org", "")
    table = load_table(LiveRun(run))
    assert list(table["status"]) == ["ok"] * CELLS
    assert not table["stale"].any()
    for cell in table["cell_id"]:
        rounds = LiveRun(run).table_of_lines(cell, ROUNDS)
        assert list(rounds["round"]) == [0, 1, 2]
        assert rounds["uplink_bytes"].is_monotonic_increasing


def test_a_second_run_launches_nothing_and_changes_nothing(
    matrix: Path,
    finished: tuple[Path, subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    run, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")}
    assert main(["run", str(matrix), "--out", str(run)]) == 0
    assert f"{CELLS} already there, 0 to run" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")}


@pytest.mark.slow
def test_killed_and_resumed_on_one_worker_equals_uninterrupted_on_two_bit_for_bit(matrix: Path, tmp_path: Path) -> None:
    run, uninterrupted = tmp_path / "killed", tmp_path / "uninterrupted"
    with_kernels = (matrix, "--set", "train.ntk=true")
    assert fedfore("run", *with_kernels, "--workers", 2, "--out", uninterrupted).returncode == 0
    process = start("run", *with_kernels, "--workers", 1, "--out", run)
    wait_until(lambda: records(run), 120)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = records(run)
    assert 1 <= len(kept) < CELLS
    assert fedfore("run", *with_kernels, "--workers", 1, "--out", run).returncode == 0
    assert science(run) == science(uninterrupted)
    assert all(records(run)[cell] == record for cell, record in kept.items())


@pytest.mark.slow
def test_one_cell_may_die_or_fail_and_the_matrix_goes_on(tmp_path: Path) -> None:
    folder, path = crashing(tmp_path, ["none", "killed", "raises", "memory"])
    run = tmp_path / "run"
    done = fedfore("run", path, "--plugins", folder, "--workers", 2, "--out", run)
    found = {record["params"]["fate"]: record for record in records(run).values()}
    assert {fate: record["status"] for fate, record in found.items()} == {
        "none": "ok",
        "killed": "failed",
        "raises": "failed",
        "memory": "out_of_memory",
    }
    assert done.returncode == 1
    assert "3 of 4 cells did not finish" in done.stdout
    assert "SIGKILL" in found["killed"]["reason"]
    trace = run / "cells" / found["raises"]["cell_id"] / "traceback.txt"
    assert "the method has a bug" in trace.read_text()
    assert str(trace) in done.stdout
    assert found["raises"]["test_accuracy"] is None


@pytest.mark.slow
def test_cells_may_hang_and_the_matrix_goes_on(tmp_path: Path) -> None:
    """Both hang for longer than any machine needs to start them, so a limit of seconds ends each of them."""
    folder, path = crashing(tmp_path, ["slow"], seeds=[0, 1])
    done = fedfore("run", path, "--plugins", folder, "--workers", 1, "--timeout", 12, "--out", tmp_path / "run")
    assert [record["status"] for record in records(tmp_path / "run").values()] == ["timeout", "timeout"]
    assert done.returncode == 1 and "2 of 2 cells did not finish" in done.stdout


@pytest.mark.slow
def test_a_plug_in_outside_the_repository_runs_and_appears_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "prox.toml"
    path.write_text(MATRIX.replace('["fedavg", "fedavg_erk", "baffle"]', '["fedavg", "fedprox"]'))
    given = ["--plugins", str(PLUGINS), "--set", "params.fedprox.mu=[0.0, 1.0]", "--workers", "1"]
    assert main(["run", str(path), *given]) == 0
    run = tmp_path / "results" / "runs" / "prox"
    table = load_table(LiveRun(run)).set_index("cell_id")
    assert sorted(table["method"]) == ["fedavg", "fedprox", "fedprox"]
    assert "fedprox" in (run / "report.html").read_text()
    losses = table.set_index("method")["test_loss"]
    assert losses["fedavg"] == pytest.approx(table[table["params.mu"] == 0.0]["test_loss"].item(), rel=1e-4)


def test_plan_and_run_agree_on_the_cells(
    matrix: Path, finished: tuple[Path, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(matrix)]) == 0
    *lines, size = capsys.readouterr().out.strip().splitlines()
    assert size == f"{CELLS} cells, 0 of them skipped"
    assert {line.split()[0] for line in lines} == set(records(finished[0]))

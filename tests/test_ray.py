"""Cells on a real Ray cluster of two nodes on this machine: one is lost, the run is stopped, nothing comes back."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedfore.execution.worker import prepared
from fedfore.records.record import Moment
from tests.test_remote_cell import job_of
from tests.test_runner import fedfore, records, science, start, wait_until

ray = pytest.importorskip("ray", reason='needs Ray: pip install ".[dev,ray]", as `make test-slow` does')
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ROUNDS, SEEDS = 8, 3
MARKS = "FEDFORE_TEST_MARKS"
PACED = f'''
"""FedAvg that takes its time, and says where it is."""
import os, time
from pathlib import Path
from fedfore.api import Method

class Paced(Method):
    """FedAvg."""

    def aggregate(self, model, updates, ctx):
        if "{MARKS}" in os.environ:
            with Path(os.environ["{MARKS}"]).open("a") as file:
                file.write(f"{{os.environ.get('NODE')}} {{ctx.cell.seed}} {{ctx.round}}\\n")
            time.sleep(0.5)
        return super().aggregate(model, updates, ctx)
'''
MATRIX = f"""
[grid]
method = ["paced"]
dataset = ["digits"]
model = ["lenet5"]
seed = {list(range(SEEDS))}
[train]
clients = 2
rounds = {ROUNDS}
ntk = false
"""


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Return the arguments that run a matrix of cells that take seconds each."""
    folder = tmp_path_factory.mktemp("paced")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "paced.py").write_text(PACED)
    (folder / "paced.toml").write_text(MATRIX)
    return ("run", folder / "paced.toml", "--plugins", folder / "plugins", "--checkpoint-seconds", 0.1)


@pytest.fixture(scope="module")
def alone(paced: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of the matrix on this machine alone."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert fedfore(*paced, "--workers", 1, "--out", run).returncode == 0
    return run


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start two nodes of one CPU each, whose cells leave their marks in a file."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    started = cluster_utils.Cluster()
    for node in ("first", "second"):
        started.add_node(num_cpus=1, env_vars={MARKS: str(tmp_path / "marks"), "NODE": node}, include_dashboard=False)
    yield started
    started.shutdown()


def marks(tmp_path: Path) -> Counter[tuple[str, int, int]]:
    """Return how often each node began each round of each seed."""
    file = tmp_path / "marks"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return Counter((node, int(seed), int(number)) for node, seed, number in lines)


def with_marks(tmp_path: Path) -> list[int]:
    """Return the processes that were started to leave marks in this file."""
    name, found = f"{MARKS}={tmp_path / 'marks'}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if name in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("given", [[], ["--shared"]], ids=["in-parcels", "shared"])
def test_a_node_that_is_lost_costs_no_cell_and_changes_no_number(
    given: list[str], cluster: Any, paced: tuple[object, ...], alone: Path, tmp_path: Path
) -> None:
    run, (second,) = tmp_path / "run", cluster.worker_nodes
    process = start(*paced, "--executor", cluster.address, *given, "--out", run)
    wait_until(lambda: any(node == "second" and number == 2 for node, _, number in marks(tmp_path)), 240)
    (lost,) = {seed for node, seed, _ in marks(tmp_path) if node == "second"}
    cluster.remove_node(second, allow_graceful=False)
    assert process.wait(timeout=240) == 0
    assert science(run) == science(alone) and len(records(run)) == SEEDS
    first_rounds = Counter(seed for _, seed, number in marks(tmp_path).elements() if number == 0)
    assert first_rounds == Counter(range(SEEDS)) + Counter([] if given else [lost])
    named = {record["environment"] for record in records(run).values()}
    assert named <= {file.stem for file in run.glob("environments/*.json")}
    assert not list(run.glob("attempts/*")) and not list(run.glob("checkpoints/*"))


def test_a_run_that_is_stopped_ends_its_ray_and_goes_on_from_its_checkpoint(
    paced: tuple[object, ...], alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARKS, str(tmp_path / "marks"))
    given = (*paced, "--executor", "ray", "--shared", "--set", "seed=[0]", "--out", tmp_path / "run")
    process = start(*given)
    wait_until(lambda: marks(tmp_path)[("None", 0, 3)], 240)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    wait_until(lambda: not with_marks(tmp_path), 30)
    assert list(tmp_path.glob("run/checkpoints/*.safetensors")) and not records(tmp_path / "run")
    assert fedfore(*given).returncode == 0
    assert marks(tmp_path)[("None", 0, 0)] == 1
    ((cell, record),) = science(tmp_path / "run").items()
    assert record == science(alone)[cell]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (lambda: ray.exceptions.WorkerCrashedError(), "failed", "was lost 4 times"),
        (lambda: ray.exceptions.OutOfMemoryError("no memory"), "out_of_memory", "too little memory"),
        (lambda: ray.exceptions.RaySystemError("odd"), "failed", "RaySystemError"),
    ],
)
def test_a_cell_of_which_nothing_comes_back_has_a_record_that_says_why(
    error: Callable[[], Exception], status: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedfore.execution.executors import ray_cluster

    def lost(reference: object) -> None:
        raise error()

    monkeypatch.setattr(ray_cluster.ray, "get", lost)
    job, record = ray_cluster._outcome(None, job_of(tmp_path), Moment.now())
    stored = json.loads((job.aside / "cells" / job.cell.id / "record.json").read_text())
    assert (record.status, stored["status"]) == (status, status) and said in (record.reason or "")
    assert prepared(job) is None

"""Cells in processes of their own: whatever one does to its process, the others and the run go on unharmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest

from fedfore.cli.executing import say_of_cpus
from fedfore.cli.parser import parser
from fedfore.errors import ConfigError
from fedfore.execution.executors import machine, processes
from fedfore.execution.executors.cell_process import CellProcess
from fedfore.execution.executors.choice import executor_of, processes_of
from fedfore.execution.executors.inline import Inline
from fedfore.execution.executors.processes import Processes
from fedfore.execution.executors.warm_server import HUGE_PAGES, TUNABLES, for_the_server
from fedfore.execution.job import Job
from fedfore.records.heartbeat import Heartbeat, under_way
from fedfore.records.record import Origin
from tests.synthetic import cells
from tests.test_runner import fedfore, records, science, start, wait_until

EVIL = Path(__file__).parent / "plugins" / "odd"
MATRIX = """
[grid]
method = ["evil", "fedavg"]
dataset = ["digits"]
model = ["lenet5:width=0.3"]
seed = [0]
"params.evil.fate" = {fates}
[train]
clients = 3
rounds = {rounds}
ntk = false
[params]
local_steps = 1
"""
FATES: Mapping[str, str] = {
    "exit 0": "the worker process died (exit status 0)",
    "exit 3": "the worker process died (exit status 3)",
    "segfault": "the worker process died (signal SIGSEGV)",
    "killed": "the worker process died (signal SIGKILL)",
    "sys.exit": "SystemExit: 0",
    "interrupt": "KeyboardInterrupt",
    "data": "overwrites the data set",
    "hook of all modules": "the hooks of all modules",
    "threads": "torch's number of threads",
}
SOME = ("exit 0", "segfault", "sys.exit", "data", "hook of all modules", "flood")
"""Fates of each kind: dead, killed by a signal, an exception, what is shared, a process' state, and much output."""

BUSY = 20
"""Seconds in which even a busy machine ends what an idle one ends in less than 5."""


def matrix(folder: Path, fates: Sequence[str], rounds: int = 1) -> Path:
    path = folder / "matrix.toml"
    path.write_text(MATRIX.format(fates=json.dumps(fates), rounds=rounds))
    return path


def run(folder: Path, path: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return fedfore("run", path, "--plugins", EVIL, "--out", folder / "run", *more)


def by_fate(run_folder: Path) -> dict[str, dict[str, Any]]:
    return {record["params"].get("fate", "fedavg"): record for record in records(run_folder).values()}


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(tuple(map(int, line.split())) for line in listed.splitlines())
    found = [child for child, parent in parents.items() if parent == pid]
    return [*found, *(inner for child in found for inner in descendants(child))]


def workers_of(pid: int) -> list[int]:
    """Return the processes of the cells that a run has started."""
    return [inner for child in descendants(pid) for inner in descendants(child)]


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# One process a cell


@pytest.mark.parametrize("fates", [SOME, pytest.param((*FATES, "flood"), marks=pytest.mark.slow)])
@pytest.mark.thorough
def test_what_a_cell_does_to_its_process_is_its_own_failure(tmp_path: Path, fates: Sequence[str]) -> None:
    path = matrix(tmp_path, fates)
    done = run(tmp_path, path)
    found = by_fate(tmp_path / "run")
    assert done.returncode == 1 and f"{len(fates) - 1} of {len(fates) + 1} cells did not finish" in done.stdout
    for fate in {*fates} & FATES.keys():
        assert found[fate]["status"] == "failed" and FATES[fate] in found[fate]["reason"], fate
    assert found["fedavg"]["status"] == found["flood"]["status"] == "ok"
    crashed = tmp_path / "run" / "cells" / found["segfault"]["cell_id"] / "log.txt"
    assert "Segmentation fault" in crashed.read_text() and str(crashed) in done.stdout
    flooded = tmp_path / "run" / "cells" / found["flood"]["cell_id"] / "log.txt"
    assert flooded.stat().st_size < 5 * 2**20 and flooded.read_text().endswith("more than this log holds.]\n")
    assert "log.txt" not in found["flood"]["files"]
    alone = fedfore("run", path, "--set", 'method=["fedavg"]', "--plugins", EVIL, "--out", tmp_path / "alone",
                    "--workers", 0, "--processes-per-cell", 2)  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    ((cell, record),) = science(tmp_path / "alone").items()
    assert science(tmp_path / "run")[cell] == record


@pytest.mark.slow
def test_what_cannot_be_written_is_told_and_counts_as_missing(tmp_path: Path) -> None:
    done = run(tmp_path, matrix(tmp_path, ["file size"]))
    assert done.returncode == 1 and "File too large" in done.stdout
    assert "1 of 2 planned cells have no record" in done.stdout and list(by_fate(tmp_path / "run")) == ["fedavg"]


@pytest.mark.slow
def test_a_cell_that_gives_no_thread_its_turn_does_not_outlive_its_run(tmp_path: Path) -> None:
    process = start("run", matrix(tmp_path, ["no turn"]), "--plugins", EVIL, "--set", 'method=["evil"]',
                    "--out", tmp_path / "run")  # fmt: skip
    wait_until(lambda: [one for one in under_way(tmp_path / "run") if one.beat], 120)
    started = descendants(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    wait_until(lambda: not any(map(is_alive, started)), BUSY)


@pytest.mark.slow
def test_a_cell_that_hears_nothing_is_killed_after_its_time(tmp_path: Path) -> None:
    done = run(tmp_path, matrix(tmp_path, ["hang"]), "--timeout", 10)
    assert done.returncode == 1
    assert by_fate(tmp_path / "run")["hang"]["reason"] == "longer than --timeout 10 seconds"


# The end of the one who started them


def running(tmp_path: Path, rounds: int = 100_000) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a run of one endless cell; return it and its processes once the cell trains."""
    process = start("run", matrix(tmp_path, ["none"], rounds), "--plugins", EVIL, "--set", 'method=["evil"]',
                    "--out", tmp_path / "run")  # fmt: skip
    wait_until(lambda: [one for one in under_way(tmp_path / "run") if one.beat and one.beat.phase == "train"], 120)
    return process, descendants(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["KILL", "HUP"])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, which: str) -> None:
    process, started = running(tmp_path)
    os.kill(process.pid, getattr(signal, f"SIG{which}"))
    process.wait(timeout=30)
    assert started
    wait_until(lambda: not any(map(is_alive, started)), BUSY)
    again = start("show", tmp_path / "run")
    assert again.wait(timeout=60) == 0


@pytest.mark.thorough
def test_a_terminated_run_keeps_a_checkpoint_and_ends_soon(tmp_path: Path) -> None:
    process, started = running(tmp_path)
    before = time.monotonic()
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - before < 5 + BUSY
    assert len(list(tmp_path.glob("run/checkpoints/*"))) == 1 and not records(tmp_path / "run")
    wait_until(lambda: not any(map(is_alive, started)), BUSY)


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_cell_alone(tmp_path: Path) -> None:
    process = start("run", matrix(tmp_path, ["none"], 3), "--plugins", EVIL, "--out", tmp_path / "run", "--workers", 1)
    wait_until(lambda: workers_of(process.pid), 120)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    assert process.wait(timeout=120) == 1
    ended = {record["method"]: record["status"] for record in records(tmp_path / "run").values()}
    assert sorted(ended.values()) == ["failed", "ok"]


# How many at a time


def beat(phase: str) -> Heartbeat:
    return Heartbeat("a", phase, 1, 0.1, 0.0, 0.0, 0.0, 0.0, 1.0, None)


@pytest.mark.parametrize(
    ("free", "peak", "phase", "running_cells", "expected"),
    [
        (0, 0, "setup", 0, True),  # one is always run
        (10_000, 0, "setup", 1, False),  # what a cell takes is not known yet
        (10_000, 0, "train", 1, True),
        (10_000, 500, "setup", 1, True),
        (10_000, 500, "train", 3, False),  # more than workers
        (500, 0, "train", 1, False),  # less free than the first takes: 400 now, 600 at its peak
        (859, 0, "train", 1, False),  # 600 + a tenth, and 200 that the first may still take
        (861, 0, "train", 1, True),
        (None, 0, "setup", 1, True),  # the machine does not tell
    ],
)
def test_a_cell_starts_where_its_memory_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int | None, peak: int, phase: str, running_cells: int, expected: bool
) -> None:
    monkeypatch.setattr(processes, "available_memory", lambda: free)
    monkeypatch.setattr(processes, "resident_bytes", lambda pid, peak=False: 600 if peak else 400)
    monkeypatch.setattr(processes, "read_heartbeat", lambda folder: beat(phase))
    executor = Processes(workers=3)
    executor.peak = peak

    class Cell:
        pid = 1

        class job:
            aside = Path()
            processes = 1

            class cell:
                id = "a"

    assert executor._has_room([Cell()] * running_cells) == expected  # type: ignore[list-item]


def write(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"proc/meminfo": "MemAvailable:    2000 kB", "proc/self/cgroup": "0::/"}, None, 2_048_000),
        (
            {"proc/meminfo": "MemAvailable: 2000 kB", "proc/self/cgroup": "0::/a/b",
             "cgroup/a/cpu.max": "150000 100000", "cgroup/a/b/cpu.max": "max 100000", "cgroup/a/memory.max": "max",
             "cgroup/a/b/memory.max": "1000", "cgroup/a/b/memory.current": "700",
             "cgroup/a/b/memory.stat": "anon 1\ninactive_file 100"},
            1, 400,
        ),
        (
            {"proc/self/cgroup": "3:cpu:/x\n5:memory:/x", "cgroup/cpu/x/cpu.cfs_quota_us": "100000",
             "cgroup/cpu/x/cpu.cfs_period_us": "100000", "cgroup/memory/x/memory.limit_in_bytes": "900",
             "cgroup/memory/x/memory.usage_in_bytes": "950"},
            1, 0,
        ),
        ({"proc/self/cgroup": "0::/elsewhere", "cgroup/cpu.max": "50000 100000"}, 1, None),
    ],
)  # fmt: skip
def test_the_limits_of_control_groups_count(
    tmp_path: Path, files: Mapping[str, str], cpus: int | None, memory: int | None
) -> None:
    root = write(tmp_path, files)
    (root / "cgroup").mkdir(exist_ok=True)
    allowed = len(os.sched_getaffinity(0))
    assert machine.usable_cpus(root / "proc", root / "cgroup") == min(allowed, cpus or allowed)
    assert machine.available_memory(root / "proc", root / "cgroup") == memory


def test_this_machine_tells() -> None:
    available = machine.available_memory()
    assert available is not None and available > 0
    assert 0 < machine.resident_bytes(os.getpid()) <= machine.resident_bytes(os.getpid(), peak=True)
    assert machine.resident_bytes(2**30) == 0


def test_an_executor_is_chosen_by_name() -> None:
    assert isinstance(executor_of("processes", 0), Inline) and isinstance(executor_of("inline", None), Inline)
    chosen, cpus = executor_of("processes", 10**6), machine.usable_cpus()
    assert isinstance(chosen, Processes) and chosen.workers == cpus
    shared = executor_of("processes", None, processes=cpus)
    assert isinstance(shared, Processes) and shared.workers == 1
    assert processes_of(10**6, "processes", "cpu") == cpus and processes_of(1, "ray", "cuda") == 1
    for executor, device, words in (("auto", "cpu", "cells of this machine"), ("processes", "cuda", "--device cpu")):
        with pytest.raises(ConfigError, match=f"--processes-per-cell goes with {words}"):
            processes_of(2, executor, device)
    with pytest.raises(ConfigError, match=r'no executor "process".* Did you mean "processes"'):
        executor_of("process", None)


def test_who_gets_fewer_cpus_than_asked_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--workers", "--processes-per-cell"):
        say_of_cpus(parser().parse_args(["run", "quick", option, "1000000"]))
        told = f"fedfore: {option} 1000000 is more than the CPUs this process may use: {machine.usable_cpus()} "
        assert capsys.readouterr().err.startswith(told)
        say_of_cpus(parser().parse_args(["run", "quick", option, "1"]))
        assert not capsys.readouterr().err


def test_cells_ask_for_huge_pages_unless_the_user_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for users, given in ((None, HUGE_PAGES), ("glibc.malloc.hugetlb=0", f"{HUGE_PAGES}:glibc.malloc.hugetlb=0")):
        if users:
            monkeypatch.setenv(TUNABLES, users)
        with for_the_server():
            assert os.environ[TUNABLES] == given
        assert os.environ.get(TUNABLES) == users


@pytest.mark.slow
def test_a_script_without_a_guard_may_run_a_matrix(tmp_path: Path) -> None:
    """Workers import nothing of the program that starts them."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom fedfore.cli.main import main\nprint('once')\n"
        f"sys.exit(main(['run', {str(matrix(tmp_path, ['none']))!r}, '--plugins', {str(EVIL)!r}, '--set', "
        f"'method=[\"evil\"]', '--out', {str(tmp_path / 'run')!r}]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once") == 1


def test_an_interrupt_while_a_cell_starts_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def interrupted(cell: CellProcess) -> None:
        start_cell(cell)
        started.append(cell.pid)
        raise KeyboardInterrupt

    start_cell = CellProcess.start
    monkeypatch.setattr(CellProcess, "start", interrupted)
    origin = Origin("baseline", (), None, 2, None, "e", 1)
    job = Job(cells()[0], tmp_path, origin, "cpu", None, (), tmp_path / "checkpoint")
    with pytest.raises(KeyboardInterrupt):
        next(Processes(1).map([job]))
    assert len(started) == 1 and not is_alive(started[0]) and not active_children()

"""Full and read-only disks, torn files, clocks that go backwards: a sentence each, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.records import record as record_module
from fedfore.records.record import Moment
from tests.test_executors import EVIL, by_fate, matrix
from tests.test_runner import records, science

MATRIX = """
[grid]
method = ["fedavg", "fedavg_erk"]
dataset = ["digits"]
model = ["lenet5:width=0.3"]
sparsity = [0.8]
seed = [0]
[train]
clients = 4
rounds = 3
ntk = false
[params]
local_steps = 1
"""

Said = tuple[int, str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Return a function that runs the matrix in this process into a folder, and returns status and words."""
    monkeypatch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    (tmp_path / "matrix.toml").write_text(MATRIX)

    def command(folder: Path, *more: str) -> Said:
        status = main(["run", str(tmp_path / "matrix.toml"), "--workers", "0", "--out", str(folder), *more])
        return status, "".join(capsys.readouterr())

    return command


def mount(folder: Path, options: str) -> bool:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a disk of its own, of 48 KiB."""
    folder = tmp_path / "disk"
    try:
        mounted = mount(folder, "size=48k")
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.mark.thorough
def test_a_full_disk_is_a_sentence_and_what_ran_on_it_goes_on(
    run: Callable[..., Said], disk: Path, tmp_path: Path
) -> None:
    assert run(tmp_path / "undisturbed")[0] == 0
    status, said = run(disk / "run", "--checkpoint-seconds", "1e-9")
    assert status in (1, 2) and "No space left on device" in said and "Traceback" not in said
    assert all(json.loads(path.read_text()) for path in disk.glob("run/cells/*/record.json"))
    remount(disk, "size=8m")
    assert run(disk / "run", "--rerun", "failed")[0] == 0
    assert science(disk / "run") == science(tmp_path / "undisturbed")


def test_a_read_only_run_is_read_and_refused_in_a_sentence(run: Callable[..., Said], disk: Path) -> None:
    remount(disk, "size=8m")
    assert run(disk / "run")[0] == 0
    remount(disk, "ro")
    status, said = run(disk / "run")
    assert status == 2 and "Read-only file system" in said and said.count("\n") == 1
    assert main(["show", str(disk / "run")]) == 0
    remount(disk, "rw")


@pytest.mark.thorough
def test_a_damaged_plan_is_set_aside_and_made_anew(run: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(folder)[0] == 0
    plan, before = (folder / "plan.json").read_text(), records(folder)
    for content in ("", "{", '{"schema_version": 2}', '{"schema_version": 2, "cells": [3]}'):
        (folder / "plan.json").write_text(content)
        status, said = run(folder)
        assert status == 0 and "it was set aside as plan.json.unusable, and the matrix is planned anew" in said
        assert json.loads((folder / "plan.json").read_text())["cells"] == json.loads(plan)["cells"]
        assert (folder / "plan.json.unusable").read_text() == content and records(folder) == before


def test_a_damaged_record_is_set_aside_and_its_cell_runs_again(run: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(folder)[0] == 0
    path, before = next(folder.glob("cells/*/record.json")), science(folder)
    path.write_text("{")
    status, said = run(folder)
    assert status == 0 and "1 to run" in said
    assert science(folder) == before
    assert (folder / "unusable" / "cells" / path.parent.name / "record.json").read_text() == "{"


@pytest.mark.parametrize("content", ["garbage", '{"round": 0}\n{"rou'])
@pytest.mark.thorough
def test_damaged_lines_are_named_and_set_aside_and_their_cell_runs_again(
    run: Callable[..., Said], tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "run"
    assert run(folder)[0] == 0
    path, before = next(folder.glob("cells/*/rounds.jsonl")), science(folder)
    whole = path.read_text()
    path.write_text(content)
    status, said = run(folder)
    assert status == 0 and f"{path.parent.name} runs again: not whole of it is rounds.jsonl." in said
    assert path.read_text() == whole and science(folder) == before
    assert (folder / "unusable" / "cells" / path.parent.name / "rounds.jsonl").read_text() == content


def test_an_interrupt_of_cells_of_this_process_ends_the_command(
    run: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fedfore.federation.loop.Federation.advance", interrupted)
    status, said = run(tmp_path / "run")
    assert status == 130 and "interrupted" in said and not records(tmp_path / "run")


def test_a_clock_that_goes_backwards_takes_no_time_away(monkeypatch: pytest.MonkeyPatch) -> None:
    days = iter([datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)])

    class Clock:
        @staticmethod
        def now(zone: object) -> datetime:
            return next(days)

    monkeypatch.setattr(record_module, "datetime", Clock)
    before, after = Moment.now(), Moment.now()
    assert after.utc < before.utc and after.clock >= before.clock


@pytest.mark.slow
def test_a_cell_that_eats_all_memory_it_may_have_is_told_as_that(tmp_path: Path) -> None:
    path = matrix(tmp_path, ["bomb"])
    command = [sys.executable, "-m", "fedfore.cli.main", "run", path, "--plugins", EVIL, "--out", tmp_path / "run"]
    limited = f"ulimit -v {8 * 2**20}; exec {' '.join(map(str, command))}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=240, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = by_fate(tmp_path / "run")
    assert found["bomb"]["status"] == "out_of_memory" and found["fedavg"]["status"] == "ok"

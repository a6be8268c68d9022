"""What a run shows while it works: a table on a terminal, and plain lines everywhere else."""

from __future__ import annotations

import errno
import io
import os
import pdb
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest

from fedfore.cli.main import main
from fedfore.display.progress import Display, seconds_left
from fedfore.records.heartbeat import Heartbeat, UnderWay, seconds_now, under_way, write_heartbeat
from tests.conftest import run_in_this_process
from tests.synthetic import cells, record

CELLS = cells(("fedavg", "baffle"), alphas=("iid",))
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
LINES, COLUMNS = 25, 80
PLUGIN = '''
"""Takes its time, and fails where its seed is 1."""
import os, time
from fedfore.api import Method

class Slow(Method):
    """Takes its time."""

    def aggregate(self, model, updates, ctx):
        time.sleep(float(os.environ["PAUSE"]))
        if ctx.cell.seed == 1:
            raise RuntimeError("the method has a bug")
        return super().aggregate(model, updates, ctx)
'''
MATRIX = """
[grid]
method = ["slow"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0, 1]
[train]
clients = 4
rounds = 3
ntk = false
[params.slow]
local_steps = 1
"""


class Terminal:
    """A pseudo-terminal, inside as a context in the place of stderr, and everything that was written to it."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        self.stream = os.fdopen(slave, "w", buffering=1, encoding="utf-8")
        self._read = b""
        self._reader = threading.Thread(target=self._keep)
        self._reader.start()

    def _keep(self) -> None:
        try:
            while part := os.read(self._master, 65536):
                self._read += part
        except OSError:  # nobody writes any more
            os.close(self._master)

    def __enter__(self) -> None:
        self._stderr, sys.stderr = sys.stderr, self.stream

    def __exit__(self, *_: object) -> None:
        sys.stderr = self._stderr

    def text(self) -> str:
        """Return all that was written, once nobody writes any more."""
        if not self.stream.closed:
            self.stream.close()
        self._reader.join(10)
        return self._read.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    for name in ("CI", "COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.text()


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a command that runs two cells in this process, one of which fails."""
    run_in_this_process(monkeypatch)
    monkeypatch.setenv("PAUSE", "0")
    monkeypatch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(PLUGIN)
    (tmp_path / "matrix.toml").write_text(MATRIX)
    plugins, out = str(tmp_path / "plugins"), str(tmp_path / "run")
    return ["run", str(tmp_path / "matrix.toml"), "--plugins", plugins, "--out", out]


def frames(text: str) -> list[list[str]]:
    """Return the lines of the tables that a terminal has shown, one after the other."""
    parts = re.split(r"\r(?:\x1b\[2K(?:\x1b\[1A)?)+", text)
    return [ESCAPES.sub("", part).splitlines() for part in parts]


def beat(cell_id: str, progress: float, **changed: object) -> Heartbeat:
    now = seconds_now()
    made = Heartbeat(cell_id, "train", 7, progress, 0.0, now - 100, 0.0, now - 100, now, 0.5)
    return replace(made, **changed)


def runs(run: Path, cell_id: str, of: Heartbeat | None) -> None:
    folder = run / "attempts" / "1" / "cells" / cell_id
    folder.mkdir(parents=True)
    if of is not None:
        write_heartbeat(folder, of)


@pytest.mark.thorough
def test_a_terminal_shows_the_cells_that_run_and_each_failure_once(
    terminal: Terminal, slow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAUSE", "0.7")
    stdout = sys.stdout
    with terminal:
        assert main(slow) == 1
        assert (sys.stdout, sys.stderr) == (stdout, terminal.stream)
    seen = frames(terminal.text())
    row = re.compile(r"slow-\w{12} +[123] +(33|67)% +0\.\d{4} +0:00:0\d +\d\d-\d\d \d\d:\d\d *")
    assert any(row.fullmatch(line) for frame in seen for line in frame)
    total = re.compile(r"matrix: [01] of 2 cells(, 1 failed)?, 0:00:\d\d, about 0:0\d:\d\d left")
    assert any(total.fullmatch(frame[0]) for frame in seen if frame)
    failures = [line for frame in seen for line in frame if line.startswith("failed: slow-")]
    assert len(failures) == 1 and "the method has a bug" in "".join(map("".join, seen))
    assert re.fullmatch(r"matrix: 2 of 2 cells, 1 failed, 0:00:\d\d", seen[-1][0])
    assert terminal.text().count("\x1b[?25l") == terminal.text().count("\x1b[?25h") == 1


@pytest.mark.parametrize("forced", [False, True], ids=["plain", "colours forced"])
def test_elsewhere_each_cell_that_ends_is_one_line_and_nothing_is_overwritten(
    slow: list[str], forced: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(slow) == 1
    said = capsys.readouterr().err
    assert not re.search(r"[\r\x1b]", said)
    planned, *ended = said.splitlines()
    assert planned.startswith("2 cells planned, 0 already there, 2 to run")
    assert [line.partition(" ")[0] for line in ended] == ["1/2", "2/2"]
    assert sorted(line.split()[1] for line in ended) == ["failed:", "ok:"]
    assert all(re.search(r"(accuracy 0\.\d{4} in 0:00:\d\d|traceback: /)", line) for line in ended)


@pytest.mark.parametrize("variable", [("CI", "true"), ("TERM", "dumb")], ids=lambda pair: pair[0])
def test_a_terminal_that_nobody_can_look_at_gets_lines(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str]
) -> None:
    monkeypatch.setenv(*variable)
    with terminal, Display(tmp_path, "quick") as display:
        display.start(1)
        display.done(record(CELLS[0]))
    text = terminal.text()
    assert re.fullmatch(rf"1/1 ok: {CELLS[0].id}, accuracy 0\.\d{{4}} in 0:01:00\r\n", text)


def test_more_cells_than_a_terminal_has_lines_leave_the_total_in_sight(terminal: Terminal, tmp_path: Path) -> None:
    for number in range(2 * LINES):
        runs(tmp_path, f"fedavg-{number:012}", beat(f"fedavg-{number:012}", 0.25) if number else None)
    with terminal, Display(tmp_path, "quick") as display:
        display.start(60)
    first, last = (frame for frame in frames(terminal.text()) if frame)
    assert first[0].startswith("quick: 0 of 60 cells, 0:00:00, about ") and len(first) == LINES
    assert first[2].split() == ["fedavg-000000000000", "starts", *"----"]
    assert max(map(len, first)) <= COLUMNS and first[-1].strip() == "..."
    assert last == ["quick: 0 of 60 cells, 0:00:00"]


@pytest.mark.parametrize("launches", [(0,), (2, 3)], ids=["nothing to run", "two stages"])
def test_each_stage_has_a_total_of_its_own(terminal: Terminal, tmp_path: Path, launches: tuple[int, ...]) -> None:
    with terminal, Display(tmp_path, "quick") as display:
        for launched in launches:
            display.start(launched)
            for cell in CELLS[:launched]:
                display.done(record(cell, "diverged"))
    totals = re.findall(r"quick: (\d of \d) cells(?:, (\d) failed)?", ESCAPES.sub("", terminal.text()))
    stages = [(f"{ended} of {launched}", str(ended or "")) for launched in launches for ended in range(launched + 1)]
    assert list(dict.fromkeys(totals)) == (stages if any(launches) else [])


class Broken(io.StringIO):
    """A terminal that was closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("stream", [Broken(), None], ids=["hung up", "closed from the start"])
def test_a_terminal_that_is_gone_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    monkeypatch.setattr(sys, "stderr", stream)
    with Display(tmp_path, "quick") as display:
        display.start(2)
        display.done(record(CELLS[0], "failed"))
        time.sleep(1.2)
        assert raised == []
        display.done(record(CELLS[1]))
    assert sys.stderr is stream


def test_a_breakpoint_of_a_method_has_the_terminal_to_itself(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[FrameType] = []
    monkeypatch.setattr(pdb.Pdb, "set_trace", lambda debugger, frame: stopped.append(frame))
    monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    with terminal, Display(tmp_path, "quick") as display:
        display.start(2)
        assert sys.stderr is not terminal.stream
        breakpoint()
        assert stopped == [sys._getframe()]
        assert sys.stderr is terminal.stream
        display.done(record(CELLS[0]))
    assert sys.breakpointhook is sys.__breakpointhook__
    assert terminal.text().endswith(
        f"\r\n\x1b[?25h1/2 ok: {CELLS[0].id}, accuracy 0.9443 in 0:01:00, about 0:00:00 left\r\n"
    )


def test_the_time_left_is_that_of_the_work_left_at_the_speed_so_far() -> None:
    """8 cells wait; 3.5 were done in 70 s, half a cell came from a checkpoint: 7 cells at 20 s each."""
    half, resumed = beat("a", 0.5), beat("b", 0.5, began_at=0.5)
    running = [UnderWay(one.cell_id, one) for one in (half, resumed)] + [UnderWay("c", None)]
    left = seconds_left(8, 3, 70.0, running)
    assert left == pytest.approx(140.0)


@pytest.mark.parametrize(
    ("waiting", "ended", "progress", "expected"), [(1, 9, 0.25, 300.0), (2, 0, 0.0, None), (0, 2, 0.0, None)]
)
def test_the_time_left_is_at_least_that_of_the_slowest_cell_and_may_be_unknown(
    waiting: int, ended: int, progress: float, expected: float | None
) -> None:
    left = seconds_left(waiting, ended, 90.0, [UnderWay("a", beat("a", progress))])
    assert left == (None if expected is None else pytest.approx(expected, abs=1.0))


def test_what_is_under_way_has_no_record_and_folders_that_are_cleared_away_are_none(tmp_path: Path) -> None:
    assert under_way(tmp_path) == []
    runs(tmp_path, "b", beat("b", 0.5))
    runs(tmp_path, "a", None)
    runs(tmp_path, "c", beat("c", 0.9))
    (tmp_path / "attempts" / "1" / "cells" / "c" / "record.json").write_text("{}")
    assert [(one.cell_id, one.beat and one.beat.progress) for one in under_way(tmp_path)] == [("a", None), ("b", 0.5)]

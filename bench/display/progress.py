"""What stderr shows while cells run: on a terminal a live table of them, elsewhere a line a cell that has ended."""

from __future__ import annotations

import os
import pdb
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from rich.console import Console, Group
from rich.live import Live

from fedfore.display.outcomes import failure
from fedfore.display.output import complain
from fedfore.display.running import duration, running_table
from fedfore.records.heartbeat import UnderWay, seconds_now, under_way
from fedfore.records.record import DONE, Record

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display:
    """Shows how far the cells of a run are. A stream that goes away ends nothing.

    As a context manager, it gives the terminal back at the end; it does so too where a method of this process calls
    `breakpoint()`. `start(launched)` begins a stage, `done(record)` ends one of its cells.
    """

    def __init__(self, run: Path, title: str) -> None:
        self._run = run
        self._title = title
        self._launched = self._ended = self._failed = 0
        self._began = time.monotonic()
        self._live: Live | None = None
        self._hook = sys.breakpointhook

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_terminal()

    def start(self, launched: int) -> None:
        """Begin to show a stage of so many cells."""
        self._leave_terminal()
        self._launched, self._ended, self._failed, self._began = launched, 0, 0, time.monotonic()
        if launched:
            self._take_terminal()

    def done(self, record: Record) -> None:
        """Show that a cell has ended."""
        self._ended += 1
        is_done = record.status in DONE
        self._failed += not is_done
        if self._live is None:
            said = f"ok: {record.cell_id}{_result(record)}" if record.status == "ok" else failure(self._run, record)
            complain(f"{self._ended}/{self._launched} {said}{self._left(under_way(self._run))}")
        elif not is_done:
            self._live.console.print(failure(self._run, record), soft_wrap=True)

    def __rich__(self) -> Group:
        running = under_way(self._run)
        return Group(self._total(running), *([running_table(running, seconds_now())] if running else []))

    def _total(self, running: Sequence[UnderWay]) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        spent = duration(time.monotonic() - self._began)
        return f"{self._title}: {self._ended} of {self._launched} cells{failed}, {spent}{self._left(running)}"

    def _left(self, running: Sequence[UnderWay]) -> str:
        left = seconds_left(self._launched - self._ended, self._ended, time.monotonic() - self._began, running)
        return f", about {duration(left)} left" if left else ""

    def _take_terminal(self) -> None:
        file = cast("IO[str]", _Forgiving(sys.stderr))
        console = Console(file=file, markup=False, highlight=False, emoji=False)
        if not (console.is_interactive and sys.stderr.isatty()) or os.environ.get("CI"):
            return
        self._live = Live(
            self, console=console, refresh_per_second=1, redirect_stdout=bool(sys.stdout and sys.stdout.isatty())
        )
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # its thread is not the one to hear of them
        try:
            self._live.start(refresh=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._hook, sys.breakpointhook = sys.breakpointhook, self._debug

    def _leave_terminal(self) -> None:
        """Leave the total of the table, and print lines from here on."""
        if self._live is not None:
            sys.breakpointhook = self._hook
            self._live.update(self._total(()))
            self._live.stop()
            self._live = None

    def _debug(self, *arguments: Any, **named: Any) -> Any:
        """Stop in the caller, as `breakpoint()` does, with a terminal that nobody else writes to."""
        self._leave_terminal()
        if os.environ.get("PYTHONBREAKPOINT") or self._hook is not sys.__breakpointhook__:
            return self._hook(*arguments, **named)
        pdb.Pdb().set_trace(sys._getframe().f_back)
        return None


def seconds_left(waiting: int, ended: int, elapsed: float, running: Sequence[UnderWay]) -> float | None:
    """Return the seconds until `waiting` cells have ended, those that run included; None where nothing is known.

    The speed is that since the beginning, at which `ended` cells and parts of others were done; it takes no less than
    the slowest cell that runs.
    """
    beats = [one.beat for one in running if one.beat is not None]
    done = ended + sum(beat.progress - beat.began_at for beat in beats)
    if done <= 0 or not waiting:
        return None
    own = [left for beat in beats if (left := beat.seconds_left_at(seconds_now())) is not None]
    return max([elapsed * (waiting - sum(beat.progress for beat in beats)) / done, *own])


def _result(record: Record) -> str:
    accuracy = record.validation_accuracy if record.test_accuracy is None else record.test_accuracy
    reached = "" if accuracy is None else f", accuracy {accuracy:.4f}"
    return f"{reached}{'' if record.wall_seconds is None else f' in {duration(record.wall_seconds)}'}"


class _Forgiving:
    """A stream that may be gone: what cannot be written is dropped."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

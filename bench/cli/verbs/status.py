"""`fedfore status`."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedfore.errors import printable

if TYPE_CHECKING:
    from fedfore.records.heartbeat import UnderWay
    from fedfore.records.run_status import RunStatus

HELP = "say how far a run has come: what is done, what runs now, what is left"
EXAMPLES = ("fedfore status results/runs/quick", "fedfore status results/runs/quick --json")
NAMED = 20
"""How many cells of a kind are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object, with the ids of all cells")


def execute(options: argparse.Namespace) -> int:
    from fedfore.records.run_status import run_status

    status = run_status(options.run)
    print(json.dumps(_document(status), indent=1) if options.json else "\n".join(_lines(status)))
    return 0 if status.is_complete or status.is_held else 1


def _state(status: RunStatus) -> str:
    if status.is_held:
        return "going on"
    return "complete" if status.is_complete else "stopped unfinished"


def _lines(status: RunStatus) -> Iterator[str]:
    yield f"{status.run}: {_state(status)}, {'a' if status.is_held else 'no'} process holds it"
    counts = ", ".join(f"{count} {name}" for name, count in status.counts.items())
    later = "" if status.plan.has_choices else "; what is reported is planned once tuning has chosen"
    yield f"{len(status.plan.ids)} cells planned: {counts}{later}"
    for heading, lines in _parts(status):
        yield f"\n{heading}"
        yield from lines
    command = _goes_on(status)
    if command is not None:
        yield f"\nIt goes on with: {printable(command)}"


def _parts(status: RunStatus) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the cells of each kind that there are, under a heading."""
    from fedfore.display.running import moment
    from fedfore.records.attempts import failed

    if status.running:
        what = "Running now" if status.is_held else "Running when their process died"
        yield f"{what}: {len(status.running)}", _table(status.running)
    if status.waiting:
        waiting = [f"{cell_id}  written {moment(seconds)}" for cell_id, seconds in status.waiting.items()]
        yield f"Waiting with a checkpoint: {len(status.waiting)}", _some(waiting, len(waiting))
    for what, place, ids in (
        ("Did not finish", status.run, status.unfinished),
        ("Attempts that ended early and replaced nothing", failed(status.run), status.failed),
    ):
        if ids:
            yield f"{what}: {len(ids)}", _some(_failures(status.run, place, ids), len(ids))


def _table(running: Sequence[UnderWay]) -> Iterator[str]:
    from rich.console import Console

    from fedfore.display.running import running_table
    from fedfore.records.heartbeat import seconds_now

    console = Console(markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(running_table(running, seconds_now()))
    yield captured.get().rstrip("\n")


def _failures(run: Path, place: Path, ids: Iterable[str]) -> Iterator[str]:
    from fedfore.display.outcomes import failure
    from fedfore.records.attempts import find_record

    for cell_id in ids:
        record = find_record(place, cell_id)
        yield cell_id if record is None else failure(run, record)


def _some(lines: Iterable[str], count: int) -> Iterator[str]:
    yield from islice(lines, NAMED)
    if count > NAMED:
        yield f"... and {count - NAMED} more, which --json names"


def _goes_on(status: RunStatus) -> str | None:
    """Return the command that goes on with a run that has stopped; None where there is nothing to go on with."""
    words = shlex.split(next(reversed(status.plan.commands), ""))
    if status.is_held or status.is_complete or words[1:2] != ["run"]:
        return None
    words = _without("--rerun", words)
    if status.unfinished:
        words += ["--rerun", "failed"]
    if str(status.run) not in words:
        words = [*_without("--out", words), "--out", str(status.run)]
    return shlex.join(words)


def _without(option: str, words: Sequence[str]) -> list[str]:
    """Return a command without an option and its value."""
    before = ["", *words[:-1]]
    return [one for last, one in zip(before, words, strict=True) if option not in (last, one.partition("=")[0])]


def _document(status: RunStatus) -> dict[str, Any]:
    return {
        "run": str(status.run),
        "state": _state(status),
        "is_held": status.is_held,
        "planned": len(status.plan.ids),
        "counts": status.counts,
        "has_later_stages": not status.plan.has_choices,
        "running": [_running(one) for one in status.running],
        "waiting": {cell_id: _utc(seconds) for cell_id, seconds in status.waiting.items()},
        "missing": status.missing,
        "unfinished": {cell_id: status.statuses[cell_id] for cell_id in status.unfinished},
        "failed_attempts": list(status.failed),
        "goes_on": _goes_on(status),
    }


def _running(one: UnderWay) -> dict[str, Any]:
    from fedfore.records.heartbeat import seconds_now

    beat = one.beat
    if beat is None:
        return {"cell_id": one.cell_id, "phase": None}
    return {
        "cell_id": one.cell_id,
        "phase": beat.phase,
        "round": beat.round,
        "progress": beat.progress,
        "accuracy": beat.accuracy,
        "seconds_left": beat.seconds_left_at(seconds_now()),
        "since_utc": _utc(beat.began_seconds),
        "seen_utc": _utc(beat.seconds),
    }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

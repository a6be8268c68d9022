"""The table of the cells that run, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from rich.table import Table

from fedfore.records.heartbeat import UnderWay

UNKNOWN = "-"


def running_table(running: Sequence[UnderWay], now: float) -> Table:
    """Return a row a cell: its round, the share of its budget that is spent, accuracy so far, time left, beginning.

    `now` is of `seconds_now`.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("cell", no_wrap=True)
    for name in ("round", "spent", "accuracy", "left", "since"):
        table.add_column(name, no_wrap=True, justify="right")
    for one in running:
        table.add_row(one.cell_id, *_words(one, now))
    return table


def _words(one: UnderWay, now: float) -> Sequence[str]:
    beat = one.beat
    if beat is None or not beat.round:
        return ("starts", *[UNKNOWN] * 4)
    left = beat.seconds_left_at(now)
    return (
        str(beat.round) if beat.phase == "train" else f"{beat.phase} {beat.round}",
        f"{beat.progress:.0%}",
        UNKNOWN if beat.accuracy is None else f"{beat.accuracy:.4f}",
        UNKNOWN if left is None else duration(left),
        moment(beat.began_seconds),
    )


def duration(seconds: float) -> str:
    """Return a time span as `h:mm:ss`."""
    return str(timedelta(seconds=round(seconds)))


def moment(seconds: float) -> str:
    """Return a time of `seconds_now` on the clock of this machine, to the minute."""
    return f"{datetime.fromtimestamp(seconds):%m-%d %H:%M}"

"""A cell that was computed twice: its numbers beside one another, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedfore.judgement.estimates import estimate
from fedfore.records.metrics import MEASURED
from fedfore.records.record import Record, cell_of, identity, is_volatile
from fedfore.records.run import Run

JUDGED = tuple(name for name, row in MEASURED.items() if row.direction != "descriptive" and not is_volatile(name))
"""The numbers of a record that a judgement can rest on: of two values one is better, and no clock is read."""
Agreement = Literal["equal", "within", "different"]


@dataclass(frozen=True)
class Comparison:
    """A number of a cell and the same of its repetition, in the metric's unit; None is not measured.

    `low` and `high` bound the 95% interval of the first mean over the seeds of the cell's setting; None at fewer than
    two.
    """

    cell_id: str
    metric: str
    first: float | None
    again: float | None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Agreement:
        """Whether the numbers are equal; else whether the repetition lies within the interval of the first ones."""
        if self.first == self.again:
            return "equal"
        if self.again is None or self.low is None or self.high is None:
            return "different"
        return "within" if self.low <= self.again <= self.high else "different"


def planned_records(run: Run) -> list[Record]:
    """Return the records of a run that are planned, by id. Raises StoreError for one that cannot be read."""
    return [record for cell in run.plan() if (record := run.found(cell.id)) is not None]


def compared(record: Record, again: Record, peers: Sequence[Record]) -> Iterator[Comparison]:
    """Yield the judged numbers that a record has, beside those of its repetition.

    `peers` are the records of the first run; those of the same setting, whatever their seed, give the intervals.
    """
    setting = _setting(record)
    own = [peer for peer in peers if peer.status == "ok" and _setting(peer) == setting]
    for metric in JUDGED:
        number = getattr(record, metric)
        if number is not None:
            mean = estimate([value for peer in own if (value := getattr(peer, metric)) is not None])
            bounds = (mean.low, mean.high) if mean.n > 1 else (None, None)
            yield Comparison(record.cell_id, metric, number, getattr(again, metric), *bounds)


def _setting(record: Record) -> dict[str, Any]:
    return {name: value for name, value in identity(cell_of(record)).items() if name not in ("cell_id", "seed")}

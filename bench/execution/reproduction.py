"""Published cells computed again with the present code, and their numbers beside the published ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fedfore.cell import Cell, cell_id
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError
from fedfore.judgement.estimates import estimate
from fedfore.records.agreement import means_given
from fedfore.records.lines import ROUNDS
from fedfore.records.metrics import MEASURED
from fedfore.records.record import Record, cell_of, identity, is_volatile
from fedfore.records.run import Run

JUDGED = tuple(name for name, row in MEASURED.items() if row.direction != "descriptive" and not is_volatile(name))
"""The numbers of a record that a judgement can rest on: of two values one is better, and no clock is read."""
Verdict = Literal["equal", "within", "different"]


@dataclass(frozen=True)
class Comparison:
    """A number of a published cell and the same of its repetition, in the metric's unit; None is not measured.

    `low` and `high` bound the 95% interval of the published mean over the seeds of the cell's setting; None at fewer
    than two.
    """

    cell_id: str
    metric: str
    published: float | None
    again: float | None
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the numbers are equal; else whether the repetition lies within the interval of the published ones."""
        if self.published == self.again:
            return "equal"
        if self.again is None or self.low is None or self.high is None:
            return "different"
        return "within" if self.low <= self.again <= self.high else "different"


def drawn(run: Run, count: int, seed: int) -> list[Record]:
    """Return `count` of a study's records that ended ok, drawn with this seed, each as likely as any other.

    Raises ConfigError where there are fewer, StoreError for a study that cannot be read.
    """
    ended = [record for record in published(run) if record.status == "ok"]
    if count > len(ended):
        raise ConfigError(f"{run.path} has {len(ended)} cells that ended ok; --cells {count} is more than that.")
    return random.Random(seed).sample(ended, count)


def published(run: Run) -> list[Record]:
    """Return the records of a study that are planned, by id. Raises StoreError for one that cannot be read."""
    return [record for cell in run.plan() if (record := run.found(cell.id)) is not None]


def present_cell(record: Record, methods: Mapping[str, MethodEntry]) -> Cell:
    """Return the cell of a record as the present code plans it.

    Raises ConfigError where the present code has no such cell, or another one under its id.
    """
    cell = cell_of(record)
    method = lookup(methods, cell.method)
    defaults = asdict(method.Config())
    unknown = sorted(cell.params.keys() - defaults.keys())
    if unknown:
        raise ConfigError(f"{cell.id}: {cell.method} has no {', '.join(unknown)} any more; name the study's commit.")
    if cell_id(cell, defaults) != cell.id:
        raise ConfigError(f"{cell.id}: the same settings have another id now; check out the study's commit.")
    return replace(cell, params={**defaults, **cell.params})


def compared(record: Record, again: Record, peers: Sequence[Record]) -> Iterator[Comparison]:
    """Yield the judged numbers that a published record has, beside those of its repetition.

    `peers` are the records of the study; those of the same setting, whatever their seed, give the intervals.
    """
    setting = _setting(record)
    own = [peer for peer in peers if peer.status == "ok" and _setting(peer) == setting]
    for metric in JUDGED:
        number = getattr(record, metric)
        if number is not None:
            mean = estimate([value for peer in own if (value := getattr(peer, metric)) is not None])
            bounds = (mean.mean - mean.half_width, mean.mean + mean.half_width) if mean.n > 1 else (None, None)
            yield Comparison(record.cell_id, metric, number, getattr(again, metric), *bounds)


def over_the_same_evaluations(record: Record, study: Run, again: Record, run: Run) -> Record:
    """Return the repetition of a record of an older schema with the means that it has, over the same evaluations.

    The harness evaluates more often than it did, and its means were those of the last evaluations. Raises StoreError
    for lines that cannot be read.
    """
    if record.test_accuracy_last5 is None:
        return again
    evaluated = {line["round"] for line in study.lines(record.cell_id, ROUNDS)}
    lines = [line for line in run.lines(record.cell_id, ROUNDS) if line["round"] in evaluated]
    return replace(again, **means_given(record, lines)) if lines else again


def _setting(record: Record) -> dict[str, Any]:
    return {name: value for name, value in identity(cell_of(record)).items() if name not in ("cell_id", "seed")}

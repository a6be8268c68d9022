"""The columns of the report's table: which numbers it shows of what kind of study, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedfore.judgement.estimates import Estimate
from fedfore.plots.mask_columns import LEFT
from fedfore.plots.points import records
from fedfore.plots.report.verdicts import Told
from fedfore.plots.study import Study
from fedfore.plots.tables.point_table import PointTable
from fedfore.plots.tables.quantities import (
    NOT_APPLICABLE,
    Quantity,
    described,
    entries,
    quantity,
    share,
    without_intervals,
)
from fedfore.plots.wording import UNKNOWN, difference_text

_WORST = "client_accuracy_min"
_COSTS = ("peak_device_bytes", "device_flops_total", "total_bytes", "data_passes")
_METERED = ("device_step_flops", "uplink_bytes_per_client_round", "downlink_bytes_per_client_round")
"""What is known of a device that trained nothing."""
DIFFERENCE, VERDICT = "difference", "verdict"
"""The names of the columns that compare."""
_ARROWS = {"higher": "↑", "lower": "↓", "descriptive": ""}


@dataclass(frozen=True)
class Value:
    """What stands in a cell: a text, the interval behind it, marks, and whether it is the best of its column's group.

    `order` is the number that sorts the column, None where nothing is known.
    """

    text: str
    order: float | None
    marks: str = ""
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Column:
    """A column of numbers: its metric or another name, its title, and its unit with an arrow to the better end."""

    name: str
    title: str
    unit: str = ""


def quantities(study: Study, table: PointTable) -> list[Quantity]:
    """Return the quantities that the table of a study may show, its accuracy first."""
    masks = () if study.cells["trained"].any() else LEFT
    metered = _METERED if study.cells["metered"].any() else ()
    names = (study.accuracy, _WORST, *masks, *_COSTS, *metered)
    return [share(table, name) if name in LEFT else quantity(table, name, None) for name in names]


def columns(
    study: Study,
    table: PointTable,
    known: Sequence[Quantity],
    differences: Sequence[Estimate | None],
    verdicts: Sequence[Sequence[Told]],
) -> Iterator[tuple[Column, list[Value]]]:
    """Yield the columns in their order, each with a value a point of `table`; none is unknown or 0 at all points.

    `known` are the quantities, `differences` those to the study's reference, `verdicts` those of contrasts, an entry a
    point.
    """
    for own in known:
        if any(one.n and one.mean for one in own.estimates):
            yield _column(table, own if own.metric in (study.accuracy, *LEFT) else without_intervals(own))
        if own.metric == study.accuracy and study.reference and any(differences):
            yield Column(DIFFERENCE, f"Minus {study.reference.label}", "points"), list(map(_difference, differences))
        if own.metric == study.accuracy and any(verdicts):
            yield Column(VERDICT, "Verdict"), list(map(_verdict, verdicts))
    yield Column("seeds", "Seeds", "ok / planned"), list(map(_seeds, records(table.numbers)))


_NONE = Value(UNKNOWN, None)


def _column(table: PointTable, own: Quantity) -> tuple[Column, list[Value]]:
    row = described(own.metric)
    unit = "" if own.unit.name == row.unit else own.unit.name
    values = [
        Value(
            entry.text,
            None if entry.text in (UNKNOWN, NOT_APPLICABLE) else one.mean,
            interval=entry.interval,
            best=entry.best,
        )
        for entry, one in zip(entries(table, own), own.estimates, strict=True)
    ]
    title = LEFT.get(own.metric, row.label)
    return Column(own.metric, title, f"{unit} {_ARROWS[row.direction]}".strip()), values


def _difference(one: Estimate | None) -> Value:
    return Value(difference_text(one), one.mean) if one and one.n else _NONE


def _verdict(told: Sequence[Told]) -> Value:
    return Value("; ".join(one.text for one in told), float(min(one.rank for one in told))) if told else _NONE


def _seeds(point: Mapping[str, Any]) -> Value:
    return Value(f"{point['n_ok']} / {point['n_planned']}", float(point["n_ok"]))

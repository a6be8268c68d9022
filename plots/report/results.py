"""The one table of a report: a row a point of whatever data set and model, one unit a column, marks at the numbers.

Rows stand in groups of one data set, model and label distribution, the most accurate first; controls have groups of
their own. The same points in full precision are the page's CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fedfore.judgement.estimates import Estimate
from fedfore.plots.fields import value_label
from fedfore.plots.findings import against_reference
from fedfore.plots.points import POINT, points, records
from fedfore.plots.report.marks import NAME, marks
from fedfore.plots.study import Study
from fedfore.plots.tables.exports import csv
from fedfore.plots.units import in_one_unit
from fedfore.plots.wording import UNKNOWN, difference_text, percent_text
from fedfore.records.metrics import METRICS

_SETTING = ("dataset", "model", "alpha")
_WORST = "client_accuracy_min"
_COSTS = ("peak_device_bytes_setup", "peak_device_bytes_train", "device_flops_total", "total_bytes", "data_passes")
_ARROWS = {"higher": "↑", "lower": "↓", "descriptive": ""}


@dataclass(frozen=True)
class Value:
    """What stands in a cell: a text, smaller text under it, marks, and the number that sorts its column."""

    text: str
    order: float | None
    detail: str = ""
    marks: str = ""


@dataclass(frozen=True)
class Column:
    """A column of numbers: its metric or another name, its title, its unit with an arrow to the better end."""

    name: str
    title: str
    unit: str = ""


@dataclass(frozen=True)
class Row:
    """A point: the name of its series, what else names it, marks, and a value a column."""

    name: str
    detail: str
    marks: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Group:
    """The rows of one data set, model and label distribution that compete, or those that are controls."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Results:
    """The table, its footnotes, and the same numbers as CSV."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]
    csv: str


def results(study: Study) -> Results:
    """Return the table of a study; means are over the seeds that ended well, and each column is known in some row."""
    numbers = points(study.cells, [study.accuracy, _WORST, *_COSTS])
    differences = [against_reference(study, point) for point in records(numbers[list(POINT)])]
    filled = {
        column: values
        for column, values in _columns(study, numbers, differences)
        if any(one.order is not None for one in values)
    }
    said = marks(study)
    sparse = {one.label for one in study.series if one.has_sparsity}
    rows = []
    for place, point in enumerate(records(numbers[list(POINT)])):
        own = said.of[tuple(point.values())]
        values = (replace(texts[place], marks=own.get(column.name, "")) for column, texts in filled.items())
        detail = f"sparsity {value_label(point['sparsity'])}" if point["series"] in sparse else ""
        rows.append(Row(point["series"], detail, own.get(NAME, ""), tuple(values)))
    table = csv(_with_differences(numbers, differences))
    return Results(tuple(filled), tuple(_groups(study, numbers, rows)), said.notes, table)


def _columns(
    study: Study, numbers: pd.DataFrame, differences: Sequence[Estimate | None]
) -> Iterator[tuple[Column, list[Value]]]:
    """Yield the columns in their order, each with a value a row of `numbers`."""
    yield _column(study.accuracy, "%"), _accuracies(numbers, study.accuracy)
    if study.reference:
        column = Column("difference", f"Minus {study.reference.label}", "points")
        yield column, [_value(difference_text(one), one.mean) if one else _NONE for one in differences]
    yield _column(_WORST, "%"), [_value(f"{100 * worst:.1f}", worst) for worst in numbers[_WORST]]
    for metric in _COSTS:
        unit, texts = in_one_unit(numbers[metric], METRICS[metric].unit)
        named = "" if unit in METRICS[metric].label.lower() else unit
        yield _column(metric, named), list(map(_value, texts, numbers[metric]))
    yield Column("seeds", "Seeds", "ok / planned"), list(map(_seeds, records(numbers)))


_NONE = Value(UNKNOWN, None)


def _value(text: str, number: float) -> Value:
    return Value(text, float(number)) if number == number else _NONE


def _column(metric: str, unit: str = "") -> Column:
    row = METRICS[metric]
    return Column(metric, row.label, f"{unit} {_ARROWS[row.direction]}".strip())


def _accuracies(numbers: pd.DataFrame, metric: str) -> list[Value]:
    return [_value(percent_text(row[metric], row[f"{metric}_half_width"]), row[metric]) for row in records(numbers)]


def _seeds(point: Mapping[str, Any]) -> Value:
    return _value(f"{point['n_ok']} / {point['n_planned']}", point["n_ok"])


def _groups(study: Study, numbers: pd.DataFrame, rows: Sequence[Row]) -> Iterator[Group]:
    """Yield the groups of these rows, which are those of `numbers`."""
    controls = numbers["series"].isin([one.label for one in study.series if one.control])
    ordered = numbers.assign(control=controls).sort_values(study.accuracy, ascending=False, kind="stable")
    naming = [name for name in _SETTING if numbers[name].nunique() > 1] or ["alpha"]
    for key, own in ordered.groupby([*_SETTING, "control"], observed=True):
        setting = dict(zip(_SETTING, key, strict=False))
        title = ", ".join(str(setting[name]) for name in naming)
        yield Group(f"{title}: controls" if key[-1] else title, tuple(rows[place] for place in own.index))


def _with_differences(numbers: pd.DataFrame, differences: Sequence[Estimate | None]) -> pd.DataFrame:
    """Return the points with the mean of their paired difference, both ends of its interval, and its seeds."""
    if not any(differences):
        return numbers
    known = [one or Estimate(float("nan"), float("nan"), float("nan"), 0) for one in differences]
    return numbers.assign(
        **{f"difference_{name}": [getattr(one, name) for one in known] for name in ("mean", "low", "high", "n")}
    )

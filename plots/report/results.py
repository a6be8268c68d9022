"""The one table of a report: a row a point of whatever data set and model, one unit a column, marks at the numbers.

Rows stand in groups of one data set, model and label distribution, the most accurate first; controls have groups of
their own. The same points in full precision are the page's CSV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fedfore.judgement.estimates import Estimate
from fedfore.plots.fields import value_label
from fedfore.plots.findings import against_reference
from fedfore.plots.mask_columns import masked
from fedfore.plots.points import POINT, points, records
from fedfore.plots.report.columns import DIFFERENCE, VERDICT, Column, Value, columns, shown_metrics
from fedfore.plots.report.marks import NAME, marks
from fedfore.plots.report.verdicts import Told, told
from fedfore.plots.study import Study
from fedfore.plots.tables.exports import csv

_SETTING = ("dataset", "model", "alpha")


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
    """Return the table of a study; means are over the seeds that ended well."""
    masks = pd.concat([masked(study, own).cells for _, own in study.by_setting()])
    cells = study.cells.assign(**{name: masks[name] for name in ("forward_flops_left", "starved")})
    numbers = points(cells, shown_metrics(study))
    keys = records(numbers[list(POINT)])
    differences = [against_reference(study, point) for point in keys]
    found = told(study)
    verdicts = [found.get(tuple(point.values()), []) for point in keys]
    filled = dict(columns(study, numbers, differences, verdicts))
    said = marks(study, cells)
    sparse = {one.label for one in study.series if one.has_sparsity}
    rows = []
    for place, point in enumerate(keys):
        own = said.of[tuple(point.values())]
        values = (replace(texts[place], marks=own.get(column.name, "")) for column, texts in filled.items())
        detail = f"sparsity {value_label(point['sparsity'])}" if point["series"] in sparse else ""
        rows.append(Row(point["series"], detail, own.get(NAME, ""), tuple(values)))
    table = _compared(numbers, differences, verdicts)
    return Results(tuple(filled), tuple(_groups(study, numbers, rows)), said.notes, csv(table))


def _groups(study: Study, numbers: pd.DataFrame, rows: Sequence[Row]) -> Iterator[Group]:
    """Yield the groups of these rows, which are those of `numbers`."""
    control = study.cells.groupby(list(POINT), observed=True)["control"].any().reset_index()
    ordered = numbers.merge(control).sort_values(study.accuracy, ascending=False, kind="stable")
    naming = [name for name in _SETTING if numbers[name].nunique() > 1] or ["alpha"]
    for key, own in ordered.groupby([*_SETTING, "control"], observed=True):
        setting = dict(zip(_SETTING, key, strict=False))
        title = ", ".join(str(setting[name]) for name in naming)
        yield Group(f"{title}: controls" if key[-1] else title, tuple(rows[place] for place in own.index))


def _compared(
    numbers: pd.DataFrame, differences: Sequence[Estimate | None], verdicts: Sequence[Sequence[Told]]
) -> pd.DataFrame:
    """Return the points with the mean of their difference, both ends of its interval and its seeds, and verdicts."""
    known = [one or Estimate(math.nan, math.nan, math.nan, 0) for one in differences]
    ends = {f"{DIFFERENCE}_{name}": [getattr(one, name) for one in known] for name in ("mean", "low", "high", "n")}
    return numbers.assign(**ends, **{VERDICT: ["; ".join(one.text for one in own) for own in verdicts]})

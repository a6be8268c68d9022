"""The one table of a report: a row a point of whatever data set and model, one unit a column, marks at the numbers.

Rows stand in groups of one data set, model and label distribution, the most accurate first; controls have groups of
their own. The same points in full precision are the page's CSV.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fedfore.judgement.estimates import Estimate
from fedfore.plots.fields import value_label
from fedfore.plots.findings import against_reference
from fedfore.plots.mask_columns import masked
from fedfore.plots.points import POINT, records
from fedfore.plots.report.columns import DIFFERENCE, VERDICT, Column, Value, columns, quantities
from fedfore.plots.report.marks import NAME, marks
from fedfore.plots.report.verdicts import Told, told
from fedfore.plots.study import Study
from fedfore.plots.tables.exports import csv
from fedfore.plots.tables.point_table import BLOCK, point_table
from fedfore.plots.tables.quantities import ASIDE, LACKING, NOT_APPLICABLE, Quantity, estimates_note


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
    """The table, sentences on how it is read, its footnotes, and the same numbers as CSV."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    reading: tuple[str, ...]
    notes: tuple[str, ...]
    csv: str


def results(study: Study) -> Results:
    """Return the table of a study."""
    masks = pd.concat([masked(study, own).cells for _, own in study.by_setting()])
    cells = study.cells.assign(**{name: masks[name] for name in ("forward_flops_left", "starved")})
    table = point_table(cells, None)
    keys = records(table.numbers[list(POINT)])
    differences = against_reference(study, keys)
    found = told(study)
    verdicts = [found.get(tuple(point.values()), []) for point in keys]
    known = quantities(study, table)
    filled = dict(columns(study, table, known, differences, verdicts))
    said = marks(study, cells)
    sparse = {one.label for one in study.series if one.has_sparsity}
    rows = []
    for place, point in enumerate(keys):
        own = said.of[tuple(point.values())]
        values = (replace(texts[place], marks=own.get(column.name, "")) for column, texts in filled.items())
        detail = f"sparsity {value_label(point['sparsity'])}" if point["series"] in sparse else ""
        rows.append(Row(point["series"], detail, own.get(NAME, ""), tuple(values)))
    exact = _exact(table.numbers, known, differences, verdicts)
    return Results(
        tuple(filled),
        tuple(_groups(exact.sort_values(study.accuracy, ascending=False, kind="stable"), rows)),
        tuple(_reading(known, filled)),
        (*said.notes, *_lacking(filled)),
        csv(exact),
    )


def _reading(known: Sequence[Quantity], filled: Mapping[Column, Sequence[Value]]) -> Iterator[str]:
    """Yield what means, differences, verdicts and bold letters are."""
    yield from estimates_note(known)
    names = {column.name for column in filled}
    parts = ["differences are paired by seed, each with its 95% interval alone"] if DIFFERENCE in names else []
    parts += ["verdicts are of contrasts that the matrix fixed, with Holm's correction"] if VERDICT in names else []
    if parts:
        said = "; ".join(parts)
        yield f"{said[0].upper()}{said[1:]}."
    if any(value.best for own in filled.values() for value in own):
        yield f"Bold: the best of a group; {ASIDE}."


def _lacking(filled: Mapping[Column, Sequence[Value]]) -> Iterator[str]:
    if any(value.text == NOT_APPLICABLE for own in filled.values() for value in own):
        yield LACKING


def _groups(ordered: pd.DataFrame, rows: Sequence[Row]) -> Iterator[Group]:
    """Yield the groups of these rows, of points in the order in which they stand there."""
    naming = [name for name in BLOCK if ordered[name].nunique() > 1] or ["alpha"]
    for key, own in ordered.groupby([*BLOCK, "control"], observed=True):
        setting = dict(zip(BLOCK, key, strict=False))
        title = ", ".join(str(setting[name]) for name in naming)
        yield Group(f"{title}: controls" if key[-1] else title, tuple(rows[place] for place in own.index))


def _exact(
    numbers: pd.DataFrame,
    known: Sequence[Quantity],
    differences: Sequence[Estimate | None],
    verdicts: Sequence[Sequence[Told]],
) -> pd.DataFrame:
    """Return the points with the mean of each quantity and of their difference, both ends of intervals, and verdicts.

    Values are in the metrics' own units, differences as fractions.
    """
    minus = [one or Estimate(math.nan, math.nan, math.nan, 0) for one in differences]
    found: dict[str, list[float]] = {}
    for own in known:
        found[own.metric] = [one.mean for one in own.estimates]
        if any(one.half_width == one.half_width for one in own.estimates):
            found |= {f"{own.metric}_{end}": [getattr(one, end) for one in own.estimates] for end in ("low", "high")}
    found |= {f"{DIFFERENCE}_{name}": [getattr(one, name) for one in minus] for name in ("mean", "low", "high", "n")}
    return numbers.assign(**found, **{VERDICT: ["; ".join(one.text for one in own) for own in verdicts]})

"""A table of a study, with all that is said under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from fedfore.errors import ConfigError, printable
from fedfore.plots.footnotes import table_notes
from fedfore.plots.points import records
from fedfore.plots.study import Study
from fedfore.plots.tables.asked import Asked, metrics_of, named_series, setting_column
from fedfore.plots.tables.best import Best, best, chosen, tuned_columns
from fedfore.plots.tables.differences import Differences, difference_notes, differences
from fedfore.plots.tables.differences import shown as shown_differences
from fedfore.plots.tables.forms import Page
from fedfore.plots.tables.grid import Grid, Shown, grid
from fedfore.plots.tables.lines import line_cells
from fedfore.plots.tables.point_table import SERIES, PointTable, labelled, point_table
from fedfore.plots.tables.quantities import (
    ASIDE,
    LACKING,
    NOT_APPLICABLE,
    Quantity,
    described,
    estimates_note,
    quantity,
    seeds,
    shown,
    without_intervals,
)
from fedfore.plots.wording import DAGGER, DOUBLE_DAGGER, FAILED_SEEDS, OVERSPENT


def page(study: Study, asked: Asked, *, reasons: bool = False) -> Page:
    """Return a study's points: a row a series and whatever else tells them apart.

    Raises ConfigError for a name that the study does not know.
    """
    by = setting_column(study.cells, asked.by) if asked.by else None
    keys = [] if asked.best is None else tuned_columns(study.cells, asked.best)
    cells = labelled(study, study.cells, [*keys, *([by] if by else [])])
    choice = best(cells, keys) if keys else Best(cells)
    table = point_table(choice.cells, by)
    metrics = metrics_of(study, asked)
    quantities = [quantity(table, metric, asked.decimals) for metric in metrics]
    if asked.columns is None:
        quantities[1:] = map(without_intervals, quantities[1:])
    minus = _minus(study, asked, table, next(iter(metrics), None))
    known = [own for own in quantities if own.is_known]
    columns = [shown(table, own) for own in known]
    if minus and minus.known:
        columns.insert(1, shown_differences(minus, asked.decimals))
    columns += chosen(table, keys)
    notes = [*choice.notes, *_unknown(quantities), *estimates_note(known)]
    notes += [*(difference_notes(minus) if minus and (minus.known or asked.baseline) else ()), *_lacking(columns)]
    return replace(_page(table, columns, notes, asked), reasons=tuple(_unfinished(study)) if reasons else ())


def line_page(study: Study, kind: str, asked: Asked) -> Page:
    """Return the lines of a study's cells of a kind, such as evaluations, by default with series as columns.

    Raises ConfigError for lines that are no table, and for a name that they do not know.
    """
    if asked.baseline or asked.best is not None:
        raise ConfigError(f"--baseline and --best compare cells; leave them out, or --rows {kind}.")
    lines = line_cells(study, kind, asked.columns)
    by = asked.by if asked.by == lines.axis else setting_column(lines.cells, asked.by or SERIES)
    table = point_table(labelled(study, lines.cells, [by]), by, lines.axis)
    quantities = [quantity(table, metric, asked.decimals) for metric in lines.metrics]
    return _page(table, [shown(table, own) for own in quantities], list(estimates_note(quantities)), asked)


def _page(table: PointTable, columns: Sequence[Shown], notes: Sequence[str], asked: Asked) -> Page:
    made = grid(table, [*columns, seeds(table)], _marks(table))
    under = [*_constants(made), *notes, *_controls(table), *table_notes(table.cells.iloc[np.concatenate(table.places)])]
    bold = _bold(table, made) if any(entry.best for row in made.rows for entry in row) else ""
    return Page(made, bold, tuple(under), caption=asked.caption, label=asked.label)


def _minus(study: Study, asked: Asked, table: PointTable, metric: str | None) -> Differences | None:
    """Return the differences of the first metric to the series that is asked for, or to the study's own reference."""
    labels = list(dict.fromkeys(table.numbers[SERIES]))
    if metric is None:
        return None
    if asked.baseline:
        return differences(study, table, metric, named_series(labels, asked.baseline))
    if asked.columns or metric != study.accuracy or study.reference is None or study.reference.label not in labels:
        return None
    return differences(study, table, metric, study.reference.label)


def _marks(table: PointTable) -> list[str]:
    """Return the marks of each point, whose footnotes are those of `table_notes`."""
    flags = (("stale", DAGGER), ("withheld", DOUBLE_DAGGER), ("overspent", OVERSPENT), ("n_failed", FAILED_SEEDS))
    return [" ".join(mark for name, mark in flags if point[name]) for point in records(table.numbers)]


def _constants(made: Grid) -> Iterator[str]:
    if made.constants:
        yield f"All rows: {'; '.join(made.constants)}."


def _unknown(quantities: Sequence[Quantity]) -> Iterator[str]:
    names = [described(own.metric).label for own in quantities if not own.is_known]
    if names:
        yield f"Not known in any cell: {', '.join(names)}."


def _bold(table: PointTable, made: Grid) -> str:
    where = "row" if table.by == SERIES else "column within its block" if made.blocks else "column"
    return f"the best of a {where}; {ASIDE}."


def _controls(table: PointTable) -> Iterator[str]:
    own = dict.fromkeys(table.numbers.loc[table.numbers["control"], SERIES])
    if own:
        yield f"Controls, which compete with nobody: {'; '.join(own)}."


def _lacking(columns: Sequence[Shown]) -> Iterator[str]:
    if any(entry.text == NOT_APPLICABLE for one in columns for entry in one.entries):
        yield LACKING


def _unfinished(study: Study) -> Iterator[str]:
    """Yield a line on each reason for which cells have no result, the most frequent first."""
    cells = study.cells[~study.cells["ok"]].fillna({"reason": "no reason recorded"})
    groups = [(tuple(map(str, key)), list(names)) for key, names in cells.groupby(["status", "reason"])[SERIES]]
    for (status, reason), names in sorted(groups, key=lambda group: -len(group[1])):
        yield f"{len(names)} {status.replace('_', ' ')}: {printable(reason)} ({', '.join(sorted(set(names)))})"

"""The settings that are best on validation data, so that nobody picks them by the test numbers that a table shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.judgement.choices import edges, ranked, trial
from fedfore.judgement.selection import column, settings, short, varying
from fedfore.plots.fields import value_label
from fedfore.plots.points import POINT, records
from fedfore.plots.tables.grid import Entry, Shown
from fedfore.plots.tables.point_table import SERIES, PointTable
from fedfore.plots.wording import UNKNOWN

TUNED = ("lr", "init_scale")
"""The keys that are chosen unless others are named."""


@dataclass(frozen=True)
class Best:
    """Cells of a study of which each point has its best setting alone, and sentences on what was chosen among what."""

    cells: pd.DataFrame
    notes: tuple[str, ...] = ()


def tuned_columns(cells: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return the columns of these keys, or of those of `TUNED`, in which cells of a method differ.

    Raises ConfigError for a key that there is not, and where there is nothing to choose.
    """
    try:
        named = [column(cells, key) for key in keys]
    except ConfigError as error:
        raise ConfigError(f"--best: {error}") from None
    differing = {name for _, own in cells.groupby("method") for name in varying(own)}
    found = named or [name for name in settings(cells) if name in differing and short(name) in TUNED]
    for name in named:
        if name not in differing:
            raise ConfigError(f"--best {short(name)}: no two cells of a method differ in it; leave it out.")
    if not found:
        raise ConfigError(f"--best: no two cells of a method differ in {' or '.join(TUNED)}; name the keys to choose.")
    return found


def best(cells: pd.DataFrame, columns: Sequence[str]) -> Best:
    """Return the cells of the setting of each point whose mean validation accuracy over seeds is the highest.

    `cells` are `labelled` without these columns. The rule is that of tuning: a cell that failed counts as chance, and
    ties go to smaller values. Raises ConfigError where a cell that ended well knows no validation accuracy.
    """
    lacking = cells[cells["ok"] & cells["validation_accuracy"].isna()]
    if len(lacking):
        raise ConfigError(
            f"--best chooses by validation accuracy, and {lacking['cell_id'].iloc[0]} knows none; run the matrix with "
            "train.validation_fraction."
        )
    kept, at_edge, counts = [], [], set()
    for point, own in cells.groupby(list(POINT), observed=True):
        tried = _tried(own, columns)
        counts.add(len(tried))
        grid = {name: _in_order(own[name]) for name in columns}
        trials = [trial("tune2", values, _outcomes(rows)) for values, rows in tried]
        first = next(iter(ranked(trials, grid)), trials[0])
        kept.append(next(rows for values, rows in tried if values == first.values))
        if any(edges(first.values, grid)):
            at_edge.append(str(point[POINT.index(SERIES)]))
    return Best(pd.concat(kept), tuple(_notes(columns, counts, at_edge)))


def chosen(table: PointTable, columns: Sequence[str]) -> list[Shown]:
    """Return a quantity a key: the value of it that each point has."""
    values = {name: [table.cells[name].iloc[own[0]] for own in table.places] for name in columns}
    return [
        Shown(f"Chosen {short(name)}", tuple(Entry(UNKNOWN if one != one else value_label(one)) for one in own))
        for name, own in values.items()
    ]


def _notes(columns: Sequence[str], counts: Collection[int], at_edge: Sequence[str]) -> Iterator[str]:
    number = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{max(counts)}"
    yield (
        f"{', '.join(map(short, columns))}: of {number} settings that of the highest mean validation accuracy; no test "
        "number had a part in the choice."
    )
    if at_edge:
        yield f"The choice lies at an edge of what was tried: {'; '.join(dict.fromkeys(at_edge))}."


def _tried(own: pd.DataFrame, columns: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return each setting of these columns among a point's cells with its rows."""
    groups = own.groupby(list(columns), dropna=False, sort=True)
    return [({name: _plain(rows[name].iloc[0]) for name in columns}, rows) for _, rows in groups]


def _outcomes(rows: pd.DataFrame) -> list[dict[str, Any]]:
    known = rows[["status", "validation_accuracy", "chance_accuracy"]].astype(object)
    return records(known.where(known.notna(), None))


def _in_order(values: pd.Series[Any]) -> tuple[Any, ...]:
    return tuple(sorted({_plain(value) for value in values}, key=lambda value: (isinstance(value, str), value or 0)))


def _plain(value: Any) -> Any:
    """Return a value of a key; None where the method has no such key."""
    return None if value != value else value

"""A table as it is printed: columns, rows of entries and what is the same in all rows, in whatever form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fedfore.plots.tables.point_table import BLOCK, DENSE, SERIES, PointTable, axis_text
from fedfore.plots.wording import UNKNOWN

_TITLES = {"dataset": "Data set", "alpha": "Clients' labels", SERIES: "Method", "moment": "Share of the budget"}


def axis_title(axis: str) -> str:
    """Return an axis as the title of a column."""
    return _TITLES.get(axis, axis.capitalize())


@dataclass(frozen=True)
class Entry:
    """What stands in a place: its text, the interval behind it, marks, and whether it is the best of its kind."""

    text: str
    interval: str = ""
    marks: str = ""
    best: bool = False


@dataclass(frozen=True)
class Shown:
    """A quantity at every point of a table: its title, and an entry a point.

    One that is `listed` has a single column, in which the entries of a row's points stand one after another.
    """

    title: str
    entries: tuple[Entry, ...]
    listed: bool = False


@dataclass(frozen=True)
class Column:
    """A column: its title, and the head that it shares with its neighbours, if any."""

    title: str
    head: str = ""

    @property
    def full_title(self) -> str:
        """The title where no head stands above it."""
        return f"{self.head}, {self.title}" if self.head else self.title


@dataclass(frozen=True)
class Grid:
    """A table. The first columns, `words` of them, say what a row is of; a block of rows begins at each of `blocks`.

    `constants` say what was left out because all rows have it.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    words: int
    blocks: tuple[int, ...]
    constants: tuple[str, ...]


@dataclass(frozen=True)
class _Places:
    """Where the points of a table stand: `at[row][value]` is a point's number, None where there is no such point."""

    stub: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    values: tuple[str, ...]
    at: tuple[tuple[int | None, ...], ...]


def grid(table: PointTable, shown: Sequence[Shown], marks: Sequence[str]) -> Grid:
    """Return the table of these quantities, each of which has an entry a point; `marks` has the marks of each point.

    What reads alike at all points has no column. Marks stand at the name of a series that has them at all points of its
    row or of its column, else at the first quantity.
    """
    places = _places(table)
    if table.by == SERIES:
        places, marks = _with_marked_values(places, marks)
    named, entries = _with_marks(places, shown[0].entries, marks)
    shown = [replace(shown[0], entries=entries), *shown[1:]]
    kept = [axis for axis in places.stub if table.numbers[axis].nunique() > 1] or [_narrowest(places.stub)]
    said = [one for one in shown if len(table.numbers) > 1 and _is_constant(one)]
    columns = [Column(axis_title(axis)) for axis in kept]
    rows = [[_name(axis, row, places, mark) for axis in kept] for row, mark in zip(places.rows, named, strict=True)]
    for one in shown:
        if one not in said:
            own = _columns(places, one)
            columns += own
            for row, cells in zip(rows, _cells(places, one, len(own)), strict=True):
                row += cells
    alone = [table.by] if table.by and len(places.values) == 1 else []
    constants = [_constant(table, axis) for axis in (*places.stub, *alone) if axis not in kept]
    constants += [f"{_uncapitalised(one.title.rstrip(' ↑↓'))} {one.entries[0].text}" for one in said]
    return Grid(
        tuple(columns),
        tuple(map(tuple, rows)),
        len(kept),
        tuple(_blocks(table, places)),
        tuple(filter(None, constants)),
    )


def _places(table: PointTable) -> _Places:
    numbers = table.numbers
    stub = tuple(axis for axis in table.axes if axis != table.by)
    keys = [tuple(row) for row in numbers[list(stub)].itertuples(index=False, name=None)]
    own = list(numbers[table.by]) if table.by else [None] * len(numbers)
    values = _in_order(numbers[table.by]) if table.by else [None]
    number = {point: place for place, point in enumerate(zip(keys, own, strict=True))}
    rows = tuple(dict.fromkeys(keys))
    at = tuple(tuple(number.get((row, value)) for value in values) for row in rows)
    return _Places(stub, rows, tuple(axis_text(table.by, value) for value in values) if table.by else ("",), at)


def _in_order(column: pd.Series[Any]) -> list[Any]:
    return list(column.drop_duplicates().sort_values())


def _with_marked_values(places: _Places, marks: Sequence[str]) -> tuple[_Places, list[str]]:
    """Return the places with marks behind values that have them in all rows, and the marks that are left."""
    values, left = list(places.values), list(marks)
    for column, value in enumerate(places.values):
        points = [place for row in places.at if (place := row[column]) is not None]
        if len({marks[place] for place in points}) == 1 and marks[points[0]]:
            values[column] = f"{value} {marks[points[0]]}"
            for place in points:
                left[place] = ""
    return replace(places, values=tuple(values)), left


def _with_marks(places: _Places, entries: Sequence[Entry], marks: Sequence[str]) -> tuple[list[str], tuple[Entry, ...]]:
    """Return the marks of each row's name, and the entries of the first quantity with those of single points."""
    named, marked = [], list(entries)
    for row in places.at:
        points = [place for place in row if place is not None]
        own = {marks[place] for place in points}
        shared = own.pop() if len(own) == 1 and SERIES in places.stub else None
        named.append(shared or "")
        for place in points if shared is None else ():
            marked[place] = replace(entries[place], marks=entries[place].marks + marks[place])
    return named, tuple(marked)


def _name(axis: str, row: tuple[Any, ...], places: _Places, mark: str) -> Entry:
    return Entry(axis_text(axis, row[places.stub.index(axis)]), marks=mark if axis == SERIES else "")


def _is_constant(one: Shown) -> bool:
    return len(set(one.entries)) == 1 and one.entries[0].text != UNKNOWN


def _columns(places: _Places, one: Shown) -> list[Column]:
    """Return the columns of a quantity: one a value, or a single one where no row differs in it."""
    rows = [{one.entries[place] for place in row if place is not None} for row in places.at]
    if one.listed or all(len(own) == 1 for own in rows):
        return [Column(one.title)]
    return [Column(value, one.title) for value in places.values]


def _cells(places: _Places, one: Shown, width: int) -> list[list[Entry]]:
    """Return the entries of each row in that many columns."""
    found = []
    for row in places.at:
        known = dict.fromkeys(one.entries[place] for place in row if place is not None)
        if one.listed:
            found.append([Entry(", ".join(entry.text for entry in known))])
        elif width < len(row):
            found.append(list(known))
        else:
            found.append([Entry(UNKNOWN) if place is None else one.entries[place] for place in row])
    return found


def _narrowest(stub: Sequence[str]) -> str:
    """Return the axis that names a single row."""
    return SERIES if SERIES in stub else stub[-1]


def _constant(table: PointTable, axis: str) -> str:
    text = axis_text(axis, table.numbers[axis].iloc[0])
    return "" if text == DENSE else f"{_uncapitalised(axis_title(axis))} {text}"


def _uncapitalised(title: str) -> str:
    """Return a title as it stands within a sentence."""
    return title if title[:2].isupper() else f"{title[:1].lower()}{title[1:]}"


def _blocks(table: PointTable, places: _Places) -> list[int]:
    """Return the rows at which another data set, model or label distribution begins, or the controls of one."""
    firsts = [next(place for place in row if place is not None) for row in places.at]
    apart = [*(axis for axis in BLOCK if axis in places.stub), *(["control"] if SERIES in places.stub else [])]
    keys = table.numbers.loc[firsts, apart]
    rows = list(keys.astype(str).itertuples(index=False, name=None))
    return [place for place in range(1, len(rows)) if rows[place] != rows[place - 1]]

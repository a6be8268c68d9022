"""Contrasts: what a matrix asks of its records, stated before its cells run (`[[contrast]]`).

    [[contrast]]
    name = "NTK mask against dense"
    of = { method = "fed_ntk_zo", saliency = "ntk" }
    against = { method = "baffle" }
    margin = 0.01
    family = "masks"

`of` and `against` are filters as a card has them (see `selection.fitting`). What `of` leaves open, such as alpha, makes
one comparison a setting, each a member of the family; where `against` leaves it open too, both sides agree in it.

`[[control]]` tables, each with a filter `where`, name the series that compete with nobody and are shown apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.documents import Finite
from fedfore.judgement.selection import fitting, has_column, short, telling, varying
from fedfore.records.metrics import METRICS

Filters = Mapping[str, Any]
Positive = Annotated[Finite, Field(gt=0.0)]
_CHOSEN_ON_TEST_DATA = ("best_test_accuracy",)
TABLES = ("contrast", "control")
"""The tables of a matrix that say how its records are judged."""


@dataclass(frozen=True)
class Contrast:
    """One question of a matrix, a table of `[[contrast]]`."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called, by tables, figures and claims."""
    of: Filters
    """Which cells are one side: by axis, by a key of a method, by any field of a record; a list fits each of its
    values."""
    against: Filters | Finite
    """Which cells are the other side, or a number, such as a published accuracy. What both sides leave open makes a
    comparison each, in which they agree."""
    metric: str = "test_accuracy"
    """What is compared; one that only describes is refused, and so is one that no verdict may rest on."""
    compare: Literal["difference", "ratio"] = "difference"
    """Whether `of` minus `against` is asked for, or their ratio, for which geometric means are taken."""
    margin: Positive | None = None
    """What is too small to matter, in the metric's unit or relative for a ratio. Unset, nothing is equivalent."""
    family: str = "study"
    """The comparisons that are corrected together; unset, all of the matrix are one family."""
    at_most: Mapping[str, Finite] = field(default_factory=dict)
    """What a side's mean of other fields must not exceed for it to be judged, such as { churn = 0.5 } where a mask is
    to move and not only to flicker; a side that does not know the field passes."""

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Control:
    """Series that compete with nobody, a table of `[[control]]`: those of all cells that `where` fits."""

    where: Filters = field(default_factory=dict)

    __pydantic_config__ = ConfigDict(extra="forbid")


_CONTRAST, _CONTROL = TypeAdapter(Contrast), TypeAdapter(Control)


def contrasts(document: Mapping[str, Any]) -> list[Contrast]:
    """Return the contrasts of a matrix. Raises ConfigError for a table that is none, and for two of one name."""
    found = [_contrast(number, table) for number, table in enumerate(_tables(document, "contrast"), 1)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'Two contrasts are called "{name}"; give each a name of its own.')
    return found


def controls(document: Mapping[str, Any]) -> list[Control]:
    """Return the filters of a matrix' controls. Raises ConfigError for a table that is none."""
    tables = enumerate(_tables(document, "control"), 1)
    found: list[Control] = [_validated(_CONTROL, f"[[control]] {number}", table) for number, table in tables]
    if not all(one.where for one in found):
        raise ConfigError("[[control]]: an empty `where` fits every cell; name the series that compete with nobody.")
    return found


def unanswered(document: Mapping[str, Any], cells: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on each contrast or control of a matrix that its planned cells (`settings_table`) cannot answer.

    Raises ConfigError for a table that is none.
    """
    yield from filter(None, (problem(cells, contrast) for contrast in contrasts(document)))
    for control in controls(document):
        where = f"[[control]] where = {dict(control.where)!r}"
        try:
            fits = fitting(cells, control.where)
        except ConfigError as error:
            yield f"{where}: {error}"
            continue
        if not fits.any():
            yield f"{where} fits no cell; correct it, or leave it out."


def _tables(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    tables = document.get(name, [])
    if not isinstance(tables, list):
        raise ConfigError(f"[{name}] is a list of tables; write [[{name}]].")
    return tables


def _contrast(number: int, table: Any) -> Contrast:
    found: Contrast = _validated(_CONTRAST, f"[[contrast]] {number}", table)
    reason = unjudged(found.metric)
    if reason:
        raise ConfigError(f'Contrast "{found.name}": {reason}')
    for name in found.at_most:
        if name not in METRICS:
            raise ConfigError(
                f'Contrast "{found.name}": at_most: there is no metric "{name}".{suggestion(name, METRICS)}'
            )
    if found.compare == "ratio" and isinstance(found.against, float) and found.against <= 0:
        raise ConfigError(f'Contrast "{found.name}": there is no ratio to {found.against:g}; give a number above 0.')
    return found


def unjudged(metric: str) -> str:
    """Return why no verdict rests on a metric, as the end of a sentence; nothing where one may."""
    row = METRICS.get(metric)
    if row is None:
        return f'there is no metric "{metric}".{suggestion(metric, METRICS)}'
    if row.direction == "descriptive":
        return f"{metric} describes, and no side of it is better; take another metric."
    if metric in _CHOSEN_ON_TEST_DATA:
        return f"{metric} is chosen on test data, and no verdict rests on it; take test_accuracy."
    return f"{metric} is a time of this machine, not of a device; take another metric." if row.unit == "s" else ""


def _validated(adapter: TypeAdapter[Any], where: str, table: Any) -> Any:
    try:
        return adapter.validate_python(table)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {f'{key}: ' if key else ''}{first['msg'][0].lower()}{first['msg'][1:]}.") from None


def problem(
    cells: pd.DataFrame, contrast: Contrast, tuned: Sequence[str] = (), agreeing: Sequence[str] = ()
) -> str | None:
    """Return why a table's cells cannot answer a contrast, as a sentence; None where they can (see `pairings`)."""
    try:
        pairings(cells, contrast, tuned, agreeing)
    except ConfigError as error:
        return str(error)
    return None


def answerable(
    cells: pd.DataFrame, asked: Iterable[Contrast], tuned: Sequence[str] = (), agreeing: Sequence[str] = ()
) -> Iterator[Pairing]:
    """Yield the `pairings` of those contrasts that a table's cells can answer."""
    for contrast in asked:
        with suppress(ConfigError):
            yield from pairings(cells, contrast, tuned, agreeing)


@dataclass(frozen=True)
class Pairing:
    """One comparison of a contrast: the rows of both sides in a table, and the setting in which they are compared.

    `setting` has the columns in which the comparisons of the contrast differ, by their short names. `against` is empty
    where the contrast is against a number.
    """

    contrast: Contrast
    setting: Mapping[str, Any]
    of: pd.Index[Any]
    against: pd.Index[Any]


def pairings(
    cells: pd.DataFrame, contrast: Contrast, tuned: Sequence[str] = (), agreeing: Sequence[str] = ()
) -> list[Pairing]:
    """Return the comparisons of a contrast among a table's cells, of which only those to be reported count.

    `tuned` are the columns of keys whose values were chosen and make no setting of their own; in those of `agreeing`
    both sides agree, even where one of them has a single value. Raises ConfigError where a filter fits no cell, where a
    cell is on both sides, and where a setting has several opponents or none.
    """
    of, against = _side(cells, contrast, "of", contrast.of), _opponents(cells, contrast)
    both = of.index.intersection(against.index)
    if len(both):
        raise ConfigError(f'Contrast "{contrast.name}": {cells.loc[both[0], "cell_id"]} is on both sides; narrow one.')
    shared = list(dict.fromkeys([*agreeing, *varying(against, leave_out=tuned)]))
    own = varying(of, leave_out=tuned)
    keys = list(dict.fromkeys([*own, *shared]))
    if not keys:
        return [Pairing(contrast, {}, of.index, against.index)]
    naming = telling(of, own)
    opponents = {key: rows.index for key, rows in _groups(against, shared)} if shared else {(): against.index}
    found = []
    for key, rows in _groups(of, keys):
        values = dict(zip(keys, key, strict=True))
        opponent = opponents.get(tuple(values[name] for name in shared))
        if opponent is not None:
            found.append(Pairing(contrast, {short(name): values[name] for name in naming}, rows.index, opponent))
    if not found:
        raise ConfigError(
            f'Contrast "{contrast.name}": against differs in {", ".join(map(short, shared))}, in which no cell of the '
            "other side agrees with it; name a value of it in `against`."
        )
    return found


def _opponents(cells: pd.DataFrame, contrast: Contrast) -> pd.DataFrame:
    if isinstance(contrast.against, float):
        return cells.iloc[:0]
    return _side(cells, contrast, "against", contrast.against)


def _side(cells: pd.DataFrame, contrast: Contrast, name: str, filters: Filters) -> pd.DataFrame:
    try:
        rows = cells[fitting(cells, filters) & cells["stage"].eq("report").to_numpy(dtype=bool)]
    except ConfigError as error:
        raise ConfigError(f'Contrast "{contrast.name}", {name}: {error}') from None
    if rows.empty:
        said = ", ".join(f"{key} = {value!r}" for key, value in filters.items()) or "no filter"
        raise ConfigError(f'Contrast "{contrast.name}": no cell fits `{name}` ({said}).')
    return rows


def _groups(rows: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Yield the rows of each combination of values, as values that are equal where they mean the same."""
    plain = rows[list(names)].astype(object)
    plain = plain.where(plain.notna(), None)
    keys = pd.Series(list(plain.itertuples(index=False, name=None)), index=rows.index, dtype=object)
    for key in dict.fromkeys(keys):
        yield key, rows[[one == key for one in keys]]


def is_control(cells: pd.DataFrame, found: Sequence[Control]) -> pd.Series[bool]:
    """Return which rows are of controls: those that a control of the matrix fits, and those of the exact gradient.

    A control of settings that no cell has fits none: what a command leaves out of a matrix is not asked for.
    """
    marked = cells["estimator"].eq("exact")
    for one in found:
        if all(has_column(cells, name) for name in one.where):
            marked |= fitting(cells, one.where)
    return marked

"""Which rows of a table of cells a filter names: by axis, by a method's own key, by a key of `train`, by any field."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.typing import DataFrameGroupBy

from fedfore.errors import ConfigError, suggestion

AXES = ("method", "dataset", "model", "sparsity_asked", "alpha", "estimator")
"""The columns of settings that every method has."""
GROUPS = ("params.", "train.")
"""How the other columns of settings begin."""
_ALSO = {"sparsity": ("sparsity_asked",)}
_LINES = ("seed", "moment", "layer", "round")
_MOST_SHOWN = 3


def column(table: pd.DataFrame, name: str) -> str:
    """Return the column that a filter or a metric names: itself, or a parameter or a key of `train`.

    Raises ConfigError where no column has the name.
    """
    for candidate in _candidates(name):
        if candidate in table:
            return candidate
    known = {short(part) for part in map(str, table)}
    raise ConfigError(f'nothing is called "{name}".{suggestion(name, known)}')


def short(column: str) -> str:
    """Return a column's name as filters and sentences have it: "params.lr" -> "lr", "sparsity_asked" -> "sparsity"."""
    return column.removeprefix("params.").removeprefix("train.").removesuffix("_asked")


def has_column(table: pd.DataFrame, name: str) -> bool:
    """Return whether a filter or a metric of that name means a column."""
    return any(candidate in table for candidate in _candidates(name))


def _candidates(name: str) -> tuple[str, ...]:
    return (name, *_ALSO.get(name, ()), *(group + name for group in GROUPS))


def fitting(table: pd.DataFrame, filters: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows all filters fit, a list any of whose values fits. Raises ConfigError for an unknown name."""
    fits = np.ones(len(table), dtype=bool)
    for name, wanted in filters.items():
        values = table[column(table, name)]
        options = wanted if isinstance(wanted, list) else [wanted]
        fits &= np.logical_or.reduce([_equal(values, option) for option in options])
    return fits


def _equal(values: pd.Series[Any], wanted: object) -> NDArray[np.bool_]:
    same = values == wanted
    if isinstance(wanted, bool):  # 1 is not True
        same &= values.map(lambda value: isinstance(value, bool | np.bool_))
    return np.asarray(same | values.isna() if wanted == "none" else same, dtype=bool)


def places_of(groups: DataFrameGroupBy[Any, Any]) -> list[NDArray[np.intp]]:
    """Return the places of each group's rows in the table, in the order of groups."""
    numbers = groups.ngroup().fillna(-1).to_numpy(dtype=np.intp)
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], np.arange(numbers.max(initial=-1) + 1))
    return np.split(order, starts)[1:]


def settings(table: pd.DataFrame) -> list[str]:
    """Return the columns that say what a cell is, but for its seed."""
    return [name for name in map(str, table) if name in AXES or name.startswith(GROUPS)]


def varying(table: pd.DataFrame, leave_out: Collection[str] = ()) -> list[str]:
    """Return the columns of settings in which rows differ, but for those that are left out."""
    return [name for name in settings(table) if name not in leave_out and table[name].nunique(dropna=False) > 1]


def telling(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the first of these columns that tell rows apart as well as all of them do."""
    texts = rows[list(names)].astype(str)
    kept: list[str] = []
    told, all_told = min(len(rows), 1), len(texts.drop_duplicates())
    for name in names:
        if told == all_told:
            break
        count = len(texts[[*kept, name]].drop_duplicates())
        if count > told:
            kept, told = [*kept, name], count
    return kept


def several(table: pd.DataFrame, keys: pd.DataFrame) -> str | None:
    """Return what rows of a table with the same keys differ in, as the end of a sentence; None where there are none.

    `keys` has the table's index, or a part of it.
    """
    alike = keys[keys.duplicated(keep=False)]
    if alike.empty:
        return None
    rows = table.loc[alike.index[(alike == alike.iloc[0]).all(axis=1)]]
    differing = [*varying(rows), *(name for name in _LINES if name in rows and rows[name].nunique(dropna=False) > 1)]
    return ", ".join(differing[:_MOST_SHOWN]) or "nothing that is recorded"


def is_on(cells: pd.DataFrame, switch: str) -> pd.Series[bool]:
    """Return which rows have a switch of the protocol on, such as `train.setup_only`; none where it is no column."""
    return cells[switch].eq(True) if switch in cells else pd.Series(False, cells.index)


def is_trained(cells: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are to go on to training, beyond setup and meters."""
    return ~(is_on(cells, "train.setup_only") | is_on(cells, "train.meter_only"))

"""The records of published studies as rows that quantities choose from: each study is read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedfore.errors import ConfigError, suggestion
from fedfore.records.store import Run, load_table, open_run

MESSAGES = "exchanges.jsonl"
"""Of a study of messages, which runs no cells: one line an exchange, as `fedfore messages --json` prints it."""
_GROUPS = ("params.", "train.")
_ALSO = {"sparsity": ("sparsity_asked",)}
_AXES = ("method", "dataset", "model", "sparsity_asked", "alpha", "estimator", "seed", "moment", "layer", "round")
_MOST_SHOWN = 3


class Archive:
    """The studies of a folder, by name."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._runs: dict[str, Run] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        self._lines: dict[tuple[str, str], pd.DataFrame] = {}

    def table(self, study: str) -> pd.DataFrame:
        """Return one row a planned cell of a study, or one an exchange. Raises ConfigError where there is no such."""
        if study not in self._tables:
            self._tables[study] = self._read(study)
        return self._tables[study]

    def _read(self, study: str) -> pd.DataFrame:
        folder = self.results / study
        if not folder.is_dir():
            known = [path.name for path in self.results.iterdir() if path.is_dir()]
            raise ConfigError(f'there is no study "{study}".{suggestion(study, known)}')
        if (folder / MESSAGES).exists():
            return pd.read_json(folder / MESSAGES, lines=True).assign(status="ok", seed=0)
        return load_table(self._run(study))

    def _run(self, study: str) -> Run:
        if study not in self._runs:
            self._runs[study] = open_run(self.results / study)
        return self._runs[study]

    def lines(self, study: str, name: str) -> pd.DataFrame:
        """Return the lines `name` of a study's cells that ended well, one row a line, with its cell's fields."""
        if (study, name) not in self._lines:
            self._lines[study, name] = self._read_lines(study, f"{name}.jsonl")
        return self._lines[study, name]

    def _read_lines(self, study: str, file: str) -> pd.DataFrame:
        cells = self.table(study)
        cells = cells[cells["status"] == "ok"]
        run = self._run(study)
        own = {cell_id: run.table_of_lines(cell_id, file) for cell_id in cells["cell_id"]}
        known = {cell_id: lines for cell_id, lines in own.items() if len(lines)}
        if not known:
            return cells.iloc[:0]
        lines = pd.concat(known, names=["cell_id", "line"]).reset_index()
        both = [name for name in lines if name in cells and name != "cell_id"]
        return lines.merge(cells.drop(columns=both), on="cell_id")


def column(table: pd.DataFrame, name: str) -> str:
    """Return the column that a filter or a metric names: itself, or a parameter or a key of `train`.

    Raises ConfigError where no column has the name.
    """
    for candidate in _candidates(name):
        if candidate in table:
            return candidate
    known = {part.removeprefix("params.").removeprefix("train.") for part in map(str, table)}
    raise ConfigError(f'nothing is called "{name}".{suggestion(name, known)}')


def has_column(table: pd.DataFrame, name: str) -> bool:
    """Return whether a filter or a metric of that name means a column."""
    return any(candidate in table for candidate in _candidates(name))


def _candidates(name: str) -> tuple[str, ...]:
    return (name, *_ALSO.get(name, ()), *(group + name for group in _GROUPS))


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


def several(table: pd.DataFrame, keys: pd.DataFrame) -> str | None:
    """Return what rows of a table with the same keys differ in, as the end of a sentence; None where there are none.

    `keys` has the table's index, or a part of it.
    """
    alike = keys[keys.duplicated(keep=False)]
    if alike.empty:
        return None
    rows = table.loc[alike.index[(alike == alike.iloc[0]).all(axis=1)]]
    settings = [name for name in map(str, rows) if name in _AXES or name.startswith(_GROUPS)]
    differing = [name for name in settings if rows[name].nunique(dropna=False) > 1]
    return ", ".join(differing[:_MOST_SHOWN]) or "nothing that is recorded"

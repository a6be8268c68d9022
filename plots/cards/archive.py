"""The records of published studies as rows that quantities choose from: each study is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.records.store import Run, load_table, open_run

MESSAGES = "exchanges.jsonl"
"""Of a study of messages, which runs no cells: one line an exchange, as `fedfore messages --json` prints it."""
_GROUPS = ("params.", "train.")
_ALSO = {"sparsity": "sparsity_asked"}
_AXES = ("method", "dataset", "model", "sparsity_asked", "alpha", "estimator", "seed", "moment", "layer", "round")
_MOST_SHOWN = 3


class Archive:
    """The studies of a folder, by name."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._runs: dict[str, Run] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        self._lines: dict[tuple[str, str, str], pd.DataFrame] = {}

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
        return self._runs.setdefault(study, open_run(self.results / study))

    def lines(self, study: str, cells: pd.DataFrame, name: str) -> pd.DataFrame:
        """Return the lines `name` of these cells of a study, one row a line, each with its cell's fields as well."""
        own = {cell_id: self._lines_of(study, cell_id, name) for cell_id in cells["cell_id"]}
        known = {cell_id: lines for cell_id, lines in own.items() if len(lines)}
        if not known:
            return cells.iloc[:0]
        lines = pd.concat(known, names=["cell_id", "line"]).reset_index()
        return lines.merge(cells.drop(columns=[name for name in lines if name in cells and name != "cell_id"]))

    def _lines_of(self, study: str, cell_id: str, name: str) -> pd.DataFrame:
        key = (study, cell_id, name)
        if key not in self._lines:
            self._lines[key] = self._run(study).table_of_lines(cell_id, f"{name}.jsonl")
        return self._lines[key]


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
    return (_ALSO.get(name, name), *(group + name for group in _GROUPS))


def chosen(table: pd.DataFrame, filters: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows that all filters fit, a list any of whose values fits. Raises ConfigError for an unknown name."""
    fits = np.ones(len(table), dtype=bool)
    for name, wanted in filters.items():
        values = table[column(table, name)]
        options = wanted if isinstance(wanted, list) else [wanted]
        fits &= np.logical_or.reduce([_equal(values, option) for option in options])
    return table[fits]


def _equal(values: pd.Series[Any], wanted: object) -> np.ndarray[Any, np.dtype[np.bool_]]:
    same = values == wanted
    if isinstance(wanted, bool):  # 1 is not True
        same &= values.map(lambda value: isinstance(value, bool | np.bool_))
    return np.asarray(same | values.isna() if wanted == "none" else same, dtype=bool)


def several(rows: pd.DataFrame, keys: Sequence[str]) -> str | None:
    """Return what rows that agree in `keys` differ in, as the end of a sentence; None where no two agree."""
    settings = [name for name in map(str, rows) if name in _AXES or name.startswith(_GROUPS)]
    for _, group in rows[rows.duplicated(list(keys), keep=False)].groupby(list(keys), dropna=False):
        differing = [name for name in settings if group[name].nunique(dropna=False) > 1]
        return ", ".join(differing[:_MOST_SHOWN]) or "nothing that is recorded"
    return None

"""The published studies of a folder: each is read once, as rows that quantities, contrasts and claims are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.records.store import Run, load_table, open_run

MESSAGES = "exchanges.jsonl"
"""Of a study of messages, which runs no cells: one line an exchange, as `fedfore messages --json` prints it."""


@dataclass(frozen=True)
class Sample:
    """The values that a statistic is taken of, indexed by what tells them apart.

    `unfinished` counts, by status, the planned cells that were chosen and have no value, `failed` those that have the
    accuracy of chance.
    """

    values: pd.Series[Any]
    unfinished: Mapping[str, int]
    failed: Mapping[str, int] = field(default_factory=dict)


class Archive:
    """The studies of a folder, by name; `samples` are those that were taken of them, by what was asked."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.samples: dict[str, Sample] = {}
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
        return load_table(self.run(study))

    def run(self, study: str) -> Run:
        """Return the records of a study that runs cells."""
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
        run = self.run(study)
        own = {cell_id: run.table_of_lines(cell_id, file) for cell_id in cells["cell_id"]}
        known = {cell_id: lines for cell_id, lines in own.items() if len(lines)}
        if not known:
            return cells.iloc[:0]
        lines = pd.concat(known, names=["cell_id", "line"]).reset_index()
        both = [name for name in lines if name in cells and name != "cell_id"]
        return lines.merge(cells.drop(columns=both), on="cell_id")

"""Runs as a notebook has them: frames of their cells and lines, and a table to look at. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.plots.cards.published import run_folders
from fedfore.plots.study import load_study
from fedfore.plots.tables.asked import Asked
from fedfore.plots.tables.exports import tidy
from fedfore.plots.tables.forms import as_html
from fedfore.plots.tables.lines import KINDS, line_rows
from fedfore.plots.tables.page import page
from fedfore.python.arguments import typed
from fedfore.records.markup import in_html
from fedfore.records.store import Run, load_table, open_run, remarks

RUN = "run"
"""The column that says of which run a row is."""
MOST_ROWS = 24
"""Rows of a run's table that a notebook shows."""


@dataclass(frozen=True, eq=False)
class Results:
    """What lies in runs, live or published, at the first question about it; `load` reads them anew.

    Frames have the columns of `fedfore show --csv`, behind one that names the run, and one type a column: alpha is
    text. They are made once. `runs` are in the order in which they were given.
    """

    runs: tuple[Run, ...]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a planned cell: its settings and every field of its record, null where it has none."""
        return self._frame([load_table(run) for run in self.runs])

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row an evaluated round: the settings of its cell, what was spent until then, accuracy and loss."""
        return self.lines("rounds")

    @cached_property
    def layers(self) -> pd.DataFrame:
        """One row a prunable layer of a cell that ended: the settings of its cell, its weights and those kept."""
        return self.lines("layers")

    @typed
    def lines(self, kind: str) -> pd.DataFrame:
        """Return one row a line that stands beside the records: "rounds", "layers", "diagnostics", "adjustments",
        "clients" or "eigenvalues", each with the settings of its cell.

        Raises ConfigError for another kind.
        """
        if kind not in KINDS:
            raise ConfigError(f'There are no lines called "{kind}".{suggestion(kind, KINDS)}')
        return self._frame([line_rows(run, kind) for run in self.runs])

    @cached_property
    def figures(self) -> pd.DataFrame:
        """One row a figure that `fedfore.plot` can draw of each run: its name, and what it shows."""
        from fedfore.plots.figures import plan_figures

        studies = zip(self.names, map(load_study, self.runs), strict=True)
        rows = [(name, one.name, one.title) for name, study in studies for one in plan_figures(study)]
        return pd.DataFrame(rows, columns=[RUN, "figure", "title"])

    @property
    def names(self) -> tuple[str, ...]:
        """What the column `run` calls each run: its folder, or the way to it where two folders have one name."""
        folders = [run.path.resolve().name for run in self.runs]
        here = Path.cwd()
        paths = [str(run.path.relative_to(here) if run.path.is_relative_to(here) else run.path) for run in self.runs]
        return tuple(path if folders.count(name) > 1 else name for name, path in zip(folders, paths, strict=True))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know first: records that are stale, damaged or not of the plan."""
        return tuple(sentence for run in self.runs for sentence in remarks(run))

    def __repr__(self) -> str:
        return "\n".join([*self._summaries(), *self.remarks])

    def _repr_html_(self) -> str:
        parts = []
        for run, summary in zip(self.runs, self._summaries(), strict=True):
            parts += [f"<p><b>{in_html(summary)}</b></p>", *_table(run)]
        return "\n".join([*parts, *(f"<p>{in_html(sentence)}</p>" for sentence in self.remarks)])

    def _frame(self, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        for name, table in zip(self.names, tables, strict=True):
            table.insert(0, RUN, name)
        return tidy(pd.concat(tables, ignore_index=True))

    def _summaries(self) -> Iterator[str]:
        """Yield of each run what it is of, and how its cells ended."""
        for name, run in zip(self.names, self.runs, strict=True):
            cells = load_table(run)
            counts = ", ".join(f"{count} {status}" for status, count in cells["status"].value_counts().items())
            subject = ", ".join(", ".join(cells[axis].unique()) for axis in ("dataset", "model"))
            yield f"{name}: {len(cells)} cells ({counts}) of {subject}"


def load(*runs: str | Path) -> Results:
    """Return the results of runs: folders, live or published, or names of studies in ./results.

    Raises ConfigError for what is no run or is named twice, StoreError where a plan cannot be read.
    """
    opened = runs_of(*runs)
    for run in opened:
        run.plan()
    return Results(tuple(opened))


def runs_of(*given: str | Path | Results) -> list[Run]:
    """Return the runs of results, and those that paths or names say, in their order. Raises ConfigError as `load`."""
    known = {run.path: run for one in given if isinstance(one, Results) for run in one.runs}
    named = [path for one in given for path in ([run.path for run in one.runs] if isinstance(one, Results) else [one])]
    if not named or not all(isinstance(path, str | Path) and str(path) for path in named):
        raise ConfigError("Name a run: its folder, or a study in ./results.")
    return [known.get(folder) or open_run(folder.absolute()) for folder in run_folders(named)]


def _table(run: Run) -> Iterator[str]:
    """Yield the table of a run's methods as `fedfore show` has it, its first rows, if any cell has ended well."""
    if not load_table(run).query("stage == 'report' and status == 'ok'").size:
        return
    study = load_study(run)
    whole = page(study, Asked())
    yield as_html(replace(whole, grid=replace(whole.grid, rows=whole.grid.rows[:MOST_ROWS])))
    left = len(whole.grid.rows) - MOST_ROWS
    if left > 0:
        yield f"<p><small>and {left} more rows: fedfore show {in_html(str(run.path))}</small></p>"

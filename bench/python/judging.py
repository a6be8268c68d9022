"""Comparisons in Python, as `fedfore compare` judges them. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedfore.plots.tables.compared import Repeated, Section, repeated, sections
from fedfore.plots.tables.sections import as_html, as_rows, as_text
from fedfore.python.arguments import typed
from fedfore.python.results import Results, runs_of
from fedfore.records.store import Run


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Judged comparisons of runs. Printed, they are what `fedfore compare` prints."""

    runs: tuple[Run, ...]
    sections: tuple[Section, ...]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a comparison: what is compared, the difference or ratio with its interval, and the verdict."""
        return as_rows(self.sections)

    @cached_property
    def repeated(self) -> tuple[Repeated, ...]:
        """The cells that each two of the runs have both, their numbers beside one another."""
        return tuple(repeated(self.runs))

    @typed
    def markdown(self, by: str | None = None) -> str:
        """Return the comparisons in Markdown, with the values of a setting as columns.

        Raises ConfigError for a setting that is misspelt.
        """
        return as_text(self.sections, self.repeated, by)

    def __repr__(self) -> str:
        return self.markdown()

    def _repr_html_(self) -> str:
        return as_html(self.sections)


@typed
def compare(
    *runs: str | Path | Results, baseline: str | None = None, metric: str | None = None, margin: float | None = None
) -> Comparisons:
    """Return what runs say of the contrasts that their matrices ask for, or of every series against a baseline.

    Runs are given as to `fedfore.load`, or as its results. `margin`, with a baseline alone, is what is equivalent, in
    the metric's unit. Raises ConfigError for a name that is misspelt, StoreError for a run that cannot be read.
    """
    opened = runs_of(*runs)
    return Comparisons(tuple(opened), tuple(sections(opened, baseline, metric, margin)))

"""A run as figures and tables see it: one row a planned cell, each of them in a series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from fedfore.errors import StoreError
from fedfore.judgement.certificates import WITHHELD, certificates
from fedfore.judgement.choices import tuned_columns
from fedfore.judgement.judging import Judged, evidence, judged_of
from fedfore.plots.grouping import accuracy_of, as_evidence, grouped
from fedfore.plots.lines import lines_of
from fedfore.plots.looks import Look
from fedfore.plots.naming import Series
from fedfore.plots.points import POINT
from fedfore.plots.training import diagnosed, evaluations
from fedfore.records.store import LAYERS, Run, open_run

REFERENCE = "fedavg"
"""The dense method that others are compared with where a run has several."""


@dataclass(frozen=True)
class Study:
    """A run as figures and tables see it.

    `cells` has one row a planned cell that is reported: the columns of `fedfore.judgement.judging.evidence`, with
    `alpha` and `series` as ordered categories of labels, `alpha_asked`, `method_label`, `sparsity` as asked, `ok`,
    `trained`: whether the cell is to go on to training and be evaluated, `metered`: whether it runs nothing but the
    meters, `overspent`: whether it trained past its budget, `certificate` (see `fedfore.judgement.certificates`), and
    `withheld`: whether that keeps its point out of comparisons of what was trained. `trials` are the rows of `evidence`
    that tuned, which enter nothing else. `looks` are those of the run's methods, in the order of legends. `tuned` says
    which parameters take one value a point, such as a learning rate chosen for each sparsity, and so do not split a
    series; `left_out` what else differs between series than their labels say.
    """

    run: Run
    cells: pd.DataFrame
    trials: pd.DataFrame
    looks: Mapping[str, Look]
    series: tuple[Series, ...]
    tuned: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def ok(self) -> pd.DataFrame:
        """The cells that ended well."""
        return self.cells[self.cells["ok"]]

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """The cells as they are judged (see `fedfore.plots.grouping.as_evidence`)."""
        return as_evidence(self.cells)

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every comparison that the run's matrix asks for, judged. Raises as `fedfore.judgement.judging.judged_of`."""
        return tuple(judged_of(self.run, self.evidence))

    @property
    def accuracy(self) -> str:
        """The accuracy that the study shows (see `fedfore.plots.grouping.accuracy_of`)."""
        return accuracy_of(self.cells)

    @property
    def reference(self) -> Series | None:
        """The one series of a dense method without estimates, which others are compared with; of several `REFERENCE`.

        Of several of that method it is the one in its reference setting. None where there is no such series.
        """
        dense = [one for one in self.series if not one.has_sparsity and not one.estimated]
        named = [one for one in dense if one.method == REFERENCE] if len(dense) > 1 else dense
        plain = [one for one in named if one.label == self.looks[one.method].label] if len(named) > 1 else named
        return plain[0] if len(plain) == 1 else None

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """What was evaluated along training (see `fedfore.plots.training.evaluations`), of all ok cells."""
        return evaluations(self.run, self.ok)

    @cached_property
    def diagnoses(self) -> pd.DataFrame:
        """What was diagnosed along training (see `fedfore.plots.training.diagnosed`), of ok zeroth-order cells."""
        return diagnosed(self.run, self.ok[self.ok["estimator"].notna()])

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The lines of the ok cells on their prunable layers (see `fedfore.plots.lines.lines_of`)."""
        return lines_of(self.run, self.ok["cell_id"], LAYERS)

    def series_of(self, cells: pd.DataFrame) -> list[Series]:
        """Return the series that have an ok cell among these cells."""
        finished = set(cells.loc[cells["ok"], "series"])
        return [one for one in self.series if one.label in finished]

    def by_setting(self) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
        """Yield the planned cells of each (dataset, model), in the plan's order."""
        for (dataset, model), cells in self.cells.groupby(["dataset", "model"], sort=False):
            yield (str(dataset), str(model)), cells


def load_study(run: Path | Run) -> Study:
    """Read a run and group its cells into series. Raises StoreError for a run that cannot be read or plans nothing."""
    opened = open_run(run)
    planned = evidence(opened)
    reported = planned["stage"] == "report"
    if not reported.any():
        raise StoreError(f"The plan of {opened.path} holds no cell that is reported; run a matrix into it.")
    own = grouped(planned[reported], tuned_columns(opened))
    cells = own.cells.assign(certificate=certificates(own.cells, POINT))
    is_withheld = cells["certificate"].isin(WITHHELD) | cells["choice_at_edge"] | cells["lacks_choice"]
    cells = cells.assign(withheld=is_withheld).copy()  # in one piece
    return Study(opened, cells, planned[~reported], own.looks, own.series, own.tuned, own.left_out)


def shown_sparsity(cells: pd.DataFrame, series: Sequence[Series]) -> float | None:
    """Return the sparsity level that stands for a series in a curve: the lower median of the levels above 0.

    None where no series with a sparsity axis has finished a cell above 0.
    """
    sparse = (
        cells["ok"] & (cells["sparsity"] > 0) & cells["series"].isin([one.label for one in series if one.has_sparsity])
    )
    levels = sorted(cells.loc[sparse, "sparsity"].unique())
    return float(levels[(len(levels) - 1) // 2]) if levels else None

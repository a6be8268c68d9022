"""A run as figures and tables see it: one row a planned cell, each of them in a series."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.errors import StoreError
from fedfore.judgement.certificates import WITHHELD, certificates
from fedfore.judgement.choices import tuned_columns
from fedfore.judgement.judging import Judged, evidence, judged_of
from fedfore.judgement.sides import chance_accuracies
from fedfore.plots.budget import TOLERANCE, budget_used
from fedfore.plots.looks import Look, Wish, deal_looks
from fedfore.plots.naming import Series, method_series, saliency_looks
from fedfore.plots.points import POINT
from fedfore.plots.training import diagnosed, evaluations
from fedfore.plots.wording import HEADLINES, alpha_label
from fedfore.records.store import Run, open_run

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
        """The cells as they are judged: a table of `fedfore.judgement.judging.evidence`, with the labels of series."""
        return self.cells.assign(alpha=self.cells["alpha_asked"], series=self.cells["series"].astype(str))

    @cached_property
    def judged(self) -> tuple[Judged, ...]:
        """Every comparison that the run's matrix asks for, judged. Raises as `fedfore.judgement.judging.judged_of`."""
        return tuple(judged_of(self.run, self.evidence))

    @property
    def accuracy(self) -> str:
        """The accuracy that the study shows: the headline where some ok cell has it, else that of older records."""
        headline, older = HEADLINES
        return headline if self.ok[headline].notna().any() else older

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

    @property
    def compared(self) -> pd.DataFrame:
        """The cells, as if those of points that are withheld had not ended well."""
        return self.cells.assign(ok=self.cells["ok"] & ~self.cells["withheld"])

    def series_of(self, cells: pd.DataFrame) -> list[Series]:
        """Return the series that have an ok cell among these cells."""
        finished = set(cells.loc[cells["ok"], "series"])
        return [one for one in self.series if one.label in finished]

    def by_setting(self) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
        """Yield the planned cells of each (dataset, model), in the plan's order."""
        for (dataset, model), cells in self.cells.groupby(["dataset", "model"], sort=False):
            yield (str(dataset), str(model)), cells


def _alpha_order(alpha: Any) -> tuple[int, float, str]:
    if isinstance(alpha, str):
        digits = re.sub(r"\D", "", alpha)
        return (0, 0.0, "") if alpha == "iid" else (2, -float(digits or 0), alpha)
    return (1, -float(alpha), "")


def load_study(run: Path) -> Study:
    """Read a run and group its cells into series. Raises StoreError for a run that cannot be read or plans nothing."""
    opened = open_run(run)
    planned = evidence(opened)
    reported = planned["stage"] == "report"
    cells, trials = planned[reported], planned[~reported]
    if cells.empty:
        raise StoreError(f"The plan of {run} holds no cell that is reported; run a matrix into it.")
    alphas = {alpha_label(alpha): None for alpha in sorted(cells["alpha"].unique(), key=_alpha_order)}
    cells = cells.assign(
        alpha=pd.Categorical(cells["alpha"].map(alpha_label), list(alphas), ordered=True),
        alpha_asked=cells["alpha"],
        sparsity=cells["sparsity_asked"].astype(float),
        ok=cells["status"] == "ok",
        trained=~(_is_set(cells, "train.setup_only") | _is_set(cells, "train.meter_only")),
        metered=_is_set(cells, "train.meter_only"),
        budget_used=budget_used(cells),
        chance_accuracy=chance_accuracies(cells),
    )
    cells = cells.assign(overspent=cells["budget_used"] > TOLERANCE)
    dealt = deal_looks({str(method): _wish(own) for method, own in cells.groupby("method")})
    cells = cells.assign(method_label=cells["method"].map({name: one.label for name, one in dealt.items()}))
    saliencies = saliency_looks(cells, dealt)
    chosen = tuned_columns(opened)
    found = [
        method_series(
            cells[cells["method"] == name], name, one, saliencies.get(name, {}), alone=len(dealt) == 1, chosen=chosen
        )
        for name, one in dealt.items()
    ]
    series = tuple(itertools.chain.from_iterable(own.series for own in found))
    names = pd.concat([own.labels for own in found]).reindex(cells.index)
    cells = cells.assign(series=pd.Categorical(names, [one.label for one in series], ordered=True))
    cells = cells.assign(certificate=certificates(cells, POINT))
    cells = cells.assign(withheld=cells["certificate"].isin(WITHHELD)).copy()  # in one piece
    tuned = tuple(itertools.chain.from_iterable(own.tuned for own in found))
    left_out = tuple(itertools.chain.from_iterable(own.left_out for own in found))
    return Study(opened, cells, trials, dealt, series, tuned, left_out)


def _wish(cells: pd.DataFrame) -> Wish:
    """Return what the records of one method ask for: the first label and look that some record has."""
    label, look = (next(iter(cells[name].dropna()), None) if name in cells else None for name in ("label", "look"))
    return Wish.of(label, look)


def _is_set(cells: pd.DataFrame, switch: str) -> pd.Series[bool]:
    return cells[switch].eq(True) if switch in cells else pd.Series(False, cells.index)


def shown_sparsity(cells: pd.DataFrame, series: Sequence[Series]) -> float | None:
    """Return the sparsity level that stands for a series in a curve: the lower median of the levels above 0.

    None where no series with a sparsity axis has finished a cell above 0.
    """
    sparse = (
        cells["ok"] & (cells["sparsity"] > 0) & cells["series"].isin([one.label for one in series if one.has_sparsity])
    )
    levels = sorted(cells.loc[sparse, "sparsity"].unique())
    return float(levels[(len(levels) - 1) // 2]) if levels else None

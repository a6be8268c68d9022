"""Cells as series: rows of records with labels that tell them apart, of one run or of several."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.selection import is_on, is_trained
from fedfore.judgement.sides import chance_accuracies
from fedfore.plots.budget import TOLERANCE, budget_used
from fedfore.plots.fields import short_datasets
from fedfore.plots.heterogeneity import alpha_labels
from fedfore.plots.looks import Look, Wish, deal_looks
from fedfore.plots.naming import Series, method_series, saliency_looks
from fedfore.plots.wording import HEADLINES


@dataclass(frozen=True)
class Grouped:
    """Cells in series; its parts are those of `fedfore.plots.study.Study`."""

    cells: pd.DataFrame
    looks: Mapping[str, Look]
    series: tuple[Series, ...]
    tuned: tuple[str, ...]
    left_out: tuple[str, ...]


def grouped(cells: pd.DataFrame, chosen: Sequence[str] = ()) -> Grouped:
    """Return the rows of an `evidence` table in series, which are named among themselves.

    `chosen` are the columns of keys that tuning chose, which tell no series apart.
    """
    alphas = alpha_labels(cells["alpha"])
    cells = cells.assign(
        alpha=pd.Categorical(cells["alpha"].map(alphas), list(dict.fromkeys(alphas.values())), ordered=True),
        alpha_asked=cells["alpha"],
        dataset=cells["dataset"].map(short_datasets(cells["dataset"].unique())),
        dataset_asked=cells["dataset"],
        sparsity=cells["sparsity_asked"].astype(float),
        ok=cells["status"] == "ok",
        trained=is_trained(cells),
        metered=is_on(cells, "train.meter_only"),
        budget_used=budget_used(cells),
        chance_accuracy=chance_accuracies(cells),
    )
    cells = cells.assign(overspent=cells["budget_used"] > TOLERANCE)
    dealt = deal_looks({str(method): _wish(own) for method, own in cells.groupby("method")})
    cells = cells.assign(method_label=cells["method"].map({name: one.label for name, one in dealt.items()}))
    saliencies = saliency_looks(cells, dealt)
    found = [
        method_series(
            cells[cells["method"] == name], name, one, saliencies.get(name, {}), alone=len(dealt) == 1, chosen=chosen
        )
        for name, one in dealt.items()
    ]
    series = tuple(itertools.chain.from_iterable(own.series for own in found))
    names = pd.concat([own.labels for own in found]).reindex(cells.index)
    return Grouped(
        cells.assign(series=pd.Categorical(names, [one.label for one in series], ordered=True)),
        dealt,
        series,
        tuple(itertools.chain.from_iterable(own.tuned for own in found)),
        tuple(itertools.chain.from_iterable(own.left_out for own in found)),
    )


def as_evidence(cells: pd.DataFrame) -> pd.DataFrame:
    """Return grouped cells as a table of `fedfore.judgement.judging.evidence`, with the labels of their series."""
    return cells.assign(alpha=cells["alpha_asked"], dataset=cells["dataset_asked"], series=cells["series"].astype(str))


def accuracy_of(cells: pd.DataFrame) -> str:
    """Return the headline where some ok cell has it, else what older records have in its place."""
    headline, older = HEADLINES
    return headline if cells.loc[cells["ok"], headline].notna().any() else older


def _wish(cells: pd.DataFrame) -> Wish:
    """Return what the records of one method ask for: the first label and look that some record has."""
    label, look = (next(iter(cells[name].dropna()), None) if name in cells else None for name in ("label", "look"))
    return Wish.of(label, look)

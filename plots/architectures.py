"""Models of one architecture seen together: a series on a variant of the model is named by what that has of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from fedfore.plots.naming import Series
from fedfore.plots.study import Study


@dataclass(frozen=True)
class Together:
    """The cells of one data set and architecture, in a study whose series are on one model each."""

    subject: str
    study: Study
    cells: pd.DataFrame


def by_architecture(study: Study, cells: pd.DataFrame) -> Iterator[Together]:
    """Yield these cells by data set and architecture, which is a model's name up to its options.

    Models on which the very same series ran ask the same question twice, and stay apart.
    """
    architecture = cells["model"].astype(str).str.split(":").str[0]
    for (dataset, _), own in cells.groupby(["dataset", architecture], sort=False):
        ran = {model: frozenset(rows["series"]) for model, rows in own.groupby("model", sort=False)}
        if len(ran) > 1 and len(set(ran.values())) == 1:
            for model, rows in own.groupby("model", sort=False):
                yield Together(f"{dataset}, {model}", study, rows)
            continue
        main = str(own["model"].value_counts(sort=False).idxmax())
        yield Together(f"{dataset}, {main}", *(_renamed(study, own, main) if len(ran) > 1 else (study, own)))


def _renamed(study: Study, cells: pd.DataFrame, main: str) -> tuple[Study, pd.DataFrame]:
    """Return a study of these cells alone, in which the series on other models than the main one are of their own."""
    known = {one.label: one for one in study.series}
    labels = cells["series"].astype(str).where(cells["model"] == main, cells["series"].astype(str) + _behind(cells))
    names = dict(zip(labels, cells["series"].astype(str), strict=True))
    series: list[Series] = []
    for one in study.series:
        for label in sorted((name for name, own in names.items() if own == one.label), key=len):
            variant = sum(other.look == one.look for other in series)
            series.append(replace(known[names[label]], label=label, variant=variant))
    categories = [one.label for one in series]
    own = cells.assign(series=pd.Categorical(labels, categories, ordered=True))
    return replace(study, cells=own, series=tuple(series)), own


def _behind(cells: pd.DataFrame) -> pd.Series[str]:
    """Return what is said behind a series' name of the model: its options, or the name of one that has none."""
    models = cells["model"].astype(str)
    options = models.str.partition(":")[2]
    return ", " + options.where(options != "", models)

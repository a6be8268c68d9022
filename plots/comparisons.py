"""The comparisons of a study: those that its matrix states, else every series against its reference, as exploration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from fedfore.judgement.contrasts import Contrast, answerable
from fedfore.judgement.judging import Judged, judged_pairings
from fedfore.judgement.selection import GROUPS, settings
from fedfore.plots.naming import Series
from fedfore.plots.study import Study

_SETTING = ("dataset", "model", "alpha")
_AGREEING = ("dataset", "alpha")


@dataclass(frozen=True)
class Comparisons:
    """What is compared in a study. `stated`: its matrix asked for it before its cells ran, so that verdicts count."""

    found: tuple[Judged, ...]
    stated: bool


def compares(study: Study) -> bool:
    """Return whether there are any `comparisons` of a study. Raises as they do."""
    return bool(study.judged) or any(_exploring(study, study.accuracy))


def comparisons(study: Study, metric: str) -> Comparisons:
    """Return the judged contrasts of a study's matrix; without any, the differences of series to their references.

    `metric` is what those are in. Raises StoreError for a run, and ConfigError for a matrix, that cannot be read.
    """
    if study.judged:
        return Comparisons(study.judged, stated=True)
    competing = study.evidence[~study.evidence["control"]]
    return Comparisons(tuple(explored(competing, list(_exploring(study, metric)))), stated=False)


def explored(cells: pd.DataFrame, asked: Sequence[Contrast]) -> list[Judged]:
    """Return the judged contrasts of series where both sides have the data set and the label distribution.

    They agree in model and sparsity too where `against` has several. What else differs between their cells makes no
    setting, and a contrast that no cells answer is left out.
    """
    own = [name for name in settings(cells) if name.startswith(GROUPS)]
    return judged_pairings(cells, list(answerable(cells, asked, own, _AGREEING)))


def _exploring(study: Study, metric: str) -> Iterator[Contrast]:
    """Yield a contrast of each series that has a reference, in the family of that reference; controls have no part."""
    cells = study.cells[study.cells["trained"] & ~study.cells["control"]]
    series = study.series_of(cells)
    reference = study.reference
    nearest = {} if reference in series else _nearest(cells, series)
    met = _by_series(cells, _SETTING)
    for one in series:
        other = nearest.get(one.label, reference)
        if other is not None and other != one and met[one.label] & met[other.label]:
            yield Contrast(one.label, {"series": one.label}, {"series": other.label}, metric, family=other.label)


def _nearest(cells: pd.DataFrame, series: Sequence[Series]) -> dict[str, Series | None]:
    """Return what each series is compared with where a study has several dense ones, the first of the best.

    For a sparse series the dense one that differs from it in the fewest settings that both have; for a dense one that
    with the most cells.
    """
    dense = [one for one in series if not one.has_sparsity]
    counts = cells["series"].value_counts()
    largest = max(dense, key=lambda other: int(counts[other.label]), default=None)
    columns = ["estimator", *(name for name in settings(cells) if name.startswith(GROUPS))]
    values = [_by_series(cells[cells[name].notna()], [name]) for name in columns]

    def differences(one: Series, other: Series) -> int:
        sides = [(own[one.label], own[other.label]) for own in values]
        return sum(bool(first) and bool(second) and not first & second for first, second in sides)

    return {
        one.label: min(dense, key=partial(differences, one), default=None) if one.has_sparsity else largest
        for one in series
    }


def _by_series(cells: pd.DataFrame, names: Sequence[str]) -> Mapping[str, set[tuple[Any, ...]]]:
    """Return the combinations of values that the cells of each series have in these columns."""
    found: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for label, *values in cells[["series", *names]].drop_duplicates().itertuples(index=False, name=None):
        found[label].add(tuple(values))
    return found

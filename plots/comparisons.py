"""The comparisons of a study: those that its matrix states, else every series against its reference, as exploration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.contrasts import Contrast, problem
from fedfore.judgement.judging import Judged, judged
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
    return judged(cells, [one for one in asked if not problem(cells, one, own, _AGREEING)], own, _AGREEING)


def _exploring(study: Study, metric: str) -> Iterator[Contrast]:
    """Yield a contrast of each series that has a reference, in the family of that reference; controls have no part."""
    cells = study.cells[study.cells["trained"] & ~study.cells["control"]]
    series = study.series_of(cells)
    dense = [one for one in series if not one.has_sparsity]
    for one in series:
        other = study.reference if study.reference in series else _nearest(cells, one, dense)
        if other is not None and other != one and _meet(cells, one, other):
            yield Contrast(one.label, {"series": one.label}, {"series": other.label}, metric, family=other.label)


def _nearest(cells: pd.DataFrame, one: Series, dense: list[Series]) -> Series | None:
    """Return what a series is compared with where a study has several dense ones, the first of the best.

    For a sparse series the dense one that differs from it in the fewest settings that both have; for a dense one that
    with the most cells.
    """
    if one.has_sparsity:
        return min(dense, key=lambda other: _differences(cells, one, other), default=None)
    return max(dense, key=lambda other: int((cells["series"] == other.label).sum()), default=None)


def _differences(cells: pd.DataFrame, one: Series, other: Series) -> int:
    rows, others = (cells[cells["series"] == side.label] for side in (one, other))
    columns = ["estimator", *(name for name in settings(cells) if name.startswith(GROUPS))]
    known = [name for name in columns if rows[name].notna().any() and others[name].notna().any()]
    return sum(not set(rows[name].dropna()) & set(others[name].dropna()) for name in known)


def _meet(cells: pd.DataFrame, one: Series, other: Series) -> bool:
    sides = [
        set(cells.loc[cells["series"] == side.label, list(_SETTING)].astype(str).itertuples(index=False, name=None))
        for side in (one, other)
    ]
    return bool(sides[0] & sides[1])

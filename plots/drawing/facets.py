"""Which series share a panel: no more than can be told apart, split by the setting that divides them best."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from fedfore.judgement.selection import GROUPS, settings
from fedfore.plots.fields import LEARNING_RATE, SALIENCY, field_name, value_label
from fedfore.plots.naming import Series
from fedfore.plots.view import View

MOST_SERIES = 8
"""Series that one panel can hold."""
_TOGETHER = (SALIENCY, LEARNING_RATE)
"""Settings that no panel is split by, as methods are not."""


def facets(cells: pd.DataFrame, series: Sequence[Series]) -> list[tuple[str, list[Series]]]:
    """Return groups of at most `MOST_SERIES` series, each with what its series share; one without a name for few.

    Groups differ in a setting that every series has one value of, but no method, saliency or learning rate, so that
    those are seen beside each other; values with few series share a group.
    """
    return list(_split(cells[cells["ok"]], list(series)))


def faceted(view: View, kind: str) -> Iterator[tuple[str, str, View]]:
    """Yield a view of each group of the series of a view, with the kind of its figures and what the group shares."""
    for name, series in facets(view.cells, view.study.series_of(view.cells)):
        own = replace(view, cells=view.cells[view.cells["series"].isin([one.label for one in series])])
        yield f"{kind}-{re.sub(r'[^a-z0-9.]+', '-', name.lower())}".strip("-"), name, own


def _split(cells: pd.DataFrame, series: list[Series]) -> Iterator[tuple[str, list[Series]]]:
    if len(series) <= MOST_SERIES:
        yield "", series
        return
    choices = {name: groups for name in _columns(cells) if len(groups := _groups(cells, series, name)) > 1}
    if not choices:
        for start in range(0, len(series), MOST_SERIES):
            yield f"{start + 1} to {min(start + MOST_SERIES, len(series))}", series[start : start + MOST_SERIES]
        return
    best = min(choices, key=lambda name: (max(*map(len, choices[name].values()), MOST_SERIES), len(choices[name])))
    for values, own in _merged(choices[best]):
        said = f"{field_name(best)}={', '.join(map(value_label, values))}"
        for inner, members in _split(cells, own):
            yield ", ".join(filter(None, (said, inner))), members


def _columns(cells: pd.DataFrame) -> list[str]:
    own = [name for name in settings(cells) if name == "estimator" or name.startswith(GROUPS)]
    return [name for name in own if name not in _TOGETHER]


def _groups(cells: pd.DataFrame, series: Sequence[Series], column: str) -> dict[object, list[Series]]:
    """Return the series by their value of a column, none where one of them has several values of it, or lacks it."""
    values: dict[str, list[Any]] = {}
    for row, label in cells[["series", column]].drop_duplicates()["series"].items():
        values.setdefault(label, []).append(cells.at[row, column])
    found: dict[object, list[Series]] = {}
    for one in series:
        own = values.get(one.label, [])
        if len(own) != 1 or pd.isna(own[0]):
            return {}
        found.setdefault(own[0], []).append(one)
    return found


def _merged(groups: dict[object, list[Series]]) -> list[tuple[list[object], list[Series]]]:
    """Return the groups, each of those that are small in the first with others that has room for it."""
    merged: list[tuple[list[object], list[Series]]] = []
    for value, own in groups.items():
        roomy = next((found for found in merged if len(found[1]) + len(own) <= MOST_SERIES), None)
        if roomy is None:
            merged.append(([value], list(own)))
        else:
            roomy[0].append(value)
            roomy[1].extend(own)
    return merged

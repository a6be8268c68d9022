"""The footnotes of tables and figures: what every mark in them stands for, and which cells are not shown."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fedfore.judgement.sides import FAILED
from fedfore.plots.budget import budget_notes
from fedfore.plots.certification import certificate_notes
from fedfore.plots.points import POINT
from fedfore.plots.wording import DAGGER, FAILED_SEEDS

_MOST_SAID = 3
_ENDINGS = {"out_of_memory": "ran out of memory", "timeout": "timed out"}
"""How endings are said, where not by their own word."""


def table_notes(cells: pd.DataFrame) -> list[str]:
    """Return the footnotes of a table of these planned cells, one a mark: stale, not certified, over budget, failed."""
    cells = cells.drop_duplicates("cell_id")
    failed = _failed(cells, cells["status"].isin(FAILED))
    counted = " Where chance is not known there is no accuracy." if _lacks_chance(cells) else ""
    return [
        *_stale_notes(cells),
        *certificate_notes(cells, POINT),
        *budget_notes(cells),
        *([f"{FAILED_SEEDS} {failed}: chance in accuracies, left out of all else.{counted}"] if failed else []),
    ]


def figure_notes(shown: pd.DataFrame) -> list[str]:
    """Return the footnotes of a figure of these planned cells: what is missing, stale, or past its budget."""
    return [*_missing_notes(shown), *_marked_notes(shown)]


def comparison_notes(cells: pd.DataFrame) -> list[str]:
    """Return the footnotes of comparisons of these cells, which say themselves what failed or is not certified."""
    return [*_stale_notes(cells), *budget_notes(cells)]


def accuracy_notes(shown: pd.DataFrame, mark: str = "Hollow:") -> list[str]:
    """Return the footnotes of a figure of these planned cells in which failed seeds count as chance.

    `mark` is what the figure gives the points that are not certified; "" where it does not tell them.
    """
    counted = shown["status"].isin(FAILED) & shown["chance_accuracy"].notna()
    certified = certificate_notes(shown, POINT, mark) if mark else []
    failed = _failed(shown, counted)
    as_chance = [f"Counted as chance: {failed}."] if failed else []
    return [*as_chance, *_missing_notes(shown[~counted]), *certified, *_marked_notes(shown)]


def _lacks_chance(cells: pd.DataFrame) -> bool:
    return bool((cells["status"].isin(FAILED) & cells["chance_accuracy"].isna()).any())


def _failed(shown: pd.DataFrame, counted: pd.Series[bool]) -> str:
    """Return of which points how many seeds ended how, those of most first and `_MOST_SAID` at most; "" of none."""
    found = []
    for _, own in shown.groupby(list(POINT), observed=True):
        endings = own.loc[counted[own.index], "status"].value_counts()
        if len(endings):
            words = " and ".join(f"{count} {_ENDINGS.get(str(name), str(name))}" for name, count in endings.items())
            found.append((int(endings.sum()), f"{_named(shown, own.iloc[0])}: {words} of {len(own)} seeds"))
    texts = [text for _, text in sorted(found, key=lambda one: -one[0])]
    more = [f"seeds of {len(texts) - _MOST_SAID} more points"] if len(texts) > _MOST_SAID else []
    return "; ".join([*texts[:_MOST_SAID], *more])


def _named(shown: pd.DataFrame, point: pd.Series[Any]) -> str:
    """Return the name of a point among those that are shown."""
    parts = [str(point["series"])]
    parts += [str(point["alpha"])] if shown["alpha"].nunique() > 1 else []
    parts += [f"sparsity {point['sparsity']:g}"] if point["sparsity"] and shown["sparsity"].nunique() > 1 else []
    return ", ".join(parts)


def _missing_notes(shown: pd.DataFrame) -> list[str]:
    missing = shown.loc[~shown["ok"], "status"].value_counts()
    counts = ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in sorted(missing.items()))
    return [f"{missing.sum()} cells not shown: {counts}."] if len(missing) else []


def _marked_notes(cells: pd.DataFrame) -> list[str]:
    return [*_stale_notes(cells), *budget_notes(cells)]


def _stale_notes(cells: pd.DataFrame) -> list[str]:
    is_marked = bool((cells["stale"] & cells["ok"]).any())
    return [f"{DAGGER} includes records computed with code that has changed since."] if is_marked else []

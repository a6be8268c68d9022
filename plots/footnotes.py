"""The footnotes of tables and figures: what every mark in them stands for, and which cells are not shown."""

from __future__ import annotations

import pandas as pd

from fedfore.plots.budget import budget_notes
from fedfore.plots.certification import certificate_notes
from fedfore.plots.points import POINT
from fedfore.plots.wording import DAGGER


def table_notes(cells: pd.DataFrame) -> list[str]:
    """Return the footnotes of a table of these planned cells, one a mark: stale, not certified, past the budget."""
    return [*_stale_notes(cells), *certificate_notes(cells, POINT), *budget_notes(cells)]


def figure_notes(shown: pd.DataFrame) -> list[str]:
    """Return the footnotes of a figure of these planned cells: what is missing, stale, or past its budget."""
    return [*_missing_notes(shown), *comparison_notes(shown)]


def comparison_notes(cells: pd.DataFrame) -> list[str]:
    """Return the footnotes of comparisons of these cells, which say themselves what failed or is not certified."""
    return [*_stale_notes(cells), *budget_notes(cells)]


def accuracy_notes(shown: pd.DataFrame) -> list[str]:
    """Return the footnotes of a figure of these planned cells that marks the points which are not certified."""
    return [*_missing_notes(shown), *table_notes(shown)]


def _missing_notes(shown: pd.DataFrame) -> list[str]:
    missing = shown.loc[~shown["ok"], "status"].value_counts()
    counts = ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in sorted(missing.items()))
    return [f"{missing.sum()} of {len(shown)} cells not shown: {counts}."] if len(missing) else []


def _stale_notes(cells: pd.DataFrame) -> list[str]:
    is_marked = bool((cells["stale"] & cells["ok"]).any())
    return [f"{DAGGER} includes records computed with code that has changed since."] if is_marked else []

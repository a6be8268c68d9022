"""How sparsity is told where it is no axis: beside each name where levels differ, else once below the figure."""

from __future__ import annotations

from collections.abc import Iterator

from fedfore.plots.fields import value_label
from fedfore.plots.naming import Series
from fedfore.plots.view import View


def _levels(view: View) -> list[float]:
    sparse = [one.label for one in view.series if one.has_sparsity]
    shown = view.cells["ok"] & view.cells["series"].isin(sparse)
    return sorted(view.cells.loc[shown, "sparsity"].unique())


def name_at_level(view: View, series: Series, sparsity: float) -> str:
    """Return the name of a series with its marks, and with its sparsity where that differs within the view."""
    said = series.has_sparsity and len(_levels(view)) > 1
    at = f", sparsity\N{NO-BREAK SPACE}{value_label(sparsity)}" if said else ""
    return f"{view.named(series, view.cells)}{at}"


def level_notes(view: View) -> Iterator[str]:
    """Yield the one sparsity of a view, where it has one and its names do not say it."""
    levels = _levels(view)
    if len(levels) == 1:
        yield f"Sparsity {value_label(levels[0])}, but for dense series."

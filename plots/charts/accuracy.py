"""The figures of the accuracy that training ends with: by series, and against sparsity."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fedfore.plots.charts.accuracy_rows import accuracy_rows
from fedfore.plots.charts.sparsity import accuracy_by_sparsity, has_levels
from fedfore.plots.drawing.facets import faceted
from fedfore.plots.view import Planned, View


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures of the accuracy of trained cells."""
    yield view.planned("accuracy", "Accuracy by series", partial(accuracy_rows, view))
    for kind, name, own in faceted(view, "accuracy-sparsity") if has_levels(view) else ():
        if has_levels(own):
            title = ", ".join(filter(None, ("Accuracy against sparsity", name)))
            yield own.planned(kind, title, partial(accuracy_by_sparsity, own, view.cells))

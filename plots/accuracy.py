"""The figures of test accuracy: against sparsity, or by series where no method has a sparsity axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.layout import frame, label_edges, panels
from fedfore.plots.naming import Series
from fedfore.plots.points import points, records, select
from fedfore.plots.view import Drawn, Planned, View, handle, line_style, mark_withheld, percent_axis, seeds_sentence
from fedfore.plots.wording import HEADLINES, axis_label

_PANEL_HEIGHT = 2.1


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of the accuracy of trained cells."""
    if any(one.has_sparsity for one in view.series):
        yield view.planned("accuracy-sparsity", "Accuracy against sparsity", partial(accuracy_by_sparsity, view))
    else:
        yield view.planned("accuracy", "Accuracy", partial(accuracy_by_series, view))


def _finished_points(view: View) -> pd.DataFrame:
    """Return the points to draw, their accuracy in `mean` and `spread`.

    An interval of two seeds (t = 12.7) would fill the panel and is left to the table.
    """
    metric = view.study.accuracy
    summary = points(view.cells, [metric]).rename(columns={metric: "mean", f"{metric}_half_width": "spread"})
    summary["spread"] = summary["spread"].where(summary["n_ok"] > 2)
    return summary[summary["n_ok"] > 0]


def _seeds_of(view: View, summary: pd.DataFrame) -> str:
    bare = " Intervals of two seeds are in the table alone." if (summary["n_ok"] == 2).any() else ""
    return f"{seeds_sentence(view.cells)}{bare}"


def _limit(panel: Axes, low: float, high: float) -> None:
    """Set the limits of an accuracy axis around the data, never outside 0 to 1."""
    pad = 0.06 * max(high - low, 0.02)
    panel.set_ylim(max(0.0, low - pad), min(1.0, high + pad))
    percent_axis(panel.yaxis)


def _reference_line(panel: Axes, series: Series, row: dict[str, float]) -> None:
    style = line_style(series)
    mean, spread = row["mean"], row["spread"]
    panel.axhline(mean, color=style["color"], linestyle=style["linestyle"], linewidth=1.2, zorder=2)
    if not math.isnan(spread):
        panel.axhspan(mean - spread, mean + spread, color=style["color"], alpha=0.12, linewidth=0)
    if row["withheld"]:
        mark_withheld(panel, None, mean)


def accuracy_by_sparsity(view: View) -> Drawn:
    """Draw accuracy against sparsity, a panel an alpha; methods without the sparsity axis are horizontal lines."""
    summary = _finished_points(view)
    curves = [one for one in view.series if one.has_sparsity]
    lines = [one for one in view.series if not one.has_sparsity]
    levels = sorted(summary.loc[summary["series"].isin([one.label for one in curves]), "sparsity"].unique())
    position = {level: -math.log10(1 - level) for level in levels}
    step = min(np.diff(list(position.values())), default=0.0) or 1.0
    figure, axes = panels(len(view.alphas), view.width, _PANEL_HEIGHT)
    for panel, alpha in zip(axes, view.alphas, strict=True):
        here = summary[summary["alpha"] == alpha]
        for one in lines:
            for row in records(select(here, {"series": one.label})):
                _reference_line(panel, one, row)
        for index, one in enumerate(curves):
            own = select(here, {"series": one.label}).sort_values("sparsity")
            dodge = step * 0.3 * ((index + 0.5) / len(curves) - 0.5)
            at = own["sparsity"].map(position) + dodge
            panel.errorbar(
                at, own["mean"], yerr=own["spread"], elinewidth=0.9, capsize=1.8, zorder=3, **line_style(one)
            )
            for x, row in zip(at, records(own), strict=True):
                if row["withheld"]:
                    mark_withheld(panel, x, row["mean"])
        panel.set_title(alpha)
        panel.xaxis.set_major_locator(FixedLocator(list(position.values())))
        panel.set_xticklabels([value_label(level) for level in levels])
        panel.set_xlim(min(position.values()) - 0.5 * step, max(position.values()) + 0.5 * step)
    spread = summary["spread"].fillna(0.0)
    _limit(axes[0], (summary["mean"] - spread).min(), (summary["mean"] + spread).max())
    label_edges(axes, "Sparsity (log scale of density)", axis_label(view.study.accuracy))
    legend = [handle(one, view.named(one, view.cells), marker=one.has_sparsity) for one in view.series]
    frame(figure, view.heading(), legend, accuracy_notes(view.cells))
    reference = " Horizontal lines, with bands: methods without the sparsity axis." if lines else ""
    return Drawn(
        f"Test accuracy of the global model ({HEADLINES[view.study.accuracy]}) against the fraction of prunable "
        f"weights that are zero, one panel a label distribution. {_seeds_of(view, summary)} Markers are shifted "
        f"sideways a little to be told apart.{reference}",
        f"Chart of test accuracy against sparsity for {', '.join(one.label for one in view.series)}; the table of "
        "results holds the same numbers.",
        figure,
    )


def accuracy_by_series(view: View) -> Drawn:
    """Draw the headline accuracies of a run in which no method has a sparsity axis, a panel an alpha."""
    summary = _finished_points(view)
    names = [view.named(one, view.cells) for one in view.series]
    figure, axes = panels(len(view.alphas), view.width, 0.7 + 0.17 * len(names))
    for panel, alpha in zip(axes, view.alphas, strict=True):
        for row, one in enumerate(view.series):
            own = select(summary, {"alpha": alpha, "series": one.label})
            style = line_style(one) | {"linestyle": "", "capsize": 1.8, "elinewidth": 1.0}
            panel.errorbar(own["mean"], [row] * len(own), xerr=own["spread"], **style)
            if own["withheld"].any():
                mark_withheld(panel, own["mean"].iloc[0], row)
        panel.set_title(alpha)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        percent_axis(panel.xaxis)
    label_edges(axes, axis_label(view.study.accuracy), "")
    frame(figure, view.heading(), [], accuracy_notes(view.cells))
    return Drawn(
        f"Test accuracy of the global model ({HEADLINES[view.study.accuracy]}), one panel a label distribution. "
        + _seeds_of(view, summary),
        f"Chart of test accuracy for {', '.join(names)}; the table of results holds the same numbers.",
        figure,
    )

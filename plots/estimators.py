"""The figures of zeroth-order estimators: against real finite differences, and shared against own perturbations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.plots.fields import FORM, PRECISION, SIGMA, value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.layout import frame, label_edges, panels
from fedfore.plots.lines import readable_lines
from fedfore.plots.looks import CONTROL_STYLE, LINE_STYLES
from fedfore.plots.points import twins
from fedfore.plots.view import Drawn, Planned, View, percent_axis
from fedfore.plots.wording import HEADLINES, power_of_ten
from fedfore.records.probes import SCALAR_DIRECTIONS
from fedfore.records.store import DIAGNOSTICS

_BAND = 1.5
"""Half the height, in accuracy points, of the band around no difference between twins."""
_PANEL_HEIGHT = 2.1
_MOST_PANELS = 4
_DOTS = "Lines are geometric means, dots single cells."
_SHOWN_MOMENTS = (0.0, 0.1, 1.0)
_PASS_MARKERS = ("o", "s", "^", "v", "D", "X")
_TWIN_MARKERS = {"directional": "o", "moment": "s", "exact": "x"}


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none."""
    diagnoses = _diagnoses(view)
    ratios = diagnoses.dropna(subset="variance_ratio") if "variance_ratio" in diagnoses else diagnoses[:0]
    if len(ratios) and ratios["series"].nunique() <= _MOST_PANELS:
        yield view.planned(
            "variance-ratio", "What shared perturbations cost in variance", partial(_variance_ratio, view, ratios)
        )
    if {"fd_scalar_error", SIGMA} <= set(diagnoses) and diagnoses[SIGMA].nunique() > 1:
        known = diagnoses.dropna(subset="fd_scalar_error")
        yield view.planned(
            "scalar-error", "Finite differences against their limit", partial(_scalar_error, view, known)
        )
    pairs = twins(view.cells, view.study.accuracy)
    if not pairs.empty:
        yield view.planned(
            "twins", "Simulated cells against their finite-difference twins", partial(_twins, view, pairs)
        )


def _diagnoses(view: View) -> pd.DataFrame:
    """Return one row a diagnosed moment of an ok zeroth-order cell, with the cell's columns beside it."""
    cells = view.cells[view.cells["ok"] & view.cells["estimator"].notna()]
    found = [
        readable_lines(view.study.run, cell_id, DIAGNOSTICS).assign(cell_id=cell_id) for cell_id in cells["cell_id"]
    ]
    lines = pd.concat([lines for lines in found if len(lines)], ignore_index=True) if any(map(len, found)) else None
    if lines is None:
        return pd.DataFrame()
    return lines.merge(cells.drop(columns=set(lines) - {"cell_id"}, errors="ignore"), on="cell_id")


def _log_line(panel: Axes, x: Sequence[float], groups: Sequence[pd.Series[float]], **style: Any) -> None:
    """Draw the geometric means of groups of positive values as a line, and every value as a faint dot."""
    panel.plot(x, [10 ** np.log10(group).mean() for group in groups], markersize=3.5, **{"marker": "o"} | style)
    for place, group in zip(x, groups, strict=True):
        panel.plot(
            [place] * len(group), group, linestyle="", marker=".", markersize=2.5, alpha=0.4, color=style["color"]
        )


def _variance_ratio(view: View, diagnoses: pd.DataFrame) -> Drawn:
    """Draw |sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over the budget, a panel a series, a line an alpha."""
    series = [one for one in view.series if one.label in set(diagnoses["series"])]
    colours = sns.color_palette("viridis", len(view.alphas) + 1).as_hex()
    moments = sorted(diagnoses["moment"].unique())
    figure, axes = panels(len(series), view.width, _PANEL_HEIGHT)
    for panel, one in zip(axes, series, strict=True):
        panel.axhline(1.0, color="#444444", linewidth=0.8, linestyle=CONTROL_STYLE)
        for colour, alpha in zip(colours, view.alphas, strict=False):
            own = diagnoses[(diagnoses["series"] == one.label) & (diagnoses["alpha"] == alpha)]
            groups = [
                (place, own.loc[own["moment"] == moment, "variance_ratio"]) for place, moment in enumerate(moments)
            ]
            shown = [(float(place), values) for place, values in groups if len(values)]
            if shown:
                places, values = zip(*shown, strict=True)
                _log_line(panel, list(places), list(values), color=colour)
        panel.set_yscale("log")
        panel.set_title(one.label)
        panel.set_xticks(range(len(moments)), [f"{moment:.0%}" for moment in moments])
    _plain_log_ticks(axes[0])
    label_edges(axes, "Budget spent", "Variance, shared / independent")
    legend = [
        Line2D([], [], color=colour, marker="o", label=alpha)
        for colour, alpha in zip(colours, view.alphas, strict=False)
    ]
    frame(figure, view.heading(), legend, figure_notes(view.cells))
    return Drawn(
        "Variance of the aggregated estimate with one seed for all clients over that with a seed for each, "
        "|sum p_i g_i|² / sum p_i² |g_i|², one mini-batch a client, during training. Above 1 (dashed) independent "
        f"perturbations would be better; below, clients disagree and shared ones are. {_DOTS}",
        "Chart of the variance ratio of shared over independent perturbations during training.",
        figure,
    )


def _plain_log_ticks(panel: Axes) -> None:
    low, high = panel.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _scalar_error(view: View, diagnoses: pd.DataFrame) -> Drawn:
    """Draw the finite-difference scalars' error against sigma: a panel a moment, a line a sparsity and kind of pass."""
    moments = [moment for moment in _SHOWN_MOMENTS if moment in set(diagnoses["moment"])]
    levels = sorted(diagnoses["sparsity"].unique())
    diagnoses = diagnoses.assign(kind=_kinds_of_pass(diagnoses))
    kinds = sorted(diagnoses["kind"].unique(), key=lambda kind: ("float" in kind, kind != "forward", kind))
    styles = {
        kind: {"linestyle": dashes, "marker": marker}
        for kind, dashes, marker in zip(kinds, cycle(LINE_STYLES), cycle(_PASS_MARKERS))
    }
    present = set(zip(diagnoses["sparsity"], diagnoses["kind"], strict=True))
    colours = sns.color_palette("viridis", len(levels) + 1).as_hex()
    figure, axes = panels(len(moments), view.width, _PANEL_HEIGHT)
    for panel, moment in zip(axes, moments, strict=True):
        panel.axhline(MOST_SCALAR_ERROR, color="#444444", linewidth=0.8, linestyle=LINE_STYLES[1])
        for colour, level in zip(colours, levels, strict=False):
            for kind in kinds:
                own = diagnoses[
                    (diagnoses["moment"] == moment) & (diagnoses["sparsity"] == level) & (diagnoses["kind"] == kind)
                ]
                sigmas = sorted(own[SIGMA].unique())
                if sigmas:
                    groups = [own.loc[own[SIGMA] == sigma, "fd_scalar_error"] for sigma in sigmas]
                    _log_line(panel, sigmas, groups, color=colour, **styles[kind])
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(f"{moment:.0%} of the budget")
        panel.xaxis.set_minor_formatter(NullFormatter())
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    label_edges(axes, "Perturbation size sigma", "Relative error of the scalars")
    legend = [
        Line2D([], [], color=colour, **styles[kind], label=f"sparsity {value_label(level)}, {kind}")
        for colour, level in zip(colours, levels, strict=False)
        for kind in kinds
        if (level, kind) in present
    ]
    frame(figure, view.heading(), legend, figure_notes(view.cells))
    return Drawn(
        "Relative difference between real finite-difference scalars and their limit sigma -> 0, on the same "
        f"{SCALAR_DIRECTIONS} directions and one mini-batch, at {len(moments)} milestones of training. Left of the "
        "minimum rounding dominates, right of it curvature; a simulated point whose line lies above the dotted one "
        f"({MOST_SCALAR_ERROR:.0%}) at some milestone is not certified. {_DOTS}",
        "Chart of the relative error of finite-difference scalars against the perturbation size.",
        figure,
    )


def _kinds_of_pass(diagnoses: pd.DataFrame) -> pd.Series[str]:
    """Return each row's form of difference, with the precision of its passes where that is not float32.

    A method that names neither has the one kind "finite differences".
    """
    nothing = pd.Series(None, diagnoses.index, dtype=object)
    form, precision = (diagnoses.get(name, nothing) for name in (FORM, PRECISION))
    low = precision.where(precision != "float32")
    return form.fillna("finite differences").str.cat(", " + low, na_rep="")


def _twins(view: View, pairs: pd.DataFrame) -> Drawn:
    """Draw each simulated cell's accuracy minus its finite-difference twin's, a panel a method and sparsity."""
    groups = list(pairs.groupby(["method", "sparsity"], sort=False))
    figure, axes = panels(len(groups), view.width, _PANEL_HEIGHT)
    for panel, ((method, sparsity), own) in zip(axes, groups, strict=True):
        look = view.study.looks[str(method)]
        panel.axhspan(-_BAND, _BAND, color="#BBBBBB", alpha=0.3, linewidth=0)
        panel.axhline(0.0, color="#444444", linewidth=0.8)
        for estimator, marker in _TWIN_MARKERS.items():
            shown = own[own["estimator"] == estimator]
            panel.plot(
                shown["real"], 100 * shown["difference"], marker=marker, linestyle="", color=look.colour,
                markerfacecolor="none" if estimator != "directional" else None, markersize=4.5,
            )  # fmt: skip
        panel.set_title(f"{look.label}, sparsity {value_label(sparsity)}")
        percent_axis(panel.xaxis)
    label_edges(axes, "Accuracy with finite differences (%)", "Difference (points)")
    present = [estimator for estimator in _TWIN_MARKERS if estimator in set(pairs["estimator"])]
    legend = [
        Line2D(
            [], [], color="#444444", marker=_TWIN_MARKERS[name], linestyle="",
            label=f"{name} minus finite differences", markerfacecolor="none" if name != "directional" else None,
        )
        for name in present
    ]  # fmt: skip
    frame(figure, view.heading(), legend, figure_notes(view.cells))
    return Drawn(
        f"Test accuracy ({HEADLINES[view.study.accuracy]}) of a simulated cell minus that of its twin, which differs "
        "in the estimator alone; one mark a seed. `directional` uses the twin's very perturbations, `moment` draws "
        f"others of the same distribution, and `exact` has no noise at all. The band is ±{_BAND:g} points.",
        "Chart of accuracy differences between simulated cells and their finite-difference twins.",
        figure,
    )

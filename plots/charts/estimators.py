"""The figures of zeroth-order estimators: against real finite differences, and shared against own perturbations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.judgement.estimates import estimate
from fedfore.plots.charts.twin_rows import twin_rows
from fedfore.plots.drawing.layout import frame, is_narrow, label_edges, panels
from fedfore.plots.drawing.marks import draw_seeds
from fedfore.plots.fields import EXACT, FORM, PRECISION, SIGMA, value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.looks import CONTROL_STYLE, LINE_STYLES
from fedfore.plots.points import twins
from fedfore.plots.seeds import Seeds, seeds_note
from fedfore.plots.view import Drawn, Planned, View
from fedfore.plots.wording import power_of_ten
from fedfore.records.probes import SCALAR_DIRECTIONS

_PANEL_HEIGHT = 2.0
_MOST_PANELS = 4
_SHOWN_MOMENTS = (0.0, 0.1, 1.0)
_MARKERS = ("o", "s", "^", "v", "D", "X")
_LIMIT: Any = {"color": "#444444", "linewidth": 0.8}
_ALONE = "finite differences"
"""The kind of pass of a method that names neither form nor precision."""


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none."""
    diagnoses = view.study.diagnoses
    diagnoses = diagnoses[diagnoses["cell_id"].isin(view.cells["cell_id"])]
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
    pairs = twins(view.cells[view.cells["estimator"] != EXACT], view.metric)
    if not pairs.empty:
        yield view.planned(
            "twins", "Simulated cells against their finite-difference twins", partial(twin_rows, view, pairs)
        )


def _variance_ratio(view: View, diagnoses: pd.DataFrame) -> Drawn:
    """Draw |sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over the budget, a panel a series, a line an alpha."""
    series = [one for one in view.series if one.label in set(diagnoses["series"])]
    colours = sns.color_palette("viridis", len(view.alphas) + 1).as_hex()
    moments = sorted(diagnoses["moment"].unique())
    seeds = {
        (str(label), str(alpha), float(str(moment))): _logarithmic(own["variance_ratio"])
        for (label, alpha, moment), own in diagnoses.groupby(["series", "alpha", "moment"], observed=True)
    }
    figure, axes = panels(len(series), view.width, _PANEL_HEIGHT)
    for panel, one in zip(axes, series, strict=True):
        panel.axhline(1.0, color="#444444", linewidth=0.8, linestyle=CONTROL_STYLE)
        for number, (alpha, colour) in enumerate(zip(view.alphas, colours, strict=False)):
            aside = 0.16 * (number - (len(view.alphas) - 1) / 2)
            known = {
                place + aside: seeds[one.label, alpha, moment]
                for place, moment in enumerate(moments)
                if (one.label, alpha, moment) in seeds
            }
            _draw_line(panel, known, {"color": colour, "marker": "o"})
        panel.set_yscale("log")
        panel.set_title(f"trained with {one.label.rpartition(', ')[2]}" if len(series) > 1 else one.label)
        panel.set_xticks(range(len(moments)), [f"{moment:.0%}" for moment in moments])
        panel.grid(axis="x", visible=False)
    _plain_log_ticks(axes[0])
    label_edges(axes, "Budget spent", "Variance ratio")
    legend = [
        Line2D([], [], color=colour, marker="o", label=alpha)
        for colour, alpha in zip(colours, view.alphas, strict=False)
    ]
    notes = [
        seeds_note(seeds.values(), "geometric mean"),
        "Above the dashed line independent perturbations are better.",
    ]
    notes += figure_notes(view.cells[view.cells["cell_id"].isin(diagnoses["cell_id"])])
    message = _ratio_message(seeds, moments)
    frame(figure, view.heading(message), legend, notes)
    return Drawn(
        f"{message}. Variance of the aggregated estimate with one seed for all clients over that with a seed for each, "
        "|sum p_i g_i|² / sum p_i² |g_i|², one mini-batch a client, during training. Above 1 independent perturbations "
        f"would be better; below, clients disagree and shared ones are. {' '.join(notes)}",
        "Chart of the variance ratio of shared over independent perturbations during training.",
        figure,
    )


def _logarithmic(values: pd.Series[float]) -> Seeds:
    return Seeds(tuple(map(float, values)), estimate(values, "log"))


def _draw_line(panel: Axes, points: Mapping[float, Seeds], style: Mapping[str, Any]) -> None:
    """Draw points upright, joined by a line."""
    means = [one.estimate.mean for one in points.values()]
    panel.plot(
        list(points), means, color=style["color"], linestyle=style.get("linestyle", "-"), linewidth=1.0, zorder=2
    )
    for place, one in points.items():
        draw_seeds(panel, place, one, style, upright=True, size=3.2)


def _ratio_message(seeds: Mapping[tuple[str, str, float], Seeds], moments: Sequence[float]) -> str:
    """Return the range of the ratio at the first and at the last moment."""
    parts = []
    for moment in dict.fromkeys((moments[0], moments[-1])):
        means = [one.estimate.mean for (_, _, at), one in seeds.items() if at == moment]
        low, high = f"{min(means):.2g}", f"{max(means):.2g}"
        parts.append(f"{low if low == high else f'{low} to {high}'} at {moment:.0%}")
    return f"Variance of shared over independent perturbations: {', '.join(parts)} of the budget"


def _plain_log_ticks(panel: Axes) -> None:
    low, high = panel.get_ylim()
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    panel.yaxis.set_major_locator(FixedLocator(ticks))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _scalar_error(view: View, diagnoses: pd.DataFrame) -> Drawn:
    """Draw the finite-difference scalars' error against sigma: a column a moment, a row a precision."""
    diagnoses = diagnoses.assign(form=_forms(diagnoses), precision=_precisions(diagnoses))
    moments = [moment for moment in _SHOWN_MOMENTS if moment in set(diagnoses["moment"])]
    levels = sorted(diagnoses["sparsity"].unique())
    kinds = sorted(
        set(zip(diagnoses["precision"], diagnoses["form"], strict=True)),
        key=lambda own: (own[0] != "", own[1] != "forward", own),
    )
    styles = {
        kind: {"linestyle": dashes, "marker": marker}
        for kind, dashes, marker in zip(kinds, cycle(LINE_STYLES), cycle(_MARKERS))
    }
    rows = [[kind for kind in kinds if (kind[0] == "") is full] for full in (True, False)]
    rows = [row for row in rows if row]
    colours = dict(zip(levels, sns.color_palette("viridis", len(levels) + 1).as_hex(), strict=False))
    seeds = {
        (moment, kind, level, float(str(sigma))): _logarithmic(own["fd_scalar_error"])
        for (moment, precision, form, level, sigma), own in diagnoses.groupby(
            ["moment", "precision", "form", "sparsity", SIGMA]
        )
        for kind in [(precision, form)]
    }
    narrow = is_narrow(view.width)
    shape = (len(moments), len(rows)) if narrow else (len(rows), len(moments))
    figure = Figure(figsize=(view.width, shape[0] * _PANEL_HEIGHT), layout="constrained")
    found = figure.subplots(*shape, sharex=True, sharey="col" if narrow else "row", squeeze=False)
    grid = found.T if narrow else found
    for own, line in zip(grid, rows, strict=True):
        for panel, moment in zip(own, moments, strict=True):
            panel.axhline(MOST_SCALAR_ERROR, linestyle=LINE_STYLES[1], zorder=1, **_LIMIT)
            for kind in line:
                for level, colour in colours.items():
                    points = {
                        sigma: one
                        for (at, which, sparsity, sigma), one in seeds.items()
                        if (at, which, sparsity) == (moment, kind, level)
                    }
                    _draw_line(panel, points, {"color": colour, **styles[kind]})
            _scalar_axes(panel)
            panel.set_title(f"{moment:.0%} of the budget", fontsize=7)
    for panel in found[:, 0]:
        panel.set_ylabel("Relative error (log)")
    for panel in found[-1]:
        panel.set_xlabel("Sigma (log)")
    legend = [Line2D([], [], color=colour, label=f"sparsity {value_label(level)}") for level, colour in colours.items()]
    legend += [Line2D([], [], color="#444444", label=_kind(kind), **style) for kind, style in styles.items()]
    legend += [Line2D([], [], linestyle=LINE_STYLES[1], label=f"certified up to {MOST_SCALAR_ERROR:.0%}", **_LIMIT)]
    notes = [seeds_note(seeds.values(), "geometric mean")]
    notes += figure_notes(view.cells[view.cells["cell_id"].isin(diagnoses["cell_id"])])
    message = _certified_message(diagnoses, kinds)
    frame(figure, view.heading(message), legend, notes)
    return Drawn(
        f"{message}. Relative difference between real finite-difference scalars and their limit sigma -> 0, on the "
        f"same {SCALAR_DIRECTIONS} directions and one mini-batch, at {len(moments)} milestones of training. Left of "
        "the minimum rounding dominates, right of it curvature; a simulated point whose line lies above the dotted "
        f"one ({MOST_SCALAR_ERROR:.0%}) at some milestone is not certified. {' '.join(notes)}",
        "Chart of the relative error of finite-difference scalars against the perturbation size.",
        figure,
    )


def _scalar_axes(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(LogLocator(numticks=4))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _forms(diagnoses: pd.DataFrame) -> pd.Series[str]:
    """Return each row's form of difference."""
    return diagnoses[FORM].fillna(_ALONE).astype(str) if FORM in diagnoses else pd.Series(_ALONE, diagnoses.index)


def _precisions(diagnoses: pd.DataFrame) -> pd.Series[str]:
    """Return the precision of each row's passes, nothing for float32."""
    if PRECISION not in diagnoses:
        return pd.Series("", diagnoses.index)
    return diagnoses[PRECISION].fillna("").astype(str).replace("float32", "")


def _kind(kind: tuple[str, str]) -> str:
    """Return precision and form as a legend says them."""
    return ", ".join(filter(None, (kind[1], kind[0])))


def _certified_message(diagnoses: pd.DataFrame, kinds: Sequence[tuple[str, str]]) -> str:
    """Return between which sigmas the error of each kind of pass is certified at every milestone and sparsity."""
    said: dict[str, list[str]] = {}
    for kind in kinds:
        own = diagnoses[(diagnoses["precision"] == kind[0]) & (diagnoses["form"] == kind[1])]
        logs = np.log(own["fd_scalar_error"].where(own["fd_scalar_error"] > 0))
        means = np.exp(logs.groupby([own[SIGMA], own["moment"], own["sparsity"]]).mean())
        worst = means.groupby(level=0).max()
        good = sorted(worst[worst <= MOST_SCALAR_ERROR].index)
        text = f"{value_label(good[0])} to {value_label(good[-1])}" if good else "none"
        said.setdefault(text, []).append(_kind(kind))
    parts = [f"{text} ({'; '.join(own)})" for text, own in said.items()]
    return f"Sigma with an error up to {MOST_SCALAR_ERROR:.0%} throughout: {', '.join(parts)}"

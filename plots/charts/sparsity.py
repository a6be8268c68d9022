"""The figure of accuracy against sparsity: a curve a method that prunes, a line one that does not, and differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.marks import draw_seeds, limits
from fedfore.plots.drawing.quantity import Quantity, quantity
from fedfore.plots.drawing.texts import wrapped
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.messages import highest_message, verdicts_message
from fedfore.plots.naming import Series
from fedfore.plots.seeds import Seeds, difference_of, seeds_note, seeds_of
from fedfore.plots.view import Drawn, View, handle, line_style
from fedfore.plots.wording import HEADLINES
from fedfore.records.metrics import METRICS

LEAST_LEVELS = 3
"""Sparsities of a series from which on a curve says more than rows do."""
_HEIGHTS = (1.55, 1.15)
_LABEL_SIZE = 8.0
_NARROWEST = 1.45
_DODGE, _EDGE = 0.55, 0.22
"""Shares of the least distance of two sparsities: over which series spread, and what each line has at the edge."""


@dataclass(frozen=True)
class _Curve:
    """A series at one label distribution: its points by sparsity, and these minus the reference's."""

    series: Series
    seeds: Mapping[float, Seeds]
    differences: Mapping[float, Seeds]


def has_levels(view: View) -> bool:
    """Return whether some series has enough sparsities for a curve."""
    sparse = [one.label for one in view.series if one.has_sparsity]
    ok = view.cells[view.cells["ok"] & view.cells["series"].isin(sparse)]
    return bool((ok.groupby("series", observed=True)["sparsity"].nunique() >= LEAST_LEVELS).any())


def accuracy_by_sparsity(view: View, compared: pd.DataFrame) -> Drawn:
    """Draw accuracy against sparsity, a column a label distribution, and under it minus the reference if there is one.

    The reference's cells are among those that are `compared`, whether the view has them or not.
    Methods that do not prune are horizontal lines, with their interval at the edge.
    """
    curves = {alpha: list(_curves(view, compared, alpha)) for alpha in view.alphas}
    shown = [one for own in curves.values() for curve in own for one in curve.seeds.values()]
    differences = [one for own in curves.values() for curve in own for one in curve.differences.values()]
    own, reference = quantity(view.metric, [one.estimate.mean for one in shown]), view.study.reference
    levels = sorted(
        {level for row in curves.values() for curve in row if curve.series.has_sparsity for level in curve.seeds}
    )
    heights = _HEIGHTS if differences else _HEIGHTS[:1]
    abreast = min(len(curves), max(1, int((view.width - 0.4) / _NARROWEST)))
    blocks = -(-len(curves) // abreast)
    figure = Figure(
        figsize=(min(view.width, 0.5 + 3.4 * abreast), blocks * (sum(heights) + 0.55)), layout="constrained"
    )
    grid = figure.subplots(blocks * len(heights), abreast, squeeze=False, sharex=True, height_ratios=heights * blocks)
    for number, (alpha, here) in enumerate(curves.items()):
        row, column = divmod(number, abreast)
        above, *below = grid[row * len(heights) : (row + 1) * len(heights), column]
        is_lowest = number + abreast >= len(curves)
        _draw(above, here, levels, [curve.seeds for curve in here])
        above.set_ylim(*limits(shown))
        above.set_title(alpha)
        own.ticks(above.yaxis, 5)
        for panel in below:
            panel.axhline(0.0, color="#444444", linewidth=0.8, zorder=1)
            _draw(panel, here, levels, [curve.differences for curve in here])
            panel.set_ylim(*limits(differences, 0.0))
            own.ticks(panel.yaxis, 5, signed=True)
        _label((above, *below), own, reference, column, is_lowest=is_lowest)
    for unused in grid.reshape(blocks, len(heights), abreast)[-1, :, (len(curves) - 1) % abreast + 1 :].ravel():
        unused.remove()
    named = [handle(one, view.named(one, view.cells)) for one in view.series]
    notes = [seeds_note(shown), *_lines_note(curves), *accuracy_notes(view.cells)]
    message = verdicts_message(view, view.metric) or highest_message(view.metric, _best(curves))
    frame(figure, view.heading(message), named, notes)
    window = f" ({HEADLINES[view.metric]})" if view.metric in HEADLINES else ""
    beneath = f" Below: the same minus {reference.label}, paired by seed." if reference and differences else ""
    return Drawn(
        f"{message}. {METRICS[view.metric].label} of the global model{window} against the fraction of prunable weights "
        f"that are zero (on a logarithmic axis of the density), by label distribution.{beneath} {' '.join(notes)} "
        "Marks are shifted sideways a little to be told apart.",
        f"Chart of {METRICS[view.metric].label} against sparsity for {', '.join(one.label for one in view.series)}; "
        "the table of results holds the same numbers.",
        figure,
    )


def _curves(view: View, compared: pd.DataFrame, alpha: str) -> list[_Curve]:
    here = view.cells[view.cells["alpha"] == alpha]
    reference = view.study.reference
    label = reference.label if reference else ""
    others = compared[(compared["alpha"] == alpha) & (compared["series"] == label)]
    curves = []
    for one in view.series:
        own = here[here["series"] == one.label]
        known = {float(level): own[own["sparsity"] == level] for level in sorted(own["sparsity"].unique())}
        seeds = {level: found for level, rows in known.items() if (found := seeds_of(rows, view.metric)).estimate.n}
        differences = {
            level: minus
            for level in seeds
            if one != reference and (minus := difference_of(known[level], others, view.metric))
        }
        if seeds:
            curves.append(_Curve(one, seeds, differences))
    return curves


def _place(level: float) -> float:
    """Return where a sparsity lies: on a logarithmic axis of the density."""
    return -math.log10(1 - level)


def _draw(
    panel: Axes, curves: Sequence[_Curve], levels: Sequence[float], shown: Sequence[Mapping[float, Seeds]]
) -> None:
    places = [_place(level) for level in levels]
    step = min(np.diff(places), default=0.0) or 1.0
    low, high = places[0] - 0.5 * step, places[-1] + 0.45 * step
    pruning = [curve for curve in curves if curve.series.has_sparsity]
    lines = [curve for curve in curves if not curve.series.has_sparsity]
    for curve, own in zip(curves, shown, strict=True):
        style = line_style(curve.series)
        if curve.series.has_sparsity:
            aside = _DODGE * step * ((pruning.index(curve) + 0.5) / len(pruning) - 0.5)
            at = [_place(level) + aside for level in own]
            means = [one.estimate.mean for one in own.values()]
            panel.plot(at, means, color=style["color"], linestyle=style["linestyle"], linewidth=1.0, zorder=2)
            for place, one in zip(at, own.values(), strict=True):
                draw_seeds(panel, place, one, style, upright=True)
        for one in () if curve.series.has_sparsity else own.values():
            panel.axhline(
                one.estimate.mean, color=style["color"], linestyle=style["linestyle"], linewidth=1.1, zorder=2
            )
            draw_seeds(panel, high + _EDGE * step * lines.index(curve), one, style, upright=True)
    panel.set_xlim(low, high + _EDGE * step * len(lines))
    panel.xaxis.set_major_locator(FixedLocator(places))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([value_label(level) for level in levels])
    panel.grid(axis="x", visible=False)


def _label(panels: Sequence[Axes], own: Quantity, reference: Series | None, column: int, *, is_lowest: bool) -> None:
    panels[-1].tick_params(labelbottom=True)
    if is_lowest:
        panels[-1].set_xlabel("Sparsity (log)")
    if column == 0:
        minus = f"minus {reference.label if reference else ''} ({own.difference_unit})"
        for panel, text, height in zip(panels, (own.label, minus), _HEIGHTS, strict=False):
            panel.set_ylabel("\n".join(wrapped(text, height, _LABEL_SIZE)), linespacing=1.1)
    else:
        for panel in panels:
            panel.tick_params(labelleft=False)


def _lines_note(curves: Mapping[str, Sequence[_Curve]]) -> list[str]:
    flat = any(not curve.series.has_sparsity for own in curves.values() for curve in own)
    return ["Lines across: methods that do not prune, their seeds and interval at the right edge."] if flat else []


def _best(curves: Mapping[str, Sequence[_Curve]]) -> dict[str, dict[str, Seeds]]:
    """Return what competes, by name and label distribution."""
    found: dict[str, dict[str, Seeds]] = {}
    for alpha, own in curves.items():
        for curve in own:
            for level, seeds in curve.seeds.items() if not curve.series.control else ():
                at = f" at sparsity {value_label(level)}" if curve.series.has_sparsity else ""
                found.setdefault(f"{curve.series.label}{at}", {})[alpha] = seeds
    return found

"""The figures of masks: the density of every layer, and what a mask leaves of the FLOPs and of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.layout import frame, has_below, label_edges, panels
from fedfore.plots.looks import CONTROL_STYLE
from fedfore.plots.mask_columns import LEFT, STARVED, Masked, masked, short_layer
from fedfore.plots.naming import Series
from fedfore.plots.points import points, records, select
from fedfore.plots.study import Study, shown_sparsity
from fedfore.plots.view import Drawn, Planned, View, handle, line_style, seeds_sentence
from fedfore.plots.wording import percent_text

MOST_SERIES = 8
"""Series that one figure of masks holds; the others go to further figures."""
_TRAINED = ("grad_energy_masked_point",)
"""What depends on how the weights were trained."""
_FEW_LAYERS = 8
_LAYER_WIDTH = 0.125
_PANEL_MARGIN = 0.65
_LOWEST = 0.05
"""Where a logarithmic axis of fractions may end, as a share of the lowest overall density."""
_WIDE_PANEL = 3.2
_PANEL_HEIGHT = 1.9
_REFERENCE = {"color": "#444444", "linewidth": 0.8, "linestyle": CONTROL_STYLE}


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none; label distribution: the first."""
    found = masked(view.study, view.cells)
    if not found.cells["ok"].any():
        return
    alpha = str(found.cells.loc[found.cells["ok"], "alpha"].min())
    found = Masked(found.cells[found.cells["alpha"] == alpha], found.layers)
    series = view.study.series_of(found.cells)
    pages = np.array_split(np.arange(len(series)), math.ceil(len(series) / MOST_SERIES))
    for number, places in enumerate(pages, 1):
        page = [series[place] for place in places]
        suffix, part = (f"-{number}", f" ({number} of {len(pages)})") if len(pages) > 1 else ("", "")
        if found.layers:
            content = partial(_layer_densities, view, found, page, alpha)
            yield view.planned(f"layer-densities{suffix}", f"Layer densities{part}", content)
        if any(name in LEFT for name in found.known):
            content = partial(_what_is_left, view, found, page, alpha)
            yield view.planned(f"what-is-left{suffix}", f"What masks leave{part}", content)


def mask_sentences(study: Study, cells: pd.DataFrame) -> Iterator[str]:
    """Yield which series leave the most and the least at one sparsity, among points of at least two seeds.

    Before that, where single layers keep next to nothing.
    """
    level = shown_sparsity(cells, study.series)
    found = masked(study, cells)
    starved = found.cells[found.cells["starved"]]
    if len(starved):
        labels = ", ".join(sorted(set(starved["series"].astype(str))))
        yield (
            f"In {len(starved)} of {int(found.cells['ok'].sum())} finished pruned cells single layers keep at most one "
            f"weight, or less than {STARVED:.1%} of them: {labels}."
        )
    compared = found.cells.assign(ok=found.cells["ok"] & ~found.cells["withheld"])
    for name in (name for name in LEFT if name in found.known):
        own = compared if name in _TRAINED else found.cells
        summary = points(own[own["sparsity"] == level], [name])
        enough = summary[(summary["n_ok"] > 1) & summary[name].notna()]
        if enough["series"].nunique() < 2:
            continue
        most, least = (records(one)[0] for one in (enough.nlargest(1, name), enough.nsmallest(1, name)))
        level_text = f"{LEFT[name]} at sparsity {value_label(level)}"
        if math.isclose(most[name], least[name]):
            yield f"{level_text}: the same at all {len(enough)} points ({percent_text(most[name], math.nan)} %)."
            continue
        which = [
            f"{one['series']}{', ' + one['alpha'] if enough['alpha'].nunique() > 1 else ''} "
            f"({percent_text(one[name], one[f'{name}_half_width'])} %)"
            for one in (most, least)
        ]
        yield f"{level_text}: most under {which[0]}, least under {which[1]}."


def _layer_densities(view: View, found: Masked, series: Sequence[Series], alpha: str) -> Drawn:
    """Draw every layer's density, a panel a sparsity, a line a series; densities on a logarithmic axis."""
    layers = list(found.layers)
    shown = found.cells[found.cells["series"].isin([one.label for one in series])]
    summary = points(shown, layers)
    summary = summary[summary["n_ok"] > 0]
    levels = sorted(summary["sparsity"].unique())
    many = len(layers) > _FEW_LAYERS
    needed = _LAYER_WIDTH * len(layers)
    columns = min(len(levels), max(1, int(view.width / max(_WIDE_PANEL, needed + _PANEL_MARGIN))))
    step = math.ceil(needed / (view.width / columns - _PANEL_MARGIN)) if many else 1
    figure, axes = panels(len(levels), view.width, _PANEL_HEIGHT, columns)
    floor = _logarithmic(axes[0], summary[layers].to_numpy(dtype=float), 1 - levels[-1])
    for panel, level in zip(axes, levels, strict=True):
        panel.axhline(1 - level, **_REFERENCE)
        for index, one in enumerate(series):
            own = select(summary, {"sparsity": level, "series": one.label})
            if own.empty:
                continue
            means = own[layers].to_numpy(dtype=float)[0]
            spreads = own[[f"{layer}_half_width" for layer in layers]].to_numpy(dtype=float)[0]
            dodge = 0.4 * ((index + 0.5) / len(series) - 0.5)
            panel.errorbar(
                np.arange(len(layers)) + dodge, np.maximum(means, floor), yerr=np.where(means < floor, np.nan, spreads),
                elinewidth=0.5, zorder=3, **line_style(one) | {"linewidth": 0.9, "markersize": 2.5 if many else 3.2},
            )  # fmt: skip
        panel.set_title(f"sparsity {value_label(level)}")
        panel.set_xlim(-0.6, len(layers) - 0.4)
        panel.grid(axis="x", visible=False)
        panel.set_xticks(range(0, len(layers), step), map(short_layer, layers[::step]), rotation=90 if many else 0)
        panel.tick_params(labelbottom=not (many and has_below(axes, panel)))
    label_edges(axes, "Prunable layer", "Density (log scale)")
    legend = [handle(one, view.named(one, shown)) for one in series]
    frame(figure, view.heading(), legend, figure_notes(found.cells))
    return Drawn(
        "Fraction of the weights that each prunable layer keeps at the end of the cell, layers in the model's order, "
        f"one panel a sparsity; label distribution: {alpha}. Dashed: equal densities. Densities below the axis stand "
        f"at its lower edge. {seeds_sentence(shown)}",
        f"Chart of layer densities for {', '.join(one.label for one in series)}; the table of masks holds the same "
        "numbers.",
        figure,
    )


def _what_is_left(view: View, found: Masked, series: Sequence[Series], alpha: str) -> Drawn:
    """Draw the fractions of FLOPs and gradient energy that masks leave against sparsity, both axes logarithmic."""
    shown = found.cells[found.cells["series"].isin([one.label for one in series])]
    drawn = [name for name in LEFT if name in found.known]
    summary = points(shown, drawn)
    summary = summary[summary["n_ok"] > 0]
    levels = sorted(summary["sparsity"].unique())
    density = 1 - np.array(levels)
    figure, axes = panels(len(drawn), view.width, _PANEL_HEIGHT + 0.3)
    floor = _logarithmic(axes[0], summary[drawn].to_numpy(dtype=float), density.min())
    for panel, name in zip(axes, drawn, strict=True):
        ends = np.array([density.max() * 1.12, density.min() / 1.12])
        panel.plot(ends, ends, zorder=1, **_REFERENCE)
        for index, one in enumerate(series):
            own = select(summary, {"series": one.label}).sort_values("sparsity")
            dodge = 1.035 ** (index - (len(series) - 1) / 2)
            spread = own[f"{name}_half_width"].where(own[name] >= floor)
            panel.errorbar(
                (1 - own["sparsity"]) * dodge, own[name].clip(lower=floor), yerr=spread, elinewidth=0.9, capsize=1.8,
                zorder=3, **line_style(one),
            )  # fmt: skip
        panel.set_title(LEFT[name])
        panel.set_xscale("log")
        panel.set_xlim(density.max() * 1.35, density.min() / 1.35)
        panel.xaxis.set_major_locator(FixedLocator(list(density)))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xticklabels([value_label(level) for level in levels])
    label_edges(axes, "Sparsity (log scale of density)", "Fraction left (log scale)")
    legend = [handle(one, view.named(one, shown)) for one in series]
    frame(figure, view.heading(), legend, figure_notes(found.cells))
    return Drawn(
        "Fractions of the dense model that masks leave: FLOPs of a forward pass; the gradient's energy, "
        "|m.g|² / |g|² over prunable weights, at the dense initial weights and at the masked weights (the last "
        f"milestone); label distribution: {alpha}. Dashed: the density, which equal layer densities "
        "leave of the FLOPs of these layers and a random mask, in expectation, of the gradient at the dense weights. "
        f"{seeds_sentence(shown)} Markers are shifted sideways a little to be told apart; those below the axis "
        "stand at its lower edge.",
        f"Charts of {', '.join(LEFT[name] for name in drawn)} for {', '.join(one.label for one in series)}; the "
        "table of masks holds the same numbers.",
        figure,
    )


def _logarithmic(panel: Axes, values: NDArray[np.float64], lowest: float) -> float:
    """Give the shared axis of fractions a logarithmic scale and return where smaller ones are to be drawn."""
    floor = max(0.5 * float(np.nanmin(values[values > 0], initial=lowest)), _LOWEST * lowest)
    panel.set_yscale("log", nonpositive="clip")
    panel.set_ylim(0.8 * floor, 1.25)
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if floor <= tick <= 1]
    panel.yaxis.set_major_locator(FixedLocator(inside if len(inside) <= 8 else inside[::-3]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    return floor

"""The figures of masks: the density of every layer, and what a mask leaves of the FLOPs and of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedfore.plots.charts.density_maps import layer_densities
from fedfore.plots.drawing.layout import frame, label_edges, panels
from fedfore.plots.drawing.marks import draw_seeds
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.looks import CONTROL_STYLE
from fedfore.plots.mask_columns import LEFT, STARVED, Masked, masked
from fedfore.plots.naming import Series
from fedfore.plots.points import records
from fedfore.plots.seeds import Seeds, seeds_note, seeds_of
from fedfore.plots.study import Study, shown_sparsity
from fedfore.plots.tables.point_table import point_table
from fedfore.plots.tables.quantities import share
from fedfore.plots.view import Drawn, Planned, View, handle, line_style
from fedfore.plots.wording import estimate_text, percent_text

MOST_SERIES = 8
"""Series that one figure of masks holds; the others go to further figures."""
_TRAINED = ("grad_energy_masked_point",)
"""What depends on how the weights were trained."""
_LOWEST = 0.05
"""Where a logarithmic axis of fractions may end, as a share of the lowest overall density."""
_BELOW = 0.6
"""How far below what it shows the axis goes, for what is less."""
_PANEL_HEIGHT = 2.3
_REFERENCE = {"color": "#444444", "linewidth": 0.8, "linestyle": CONTROL_STYLE}


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none; label distribution: the first."""
    found = masked(view.study, view.cells)
    if not found.cells["ok"].any():
        return
    alpha = str(found.cells.loc[found.cells["ok"], "alpha"].min())
    found = replace(found, cells=found.cells[found.cells["alpha"] == alpha])
    series = view.study.series_of(found.cells)
    pages = np.array_split(np.arange(len(series)), math.ceil(len(series) / MOST_SERIES))
    for number, places in enumerate(pages, 1):
        page = [series[place] for place in places]
        suffix, part = (f"-{number}", f" ({number} of {len(pages)})") if len(pages) > 1 else ("", "")
        known = found.cells[found.cells["series"].isin([one.label for one in page])].notna().any()
        if known[list(found.layers)].any():
            content = partial(layer_densities, view, found, page, alpha)
            yield view.planned(f"layer-densities{suffix}", f"Layer densities{part}", content)
        if known[list(LEFT)].any():
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
        table = point_table(own[own["sparsity"] == level], None)
        known = [
            (one, point)
            for one, point in zip(share(table, name).estimates, records(table.numbers), strict=True)
            if one.n and point["n_ok"] > 1
        ]
        if len({point["series"] for _, point in known}) < 2:
            continue
        ends = [by(known, key=lambda pair: pair[0].mean) for by in (max, min)]
        level_text = f"{LEFT[name]} at sparsity {value_label(level)}"
        if math.isclose(*(one.mean for one, _ in ends)):
            yield f"{level_text}: the same at all {len(known)} points ({percent_text(ends[0][0].mean)} %)."
            continue
        several = len({point["alpha"] for _, point in known}) > 1
        both_ends = any(one.is_skewed for one, _ in ends)
        which = [
            f"{point['series']}{', ' + point['alpha'] if several else ''} "
            f"({estimate_text(one, percent_text, both_ends=both_ends)} %)"
            for one, point in ends
        ]
        yield f"{level_text}: most under {which[0]}, least under {which[1]}."


def _what_is_left(view: View, found: Masked, series: Sequence[Series], alpha: str) -> Drawn:
    """Draw the fractions of FLOPs and gradient energy that masks leave against sparsity, both axes logarithmic."""
    shown = found.cells[found.cells["series"].isin([one.label for one in series])]
    drawn = [name for name in LEFT if name in found.known]
    levels = sorted(shown.loc[shown["ok"], "sparsity"].unique())
    points = [(name, one, own) for name in drawn for one in series if (own := _points(shown, one, name, levels))]
    everything = [seeds for _, _, own in points for seeds in own.values()]
    figure, axes = panels(len(drawn), view.width, _PANEL_HEIGHT)
    floor = _logarithmic(axes[0], everything, 1 - levels[-1])
    places = {level: -math.log10(1 - level) for level in levels}
    step = min(np.diff(list(places.values())), default=0.0) or 0.5
    for panel, name in zip(axes, drawn, strict=True):
        ends = [places[levels[0]] - 0.5 * step, places[levels[-1]] + 0.5 * step]
        panel.plot(ends, [10**-end for end in ends], zorder=1, **_REFERENCE)
        for one, own in ((one, own) for at, one, own in points if at == name):
            aside = 0.7 * step * ((series.index(one) + 0.5) / len(series) - 0.5)
            _draw(panel, {places[level] + aside: seeds for level, seeds in own.items()}, line_style(one), floor)
        panel.axhspan(0.0, floor, color="#F2F2F2", linewidth=0, zorder=0)
        panel.set_title(LEFT[name])
        panel.set_xlim(*ends)
        panel.set_xticks(list(places.values()), [value_label(level) for level in levels])
        panel.grid(axis="x", visible=False)
    label_edges(axes, "Sparsity (log)", "Fraction left (log)")
    below = any(min(one.values) < floor for one in everything)
    notes = [seeds_note(everything)]
    notes += [f"{alpha}. Dashed: the density." + (" Less: 0 or near it." if below else "")]
    notes += figure_notes(shown)
    message = _message(points, levels)
    frame(figure, view.heading(message), [handle(one, view.named(one, shown)) for one in series], notes)
    return Drawn(
        f"{message}. Fractions of the dense model that masks leave: FLOPs of a forward pass; the gradient's energy, "
        "|m.g|² / |g|² over prunable weights, at the dense initial weights and at the masked weights (the last "
        "milestone). Equal layer densities leave the density of the FLOPs of these layers, and a random mask leaves "
        f"it, in expectation, of the gradient at the dense weights. {' '.join(notes)} Marks are shifted sideways a "
        "little to be told apart; grey is below what the axis shows.",
        f"Charts of {', '.join(LEFT[name] for name in drawn)} for {', '.join(one.label for one in series)}; the "
        "table of masks holds the same numbers.",
        figure,
    )


def _points(shown: pd.DataFrame, series: Series, name: str, levels: Sequence[float]) -> dict[float, Seeds]:
    own = shown[shown["series"] == series.label]
    found = {level: seeds_of(own[own["sparsity"] == level], name, "logit") for level in levels}
    return {level: seeds for level, seeds in found.items() if seeds.estimate.n}


def _draw(panel: Axes, points: Mapping[float, Seeds], style: Mapping[str, Any], floor: float) -> None:
    """Draw the points of a series, what lies below the axis on its lower edge."""
    low = _lower_edge(floor)

    def held(value: float) -> float:
        return value if value >= floor else low

    means = [held(seeds.estimate.mean) for seeds in points.values()]
    panel.plot(list(points), means, color=style["color"], linestyle=style["linestyle"], linewidth=0.9, zorder=2)
    for place, seeds in points.items():
        own = seeds.estimate
        inside = replace(own, mean=held(own.mean), low=held(own.low), high=held(own.high))
        draw_seeds(
            panel, place, replace(seeds, values=tuple(map(held, seeds.values)), estimate=inside), style, upright=True,
            size=3.4,
        )  # fmt: skip


def _lower_edge(floor: float) -> float:
    return floor * _BELOW**0.5


def _message(points: Sequence[tuple[str, Series, Mapping[float, Seeds]]], levels: Sequence[float]) -> str:
    """Return which series leave most and least of the last quantity that is shown, at the middle sparsity."""
    level, name = levels[(len(levels) - 1) // 2], points[-1][0]
    own = {one.label: seeds[level].estimate.mean for at, one, seeds in points if at == name and level in seeds}
    if len(own) < 2 or min(own.values()) == max(own.values()):
        return "What masks leave"
    most, least = max(own, key=own.__getitem__), min(own, key=own.__getitem__)
    return f"{LEFT[name]} at sparsity {value_label(level)}: most under {most}, least under {least}"


def _logarithmic(panel: Axes, shown: Sequence[Seeds], lowest: float) -> float:
    """Give the shared axis of fractions a logarithmic scale and return the least that it shows."""
    values = [one.estimate.mean for one in shown if one.estimate.mean > 0]
    floor = max(0.5 * min([*values, lowest]), _LOWEST * lowest)
    panel.set_yscale("log", nonpositive="clip")
    panel.set_ylim(_BELOW * floor, 1.25)
    ticks = [digit * 10.0**power for power in range(-6, 1) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if floor <= tick <= 1]
    panel.yaxis.set_major_locator(FixedLocator([_lower_edge(floor), *(inside if len(inside) <= 8 else inside[::-3])]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= floor else "less"))
    panel.yaxis.set_minor_locator(NullLocator())
    return floor

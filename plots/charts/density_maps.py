"""The figure of layer densities: a tile a prunable layer and method, a panel a sparsity, the density written in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedfore.judgement.estimates import Estimate, estimate
from fedfore.plots.drawing.heat import colour_bar, heat_map
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.texts import text_width
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.mask_columns import Masked, short_layer
from fedfore.plots.naming import Series
from fedfore.plots.points import select
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.view import Drawn, View
from fedfore.plots.wording import human_count, together

_COLOURS = "viridis"
_DEEP = 8
"""Layers from which on a narrow figure shows colours alone, two panels side by side."""
_TILE, _BARE_TILE = 0.29, 0.11
_TITLE_WIDTH = 1.3
_ROW, _BARE_ROW = 0.135, 0.1
_LEAST_HEIGHT, _LEAST_WIDTH = 1.6, 3.3
_SMALL = 5.5
_LOWEST = 0.05
"""Where the colour scale ends, as a share of the lowest overall density: what is sparser has the last colour."""


@dataclass(frozen=True)
class _Column:
    """Series whose layers have the same densities, and these: an estimate a sparsity and layer, [levels][layers]."""

    name: str
    densities: tuple[tuple[Estimate, ...], ...]

    @property
    def means(self) -> NDArray[np.float64]:
        """The mean densities [levels, layers]."""
        return np.array([[one.mean for one in own] for own in self.densities])


def layer_densities(view: View, found: Masked, series: Sequence[Series], alpha: str) -> Drawn:
    """Draw every layer's density under every series, those alike in one column; colours on a logarithmic scale."""
    shown = found.cells[found.cells["series"].isin([one.label for one in series])]
    levels = sorted(shown.loc[shown["ok"], "sparsity"].unique())
    columns = _columns(found, series, levels)
    means = np.array([column.means for column in columns])  # [columns, levels, layers]
    norm = LogNorm(max(float(np.nanmin(means[means > 0], initial=1.0)), _LOWEST * (1 - levels[-1])), 1.0, clip=True)
    bare = is_narrow(view.width) and len(found.layers) > _DEEP
    layers = [short_layer(layer) + ("" if bare else f" ({human_count(size)})") for layer, size in found.sizes.items()]
    beside = max(text_width(name, 7.0) for name in layers) + 0.2
    tile = max(_BARE_TILE if bare else _TILE, _TITLE_WIDTH / len(columns))
    room = view.width - 0.45
    abreast = min(len(levels), max(1, int((room - beside) / (tile * len(columns) + 0.1))))
    tile = min(max(0.75, tile), (room - beside) / abreast / len(columns))
    rows = -(-len(levels) // abreast)
    under = max(text_width(column.name, 7.0) for column in columns)
    turned = under > tile - 0.04
    height = rows * ((_BARE_ROW if bare else _ROW) * len(layers) + 0.28) + (under if turned else 0.12) + 0.1
    height = max(height, _LEAST_HEIGHT)
    width = max(min(view.width, beside + abreast * len(columns) * tile + 0.45 + 0.1 * abreast), _LEAST_WIDTH)
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False).ravel()
    for unused in grid[len(levels) :]:
        unused.remove()
    for place, (level, panel) in enumerate(zip(levels, grid, strict=False)):
        values = means[:, place].T
        texts = None if bare else [[_written(value) for value in row] for row in values]
        heat_map(panel, np.where(values > 0, values, np.nan), (norm, _COLOURS), texts, size=_SMALL)
        panel.set_title(f"sparsity {value_label(level)}", loc="left")
        panel.set_yticks(range(len(layers)), layers)
        is_lowest = place + abreast >= len(levels)
        panel.set_xticks(range(len(columns)), [column.name for column in columns], rotation=90 if turned else 0)
        panel.tick_params(labelbottom=is_lowest, labelleft=place % abreast == 0)
    colour_bar(figure, list(grid[: len(levels)]), norm, _COLOURS, "Density (log)", lambda value: f"{value:g}")
    notes = [_seeds_note(columns, alpha), *figure_notes(shown)]
    message = _message(columns, levels, layers)
    frame(figure, view.heading(message), [], notes)
    return Drawn(
        f"{message}. Fraction of the weights that each prunable layer keeps at the end of the cell, layers in the "
        f"model's order with their number of weights, a panel a sparsity; colours on a logarithmic scale, blank where "
        f"nothing is left. {' '.join(notes)}",
        f"Heat maps of layer densities for {', '.join(one.label for one in series)}; the table of masks holds the same "
        "numbers.",
        figure,
    )


def _columns(found: Masked, series: Sequence[Series], levels: Sequence[float]) -> list[_Column]:
    """Return the columns, series with the same densities in one."""
    alike: dict[bytes, list[tuple[str, _Column]]] = {}
    for one in series:
        own = select(found.cells, {"series": one.label, "ok": True})
        densities = tuple(
            tuple(estimate(rows[layer].dropna(), "log") for layer in found.layers)
            for rows in (own[own["sparsity"] == level] for level in levels)
        )
        column = _Column(one.label, densities)
        alike.setdefault(np.round(column.means, 9).tobytes(), []).append((one.label, column))
    return [_Column(together([label for label, _ in own]), own[0][1].densities) for own in alike.values()]


def _written(value: float) -> str:
    if math.isnan(value):
        return ""
    if value == 0:
        return "0"
    return (
        f"{value:.2f}"
        if value >= 0.0995
        else f"{value:.3f}"
        if value >= 0.00095
        else f"{value:.0e}".replace("e-0", "e-")
    )


def _seeds_note(columns: Sequence[_Column], alpha: str) -> str:
    known = [one for column in columns for own in column.densities for one in own if one.n]
    low, high = min(one.n for one in known), max(one.n for one in known)
    n = f"{high}" if low == high else f"{low} to {high}"
    factors = [one.high / one.mean for one in known if one.n >= LEAST_FOR_AN_INTERVAL and one.mean > 0]
    factors = [factor for factor in factors if not math.isnan(factor)]
    spread = f"; 95% intervals (log) reach a factor {max(factors):.2g} at most" if factors else ""
    return f"Geometric means of n = {n} seeds, {alpha}{spread}."


def _message(columns: Sequence[_Column], levels: Sequence[float], layers: Sequence[str]) -> str:
    """Return in which layers least is left at the middle sparsity, under the sparsest and the densest of these."""
    place = (len(levels) - 1) // 2
    lowest = {
        column.name: float(np.nanmin(column.means[place]))
        for column in columns
        if not np.isnan(column.means[place]).all()
    }
    least, most = min(lowest, key=lowest.__getitem__), max(lowest, key=lowest.__getitem__)
    said = f"Sparsest layer at sparsity {value_label(levels[place])} keeps {_written(lowest[least])} under {least}"
    return said if least == most else f"{said}, {_written(lowest[most])} under {most}"

"""Heat maps: accuracy over sparsity and label skew, and over sparsity and the number of perturbations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedfore.judgement.estimates import Estimate, estimate
from fedfore.judgement.selection import places_of
from fedfore.judgement.sides import FAILED, counted, difference, mean_of, side, withheld
from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.texts import text_width, wrapped
from fedfore.plots.fields import NUM_PERTURBATIONS, value_label
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.naming import Series, settings
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.view import Drawn, Planned, View
from fedfore.plots.wording import DOUBLE_DAGGER, MINUS, UNKNOWN, interval_text, percent_text

_TILE, _TILE_WIDTH, _TILE_PAD, _OUTSIDE = 0.36, 0.5, 0.06, 0.8
"""Inches: the height and the least width of a tile and its blank edge, and what a panel takes beside its tiles."""
_TEXT, _TITLE = 6.5, 7.0
_UNKNOWN = "#EEEEEE"
_DARKEST = 0.55
"""The share of a palette that is used, so that black text is read on all of it."""


@dataclass(frozen=True)
class Map:
    """A panel of tiles: the values of its rows and of its columns, and what is known where they cross.

    `withheld` are the tiles whose simulation is not certified.
    """

    title: str
    rows: tuple[Any, ...]
    columns: tuple[float, ...]
    tiles: Mapping[tuple[Any, float], Estimate]
    withheld: frozenset[tuple[Any, float]]


@dataclass(frozen=True)
class _Look:
    """How the tiles of a map are written and coloured, and whether those that exclude 0 are bold."""

    text: Callable[[Estimate], str]
    colours: str
    norm: Normalize
    bold: bool = False


def figures(view: View) -> Iterator[Planned]:
    """Yield the maps of trained cells that vary in both axes of a map."""
    if maps := list(_skew_maps(view)):
        yield view.planned("sparsity-alpha", "Accuracy over sparsity and label skew", partial(skew, view, maps))
    if maps := list(_perturbation_maps(view, partial(_accuracy, view))):
        yield view.planned("k-sparsity", "Accuracy over K and sparsity", partial(perturbations, view, maps))


def map_of(cells: pd.DataFrame, title: str, row: str, of: Callable[[pd.DataFrame], Estimate]) -> Map | None:
    """Return the map of these cells over a column and sparsity; None unless two rows have two tiles each."""
    order: list[Any] = list(cells[row].cat.categories) if cells[row].dtype == "category" else sorted(set(cells[row]))
    levels = sorted(set(cells["sparsity"]))
    crossing = cells.groupby([row, "sparsity"], observed=True)
    places = dict(zip(crossing.size().index, places_of(crossing), strict=True))
    found = {key: cells.take(places[key]) for key in product(order, levels) if key in places}
    groups = {key: own for key, own in found.items() if own["ok"].any()}
    columns = tuple(level for level in levels if any((one, level) in groups for one in order))
    rows = tuple(one for one in order if any((one, level) in groups for level in columns))
    if sum(sum((one, level) in groups for level in columns) > 1 for one in rows) < 2:
        return None
    withheld = frozenset(key for key, own in groups.items() if own["withheld"].any())
    return Map(title, rows, columns, {key: of(own) for key, own in groups.items()}, withheld)


def _accuracy(view: View, own: pd.DataFrame) -> Estimate:
    return mean_of(own, view.metric)


def _against(view: View, evidence: pd.DataFrame, reference: Series, own: pd.DataFrame) -> Estimate:
    """Return the difference of a point to the reference, a failed seed as chance; no seeds where it is withheld."""
    cells = view.cells
    other = cells[(cells["series"] == reference.label) & (cells["alpha"] == own["alpha"].iloc[0])]
    of, against = (side(evidence.loc[rows.index], view.metric) for rows in (own, other))
    if other.empty or any(True for one in (of, against) for _ in withheld(one)):
        return Estimate(math.nan, math.nan, math.nan, 0)
    found = difference(of, against)
    return Estimate(found.mean, *found.interval(), found.n)


def _skew_maps(view: View) -> Iterator[Map]:
    """Yield a map a sparse series: its difference to the reference where the study has one, else its accuracy."""
    reference = view.study.reference
    of = partial(_against, view, view.study.evidence, reference) if reference else partial(_accuracy, view)
    for one in view.series:
        if one.has_sparsity and not one.control:
            own = view.cells[view.cells["series"] == one.label]
            if found := map_of(own, view.named(one, own), "alpha", of):
                yield found


def _perturbation_maps(view: View, of: Callable[[pd.DataFrame], Estimate]) -> Iterator[Map]:
    """Yield a map a group of zeroth-order series that differ in nothing but K, and a label distribution."""
    controls = [one.label for one in view.series if one.control]
    cells = view.cells[view.cells["estimator"].notna() & ~view.cells["series"].isin(controls)]
    if cells.empty or NUM_PERTURBATIONS not in cells:
        return
    cells = cells.assign(group=settings(cells, leave_out=(NUM_PERTURBATIONS,)))
    for (group, alpha), own in cells.groupby(["group", "alpha"], observed=True):
        if found := map_of(own, ", ".join(map(str, (group, alpha))), NUM_PERTURBATIONS, of):
            yield found


def skew(view: View, maps: Sequence[Map]) -> Drawn:
    """Draw a panel a sparse series over sparsity and label skew."""
    tiles = [tile for own in maps for tile in own.tiles.values()]
    reference = view.study.reference
    if reference:
        look = _Look(_points, "RdBu", _diverging(tiles), bold=True)
        decided = sum(_excludes_zero(tile) for tile in tiles)
        message = f"Against {reference.label}: {decided} of {len(tiles)} intervals exclude 0"
        what = "Paired difference in points, bold where its interval excludes 0, not corrected for the number of tiles"
    else:
        look, message, what = _Look(_percent(tiles), "YlGnBu", _sequential(tiles)), _range(tiles), "Mean accuracy in %"
    figure = _draw(view, [(own, look, own.title) for own in maps])
    return _framed(view, figure, message, what, maps)


def perturbations(view: View, maps: Sequence[Map]) -> Drawn:
    """Draw two panels a group of zeroth-order series over K and sparsity: accuracy, and what FLOPs buy of it."""
    tiles = [tile for own in maps for tile in own.tiles.values()]
    bought = list(_perturbation_maps(view, partial(_per_flops, view)))
    gains = [tile for own in bought for tile in own.tiles.values()]
    looks = (
        _Look(_percent(tiles), "YlGnBu", _sequential(tiles)),
        _Look(lambda tile: f"{tile.mean:.3g}", "YlGnBu", _logarithmic(gains)),
    )
    panels = [
        (own, look, f"{own.title}: {what}")
        for pair in zip(maps, bought, strict=True)
        for own, look, what in zip(pair, looks, ("accuracy, %", "points / TFLOP"), strict=True)
    ]
    figure = _draw(view, panels)
    best = max(((tile.mean, key) for own in bought for key, tile in own.tiles.items()), default=None)
    message = f"{_range(tiles)}; most of it for a FLOP at K = {best[1][0]:g}, sparsity {best[1][1]:g}" if best else ""
    what = "Mean accuracy in %; beside it points above chance for 10¹² device FLOPs, setup included"
    return _framed(view, figure, message, what, maps)


def _per_flops(view: View, own: pd.DataFrame) -> Estimate:
    gained = 100 * (counted(own, view.metric) - own["chance_accuracy"].fillna(0.0))
    bought = gained / (own["device_flops_total"] / 1e12)
    return estimate(bought.mask(own["status"].isin(FAILED), 0.0).dropna())


def _excludes_zero(tile: Estimate) -> bool:
    return tile.n >= LEAST_FOR_AN_INTERVAL and not tile.includes_zero


def _interval(tile: Estimate, *, both_ends: bool = False) -> str:
    """Return the second line of a tile, if there is one."""
    return f"\n{interval_text(tile, percent_text, both_ends=both_ends)}" if tile.n >= LEAST_FOR_AN_INTERVAL else ""


def _points(tile: Estimate) -> str:
    return f"{100 * tile.mean:+.1f}".replace("-", MINUS) + _interval(tile)


def _percent(tiles: Sequence[Estimate]) -> Callable[[Estimate], str]:
    """Return what writes an accuracy among these tiles in percent, with intervals of one form."""
    both_ends = any(tile.is_skewed for tile in tiles)
    return lambda tile: f"{percent_text(tile.mean)}{_interval(tile, both_ends=both_ends)}"


def _range(tiles: Sequence[Estimate]) -> str:
    means = [100 * tile.mean for tile in tiles if tile.n]
    return f"Accuracy from {min(means):.1f} to {max(means):.1f}%"


def _sequential(tiles: Sequence[Estimate]) -> Normalize:
    """Return a norm whose colours stay so pale that black text is read on them."""
    means = [tile.mean for tile in tiles if tile.n]
    low, high = min(means), max(means)
    return Normalize(low, low + max(high - low, 1e-9) / _DARKEST)


def _logarithmic(tiles: Sequence[Estimate]) -> Normalize:
    means = [tile.mean for tile in tiles if tile.mean > 0] or [1.0]
    low, high = min(means), max(means)
    return LogNorm(low, low * max(high / low, 1 + 1e-9) ** (1 / _DARKEST), clip=True)


def _diverging(tiles: Sequence[Estimate]) -> Normalize:
    far = max((abs(tile.mean) for tile in tiles if tile.n), default=0.0) or 1.0
    return Normalize(-far / _DARKEST, far / _DARKEST)


def _draw(view: View, shown: Sequence[tuple[Map, _Look, str]]) -> Figure:
    """Draw maps as panels, as many side by side as leave room for what stands in their tiles."""
    widest = max(len(own.columns) for own, _, _ in shown)
    written = [line for own, look, _ in shown for tile in own.tiles.values() for line in look.text(tile).split("\n")]
    width = max(_TILE_WIDTH, *(text_width(line, _TEXT) + _TILE_PAD for line in written))
    columns = max(1, min(len(shown), int(view.width / (width * widest + _OUTSIDE))))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    heights = [_OUTSIDE + _TILE * max(len(own.rows) for own, _, _ in row) for row in rows]
    figure = Figure(figsize=(view.width, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for panel in grid.ravel()[len(shown) :]:
        panel.remove()
    for panel, (own, look, title) in zip(grid.ravel(), shown, strict=False):
        _draw_map(panel, own, look)
        panel.set_title("\n".join(wrapped(title, view.width / columns - 0.3, _TITLE)), fontsize=_TITLE)
        panel.set_xlabel("Sparsity")
    return figure


def _draw_map(panel: Axes, own: Map, look: _Look) -> None:
    tones = colormaps[look.colours]
    for row, first in enumerate(own.rows):
        for column, level in enumerate(own.columns):
            tile = own.tiles.get((first, level))
            known = tile is not None and bool(tile.n)
            colour = tones(look.norm(tile.mean)) if tile and known else _UNKNOWN
            panel.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
            mark = f" {DOUBLE_DAGGER}" if (first, level) in own.withheld else ""
            text = f"{look.text(tile)}{mark}" if tile and known else UNKNOWN
            weight = "bold" if look.bold and tile is not None and _excludes_zero(tile) else "normal"
            panel.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=_TEXT, fontweight=weight)
    panel.set(xlim=(0, len(own.columns)), ylim=(len(own.rows), 0))
    panel.set_xticks([place + 0.5 for place in range(len(own.columns))], list(map(value_label, own.columns)))
    names = [one if isinstance(one, str) else f"K = {one:g}" for one in own.rows]
    panel.set_yticks([place + 0.5 for place in range(len(own.rows))], names)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _framed(view: View, figure: Figure, message: str, what: str, maps: Sequence[Map]) -> Drawn:
    counts = [tile.n for own in maps for tile in own.tiles.values()]
    n = " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))
    notes = [
        f"{what}; n = {n} seeds, below it the 95% interval (none below {LEAST_FOR_AN_INTERVAL} seeds).",
        *accuracy_notes(view.cells, DOUBLE_DAGGER),
    ]
    frame(figure, view.heading(message), [], notes)
    return Drawn(
        f"{message}. {' '.join(notes)}",
        f"Heat maps of accuracy over sparsity: {'; '.join(own.title for own in maps)}.",
        figure,
    )

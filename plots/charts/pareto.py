"""Accuracy against what it costs a device and the network: every setting as a point, and the Pareto front."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedfore.plots.charts.tradeoff import on_front
from fedfore.plots.drawing.cost_axis import DEVICE_FLOPS, PEAK_MEMORY, TOTAL_BYTES, CostAxis
from fedfore.plots.drawing.labels import Label, write_apart
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.marks import bounded
from fedfore.plots.drawing.quantity import quantity
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.naming import Series
from fedfore.plots.points import POINT, records
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL, seeds_of
from fedfore.plots.view import Drawn, Planned, View, line_style, mark_withheld
from fedfore.records.metrics import METRICS

_COSTS: Mapping[str, CostAxis] = {
    "peak_device_bytes": PEAK_MEMORY,
    "device_flops_total": DEVICE_FLOPS,
    "total_bytes": TOTAL_BYTES,
}
_MOST_NAMED = 8
"""Series that a legend names one by one; of more it names the methods, and numbers stand at what is on a front."""
_MOST_SAID = 3
_PANEL_HEIGHT, _BESIDE, _ABOVE_AND_BELOW = 1.6, 0.45, 0.6
"""Inches: the height of a panel, and how much of its width and of its height is outside of its frame."""
_MARKERS = (6.0, 3.0)
"""Sizes in points of the densest and of the sparsest."""
_PALE = 0.4
_Y_TICKS = 5


@dataclass(frozen=True)
class _Entry:
    """A series on one model, as the figure draws and names it."""

    series: Series
    model: str
    label: str
    number: int | None = None

    def owns(self, table: pd.DataFrame) -> pd.Series[bool]:
        """Return which points are its own."""
        return (table["series"] == self.series.label) & (table["model"] == self.model)


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of each data set on which several settings were trained whose costs are known."""
    cells = view.cells[view.cells["trained"]]
    for _, own in cells.groupby("dataset", sort=False):
        known = own[own["ok"]].dropna(subset=[view.metric, *_COSTS])
        if len(known.drop_duplicates(list(POINT))) > 1:
            shown = replace(view, cells=own)
            yield shown.planned("pareto", "Accuracy against costs", partial(pareto, shown))


def settings_with_costs(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row a point: `mean`, `low` and `high` of the metric over `n` seeds, and its mean costs.

    `hollow` says whether it competes with nothing: a control, withheld, or without the value of a
    seed. Costs are of the seeds that ended well. Points without a mean or a cost are left out.
    """
    rows = []
    for key, own in cells.groupby(list(POINT), observed=True):
        found = seeds_of(own, metric)
        low, high = found.interval or (np.nan, np.nan)
        n = found.estimate.n
        rows.append(
            {**dict(zip(POINT, key, strict=True)), "mean": found.estimate.mean, "low": low, "high": high, "n": n}
            | {name: own.loc[own["ok"], name].mean() for name in _COSTS}
            | {"withheld": found.withheld, "hollow": found.withheld or n < len(own) or bool(own["control"].any())}
        )
    table = pd.DataFrame(rows, columns=[*POINT, "mean", "low", "high", "n", *_COSTS, "withheld", "hollow"])
    return table.dropna(subset=["mean", *_COSTS])


def with_fronts(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return a table of points with a column `front_<cost>` for each cost: whether a point that competes is on a front.

    Fronts are of one data set and label distribution.
    """
    table = table.assign(**{f"front_{name}": False for name in _COSTS})
    sign = 1.0 if METRICS[metric].direction == "lower" else -1.0
    for _, own in table[~table["hollow"]].groupby(["dataset", "alpha"], observed=True):
        for name in _COSTS:
            table.loc[own.index, f"front_{name}"] = on_front(
                own[name].to_numpy(dtype=float), sign * own["mean"].to_numpy(dtype=float)
            )
    return table


def pareto(view: View) -> Drawn:
    """Draw the metric against three costs, a column a cost and a row a label distribution; at column width turned."""
    table = with_fronts(settings_with_costs(view.cells, view.metric), view.metric)
    shown = quantity(view.metric, table["mean"])
    entries = list(_entries(view, table))
    alphas = [alpha for alpha in view.alphas if (table["alpha"] == alpha).any()]
    figure, axes, columns = _grid(view.width, alphas)
    for (alpha, cost), panel in axes.items():
        here = table[table["alpha"] == alpha]
        _COSTS[cost].limit(panel, table[cost].min(), table[cost].max())
        _draw_panel(panel, here, cost, entries, _sizes(table))
    for (alpha, cost), panel in axes.items():
        panel.set_ylim(*bounded(view.metric, panel.get_ylim()))  # of all panels in its row
        _number(panel, table[table["alpha"] == alpha], cost, entries, view.width / columns - _BESIDE)
        shown.ticks(panel.yaxis, _Y_TICKS)
        _label(panel, alpha if len(alphas) > 1 else "", cost, view)
    figure.supylabel(shown.label)
    notes = [*_notes(table, entries), *accuracy_notes(view.cells)]
    frame(figure, view.heading(_message(table, entries)), _legend(entries), notes)
    return Drawn(
        f"{_message(table, entries)}. Every point is a series at a sparsity, its {shown.label} against the "
        f"peak of a device's live tensor bytes, the FLOPs of all devices and the bytes of all messages, those of setup "
        f"included. {' '.join(notes)}",
        f"Scatter charts of {METRICS[view.metric].label} against memory, FLOPs and bytes for "
        f"{', '.join(one.label for one in entries)}; the table of results holds the same numbers.",
        figure,
    )


def _grid(width: float, alphas: Sequence[str]) -> tuple[Figure, dict[tuple[str, str], Axes], int]:
    """Return a figure with a panel a label distribution and cost, and how many panels stand side by side."""
    if is_narrow(width):
        places = [(alpha, cost) for cost in _COSTS for alpha in alphas]
        columns = 2 if len(alphas) % 2 == 0 else 1
    else:
        places = [(alpha, cost) for alpha in alphas for cost in _COSTS]
        columns = len(_COSTS)
    rows = -(-len(places) // columns)
    figure = Figure(figsize=(width, rows * _PANEL_HEIGHT), layout="constrained")
    grid = figure.subplots(rows, columns, sharey="row", squeeze=False).ravel()
    return figure, dict(zip(places, grid, strict=True)), columns


def _label(panel: Axes, alpha: str, cost: str, view: View) -> None:
    place = panel.get_subplotspec()
    assert place is not None, "every panel comes from a grid"
    if place.is_last_row() or is_narrow(view.width):
        panel.set_xlabel(_COSTS[cost].label)
    if place.is_first_col() or is_narrow(view.width):
        panel.set_title(alpha, loc="left")


def _entries(view: View, table: pd.DataFrame) -> Iterator[_Entry]:
    """Yield the series of the points, one by one for each model that they are trained on.

    Where there are too many for a legend, those on a front are numbered.
    """
    pairs = [
        (one, str(model))
        for one in view.series
        for model in dict.fromkeys(table.loc[table["series"] == one.label, "model"])
    ]
    usual = pairs[0][1]
    number = 0
    for one, model in pairs:
        before = [other for other, _ in pairs[: pairs.index((one, model))] if other == one]
        own = replace(one, variant=one.variant + len(before))
        name = view.named(one, view.cells)
        entry = _Entry(own, model, name if model == usual else f"{name}, {model}")
        if len(pairs) > _MOST_NAMED and _fronts(table[entry.owns(table)]).to_numpy().any():
            number += 1
            entry = replace(entry, number=number)
        yield entry


def _fronts(table: pd.DataFrame) -> pd.DataFrame:
    return table[[f"front_{name}" for name in _COSTS]]


def _draw_panel(
    panel: Axes, here: pd.DataFrame, cost: str, entries: Sequence[_Entry], sizes: Mapping[float, float]
) -> None:
    front = here[here[f"front_{cost}"]].sort_values(cost)
    if len(front):
        right = panel.get_xlim()[1]
        panel.step(
            [*front[cost], right], [*front["mean"], front["mean"].iloc[-1]], where="post", color="#888888",
            linewidth=0.8, linestyle=(0, (3, 1.5)), zorder=1,
        )  # fmt: skip
    for entry in entries:
        for row in records(here[entry.owns(here)]):
            _draw_point(panel, row, cost, entry, sizes[row["sparsity"]])


def _draw_point(panel: Axes, row: Mapping[str, Any], cost: str, entry: _Entry, size: float) -> None:
    """Draw a point with its interval: filled on the front, pale off it, hollow where it competes with nothing."""
    style = line_style(entry.series)
    on_it = row[f"front_{cost}"]
    shared: dict[str, Any] = {
        "color": style["color"], "alpha": 1.0 if on_it else _PALE, "zorder": 4 if on_it else 3
    }  # fmt: skip
    panel.plot([row[cost]] * 2, [row["low"], row["high"]], marker="_", markersize=3, linewidth=0.8, **shared)
    face = "white" if row["hollow"] else style["color"]
    panel.plot([row[cost]], [row["mean"]], marker=style["marker"], markersize=size, markerfacecolor=face, **shared)
    if row["withheld"]:
        mark_withheld(panel, row[cost], row["mean"])


def _number(panel: Axes, here: pd.DataFrame, cost: str, entries: Sequence[_Entry], width: float) -> None:
    """Write the numbers of series beside their points on the front."""
    points = [Label(row[cost], row["mean"], "") for row in records(here)]
    labels = [
        Label(row[cost], row["mean"], f"#{entry.number}")
        for entry in entries
        if entry.number
        for row in records(here[entry.owns(here) & here[f"front_{cost}"]])
    ]
    write_apart(panel, (width, _PANEL_HEIGHT - _ABOVE_AND_BELOW), labels, points)


def _sizes(table: pd.DataFrame) -> dict[float, float]:
    """Return the marker size of each sparsity: the sparser the smaller."""
    levels = sorted(table["sparsity"].unique())
    return dict(zip(levels, np.linspace(*_MARKERS, len(levels)) if len(levels) > 1 else [_MARKERS[0]], strict=True))


def _legend(entries: Sequence[_Entry]) -> list[Line2D]:
    """Return a sample of each series, or, of too many, of each method."""
    named = len(entries) <= _MOST_NAMED
    looks = {entry.label if named else entry.series.look.label: entry.series for entry in reversed(entries)}
    styles = {label: line_style(series) | {"linestyle": ""} for label, series in reversed(looks.items())}
    return [Line2D([], [], label=label, **style) for label, style in styles.items()]


def _message(table: pd.DataFrame, entries: Sequence[_Entry]) -> str:
    """Return which series are on every front, or, where none is, which are on the most of them."""
    counts = {}
    panels = [(alpha, name) for alpha in table["alpha"].unique() for name in _COSTS]
    for entry in entries:
        own = table[entry.owns(table)]
        counts[entry.label] = sum(bool(own.loc[own["alpha"] == alpha, f"front_{name}"].any()) for alpha, name in panels)
    most = max(counts.values())
    best = [label for label, count in counts.items() if count == most]
    if not most:
        return "No series competes"
    which = f"all {most}" if most == len(panels) else f"{most} of {len(panels)}"
    others = f" and {len(best) - _MOST_SAID} more" if len(best) > _MOST_SAID else ""
    return f"On {which} Pareto fronts: {'; '.join(best[:_MOST_SAID])}{others}"


def _notes(table: pd.DataFrame, entries: Sequence[_Entry]) -> Iterator[str]:
    low, high = int(table["n"].min()), int(table["n"].max())
    seeds = f"{high}" if low == high else f"{low} to {high}"
    yield (
        f"Means over n = {seeds} seeds with 95% intervals, none below {LEAST_FOR_AN_INTERVAL} seeds. Dashed: "
        "the Pareto front of the means; off it points are pale. Hollow: competes with nothing (a control, not "
        "certified, or without the value of a seed)."
    )
    levels = [value_label(level) for level in sorted(table["sparsity"].unique())]
    if len(levels) > 1:
        yield f"Size: sparsity, from {levels[0]} (large) to {levels[-1]} (small)."
    numbered = [f"#{entry.number} {entry.label}" for entry in entries if entry.number]
    if numbered:
        yield f"{'; '.join(numbered)}."

"""The figure of what metering-only cells say: a device's peak bytes against the FLOPs of its step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.layout import frame, is_narrow, label_edges
from fedfore.plots.looks import Look
from fedfore.plots.naming import settings
from fedfore.plots.view import Drawn, Planned, View
from fedfore.plots.wording import axis_label, human_bytes, human_count

_BYTES, _FLOPS, _BATCH = "peak_device_bytes", "device_step_flops", "train.batch_size"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_PANEL_HEIGHT = 2.45
_LARGEST, _SMALLEST = 6.4, 3.4
"""Sizes of the first and the last option's markers, so that both are seen where they coincide."""


@dataclass(frozen=True)
class _Option:
    """A method with its options: one line of a panel, along the batch sizes."""

    label: str
    colour: str
    marker: str


def _options(cells: pd.DataFrame, dealt: Mapping[str, Look]) -> Iterator[_Option]:
    """Yield the options that the column `option` names: a method's colour, and another marker for each of its own."""
    finished = cells[cells["ok"]]
    for method, own in finished.groupby("method", sort=False):
        present = own["option"].cat.remove_unused_categories().cat.categories
        for number, label in enumerate(present):
            yield _Option(label, dealt[str(method)].colour, _MARKERS[number % len(_MARKERS)])


def on_front(bytes_: NDArray[np.float64], flops: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points [N] no other point beats: none needs less of one and no more of the other."""
    no_more = (bytes_[:, None] <= bytes_) & (flops[:, None] <= flops)
    less = (bytes_[:, None] < bytes_) | (flops[:, None] < flops)
    return np.asarray(~(no_more & less).any(axis=0))


def _draw_front(panel: Axes, front: pd.DataFrame, batch: float) -> None:
    """Draw the staircase of the best points of one batch size, the batch written at its end."""
    front = front.drop_duplicates([_BYTES, _FLOPS]).sort_values(_BYTES)
    panel.step(
        front[_BYTES], front[_FLOPS], where="post", color="#999999", linewidth=0.7, linestyle=(0, (2, 1.5)), zorder=1
    )
    last = front.iloc[-1]
    panel.annotate(
        f"B = {value_label(batch)}", (last[_BYTES], last[_FLOPS]), xytext=(4, -7), textcoords="offset points",
        fontsize=6.5, color="#666666",
    )  # fmt: skip


def _draw_model(panel: Axes, model: str, cells: pd.DataFrame, options: list[_Option]) -> None:
    ok = cells[cells["ok"]]
    kept = pd.Series(False, ok.index)
    for batch, same in ok.groupby(_BATCH):
        kept[same.index] = on_front(same[_BYTES].to_numpy(dtype=float), same[_FLOPS].to_numpy(dtype=float))
        _draw_front(panel, same[kept[same.index]], float(str(batch)))
    sizes = np.linspace(_LARGEST, _SMALLEST, len(options))
    for option, size in zip(options, sizes, strict=True):
        own = ok[ok["option"] == option.label].sort_values(_BATCH)
        panel.plot(own[_BYTES], own[_FLOPS], color=option.colour, linewidth=0.7, alpha=0.55, zorder=2)
        for best, shown in own.groupby(kept[own.index]):
            face = option.colour if best else "white"
            panel.plot(
                shown[_BYTES], shown[_FLOPS], linestyle="", marker=option.marker, markersize=size,
                zorder=3 + bool(best), markerfacecolor=face, markeredgecolor=option.colour, markeredgewidth=0.8,
            )  # fmt: skip
    panel.margins(0.1, 0.1)
    panel.set_title(model)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(LogLocator(base=2, numticks=6))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of the metering-only cells of one data set."""
    dataset = str(view.cells["dataset"].iloc[0])
    yield Planned(f"cost-tradeoff-{dataset}", f"Memory against compute: {dataset}", partial(cost_tradeoff, view))


def cost_tradeoff(view: View) -> Drawn:
    """Draw peak device bytes against device-step FLOPs of metering-only cells, a panel a model with an ok cell."""
    cells, width = view.cells, view.width
    several = bool((cells.groupby("method")["sparsity"].nunique() > 1).any())
    also = ("sparsity",) if several else ()
    cells = cells.assign(option=settings(cells, leave_out=(_BATCH,), also=also))
    options = list(_options(cells, view.study.looks))
    models = list(dict.fromkeys(cells.loc[cells["ok"], "model"]))
    columns = 1 if is_narrow(width) else min(2, len(models))
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(width, rows * _PANEL_HEIGHT), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for unused in grid[len(models) :]:
        unused.remove()
    axes = list(grid[: len(models)])
    for panel, model in zip(axes, models, strict=True):
        _draw_model(panel, model, cells[cells["model"] == model], options)
    label_edges(axes, axis_label(_BYTES, "log scale"), axis_label(_FLOPS, "log scale"))
    legend = [
        Line2D([], [], color=one.colour, marker=one.marker, linewidth=0.7, markersize=4.2, label=one.label)
        for one in options
    ]
    frame(figure, view.heading(), legend, figure_notes(cells))
    levels = sorted(cells.loc[cells["ok"] & (cells["sparsity"] > 0), "sparsity"].unique())
    pruned = f" Pruned methods are at sparsity {', '.join(map(value_label, levels))}." if levels else ""
    return Drawn(
        "Peak of live tensor bytes of a device, over all phases, against the FLOPs of its update on one batch, metered "
        "without training; a line joins the batch sizes B of a method with its options. Dashed: the Pareto front of "
        f"each batch size, whose points are filled; another point of that size beats a hollow one.{pruned} Where the "
        "mask is scored on the device, that phase can set the peak at every batch size.",
        f"Scatter charts of peak device bytes and device-step FLOPs for {', '.join(one.label for one in options)} on "
        f"{', '.join(models)}; the table of results holds the same numbers.",
        figure,
    )

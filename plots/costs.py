"""The figure of what a device pays: peak memory split by what it holds, and FLOPs a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.layout import frame, is_narrow, side_by_side
from fedfore.plots.points import points, records
from fedfore.plots.style import PART_COLOURS
from fedfore.plots.view import Drawn, Planned, View, line_style
from fedfore.plots.wording import DAGGER, OVERSPENT, axis_label, human_bytes, human_count
from fedfore.records.metrics import METRICS, PEAK_PARTS

Values = NDArray[np.float64]

_BAR_PITCH = 0.16
_SERIES_GAP = 0.4
_LOG_FROM = 20.0
"""Bars whose lengths differ by more than this factor get a logarithmic axis."""


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of what a device pays."""
    yield view.planned("cost", "Device memory and compute", partial(device_costs, view))


def _write_values(panel: Axes, rows: Values, values: Values, ends: Values, write: Callable[[float], str]) -> None:
    """Write each value beside the end of its bar."""
    for row, value, end in zip(rows, values, ends, strict=True):
        text = "not measured" if math.isnan(value) else write(value)
        panel.annotate(text, (end, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)


def _draw_memory(panel: Axes, rows: Values, parts: dict[str, Values], peak: Values, *, room: float) -> None:
    """Draw stacked bars of bytes; `room` is the axis' length in longest bars."""
    left = np.zeros(len(rows))
    for (_, sizes), colour in zip(parts.items(), PART_COLOURS, strict=True):
        panel.barh(rows, sizes, left=left, height=0.72, color=colour, edgecolor="white", linewidth=0.4)
        left = left + sizes
    _write_values(panel, rows, peak, np.fmax(left, np.nan_to_num(peak)), human_bytes)
    longest = max(1024.0, float(np.nan_to_num(peak).max()))
    unit = 1024.0 ** int(math.log(longest, 1024))
    ticks = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, longest / unit)
    panel.set_xlim(0, room * longest)
    panel.xaxis.set_major_locator(FixedLocator([tick * unit for tick in ticks if tick * unit <= 1.1 * longest]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value) if value else "0"))


def _draw_flops(panel: Axes, rows: Values, flops: Values, colours: list[str], *, log: bool) -> None:
    """Draw bars of FLOPs."""
    known = np.nan_to_num(flops)
    most = max(1.0, float(known.max()))
    start = 10 ** math.floor(math.log10(known[known > 0].min()) - 0.3) if log else 0.0
    panel.barh(rows, np.fmax(known - start, 0), left=start, height=0.72, color=colours)
    _write_values(panel, rows, flops, np.fmax(known, start), human_count)
    if log:
        panel.set_xscale("log")
        panel.set_xlim(start, most * (most / start) ** 0.35)
        panel.xaxis.set_major_locator(LogLocator(numticks=5))
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_xlim(0, 1.35 * most)
        panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))


def device_costs(view: View) -> Drawn:
    """Draw peak device bytes by part and device-step FLOPs, a bar a series and sparsity."""
    summary = points(view.cells, ["peak_device_bytes", "device_step_flops", *PEAK_PARTS], by=("series", "sparsity"))
    summary = summary[summary["n_ok"] > 0]
    series = {one.label: one for one in view.series}
    names = [
        row["series"]
        + (f", s={value_label(row['sparsity'])}" if series[row["series"]].has_sparsity else "")
        + (f" {DAGGER}" if row["stale"] else "")
        + (f" {OVERSPENT}" if row["overspent"] else "")
        for row in records(summary)
    ]
    codes = summary["series"].cat.codes.to_numpy()
    rows = np.arange(len(names)) + _SERIES_GAP * np.cumsum(np.diff(codes, prepend=codes[0]) != 0)
    figure, memory, compute = side_by_side(view.width, 0.7 + _BAR_PITCH * (rows[-1] + 1))
    narrow = is_narrow(view.width)
    parts = {part: summary[part].fillna(0.0).to_numpy() for part in PEAK_PARTS}
    peak, flops = (summary[metric].to_numpy() for metric in ("peak_device_bytes", "device_step_flops"))
    _draw_memory(memory, rows, parts, peak, room=1.5 if narrow else 1.3)
    positive = flops[flops > 0]
    log = bool(len(positive)) and bool(positive.max() > _LOG_FROM * positive.min())
    _draw_flops(compute, rows, flops, [line_style(series[label])["color"] for label in summary["series"]], log=log)
    place: Literal["right", "center"] = "right" if narrow else "center"
    memory.set_xlabel(axis_label("peak_device_bytes"), loc=place)
    compute.set_xlabel(axis_label("device_step_flops", "log scale" if log else ""), loc=place)
    for panel in (memory, compute):
        panel.grid(axis="y", visible=False)
        panel.set_yticks(rows, names)
        panel.set_ylim(rows[-1] + 0.6, -0.6)
    compute.tick_params(labelleft=narrow)
    legend = [
        Patch(facecolor=colour, label=METRICS[part].label) for part, colour in zip(parts, PART_COLOURS, strict=True)
    ]
    frame(figure, view.heading(), legend, figure_notes(view.cells))
    reading = " The FLOPs axis is logarithmic: compare the ends of bars, not their lengths." if log else ""
    sparsity = " s: sparsity." if any(one.has_sparsity for one in view.series) else ""
    return Drawn(
        "Peak of live tensor bytes of one device, split by what they hold, and FLOPs (2 x multiply-accumulates) of one "
        "device's update on one batch. Both are metered on the algorithm that a device runs, never on a simulation; "
        f"means over all label distributions and seeds.{reading}{sparsity}",
        f"Bar charts of peak device bytes and device-step FLOPs for {', '.join(names)}; the table of results holds the "
        "same numbers.",
        figure,
    )

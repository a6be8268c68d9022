"""The figure of what a device pays: peak memory of setup and of training, split by what it holds, and FLOPs a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.quantity import Quantity, quantity
from fedfore.plots.drawing.rows import Name, Values, fits, rows_of_panels
from fedfore.plots.drawing.style import PART_COLOURS
from fedfore.plots.drawing.texts import text_width
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.naming import Series
from fedfore.plots.points import points, records
from fedfore.plots.view import Drawn, Planned, View, line_style
from fedfore.plots.wording import DAGGER, OVERSPENT, axis_label, human_count, together
from fedfore.records.metrics import METRICS, PEAK_PARTS

_PEAK, _FLOPS = "peak_device_bytes", "device_step_flops"
_PHASES = {"setup": f"{_PEAK}_setup", "training": f"{_PEAK}_train"}
_COSTS = (_PEAK, *_PHASES.values(), _FLOPS)
_OTHER_PHASE = "#D4D4D4"
_SMALL = 6.0
_SAME = 1e-3
"""Costs that differ by a smaller share are drawn as one row."""


@dataclass(frozen=True)
class _Row:
    """Series, at a sparsity each, that cost the same; `costs` are means, of `_COSTS` and `PEAK_PARTS`, or NaN."""

    names: tuple[str, ...]
    series: tuple[Series, ...]
    costs: Mapping[str, float]

    @property
    def name(self) -> str:
        """The names of the series as one."""
        return together(self.names)

    @property
    def bars(self) -> list[tuple[str, float, bool]]:
        """The phases that have a peak, its bytes, and whether that is the peak of all, whose parts are known."""
        peak = self.costs[_PEAK]
        found = {phase: self.costs[name] for phase, name in _PHASES.items() if self.costs[name] > 0}
        if not found and peak > 0:
            return [("", peak, True)]
        highest = max(found, key=found.__getitem__, default="")
        return [(phase if len(found) > 1 else "", value, phase == highest) for phase, value in found.items()]


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of what a device pays."""
    yield view.planned("cost", "Device memory and compute", partial(device_costs, view))


def device_costs(view: View) -> Drawn:
    """Draw the peak device bytes of each phase, by part where it is the peak of all, and device-step FLOPs."""
    rows = list(_rows(view))
    peaks = quantity(_PEAK, [row.costs[_PEAK] for row in rows])
    flops = [row.costs[_FLOPS] for row in rows if row.costs[_FLOPS] > 0]
    labels = [peaks.label, axis_label(_FLOPS, "log scale" if flops else "")]
    names = [Name(row.name) for row in rows]
    both = any(len(row.bars) > 1 for row in rows)
    pitch = 0.29 if both else 0.18
    if fits(len(labels), view.width / 1.35):
        grid = rows_of_panels([names], [labels], view.width, pitches=[pitch])
        memory, compute = grid.blocks[0].panels
    else:
        grid = rows_of_panels([names] * 2, [[label] for label in labels], view.width, pitches=[pitch, 0.18])
        (memory,), (compute,) = (block.panels for block in grid.blocks)
    _draw_memory(memory, grid.blocks[0].places, rows, peaks, grid.panel_width)
    _draw_flops(compute, grid.blocks[-1].places, rows, grid.panel_width)
    parts = [part for part in PEAK_PARTS if any(row.costs[part] > 0 for row in rows)]
    legend = [Patch(facecolor=PART_COLOURS[PEAK_PARTS.index(part)], label=METRICS[part].label) for part in parts]
    legend += [Patch(facecolor=_OTHER_PHASE, label="other phase (parts not recorded)")] if both else []
    notes = list(_notes(rows, both=both)) + figure_notes(view.cells)
    message = _message(view, rows)
    frame(grid.figure, view.heading(message), legend, notes)
    return Drawn(
        f"{message}. Peak of live tensor bytes of one device, split by what they hold, and FLOPs (2 x "
        "multiply-accumulates) of one device's update on one batch. Both are metered on the algorithm that a device "
        f"runs, never on a simulation; means over all label distributions and seeds. {' '.join(notes)}",
        f"Bars of peak device bytes and dots of device-step FLOPs for {', '.join(row.name for row in rows)}; the table "
        "of results holds the same numbers.",
        grid.figure,
    )


def _rows(view: View) -> Iterator[_Row]:
    """Yield the rows: series and sparsities in their order, each with those after it that cost the same."""
    summary = points(view.cells, [*_COSTS, *PEAK_PARTS], by=("series", "sparsity"))
    series = {one.label: one for one in view.series}
    levels = summary.loc[summary["sparsity"] > 0, "sparsity"].nunique()
    left = []
    for row in records(summary[summary["n_ok"] > 0]):
        one = series[row["series"]]
        said = f", sparsity {value_label(row['sparsity'])}" if one.has_sparsity and levels > 1 else ""
        marks = [mark for mark, has in ((DAGGER, row["stale"]), (OVERSPENT, row["overspent"])) if has]
        costs = {name: float(row[name]) for name in (*_COSTS, *PEAK_PARTS)}
        left.append(_Row((" ".join([f"{one.label}{said}", *marks]),), (one,), costs))
    while left:
        same = [own for own in left if _alike(own.costs, left[0].costs)]
        left = [own for own in left if own not in same]
        names = tuple(name for own in same for name in own.names)
        yield _Row(names, tuple(one for own in same for one in own.series), same[0].costs)


def _alike(first: Mapping[str, float], second: Mapping[str, float]) -> bool:
    def same(one: float, other: float) -> bool:
        return math.isclose(one, other, rel_tol=_SAME) or (math.isnan(one) and math.isnan(other))

    return all(same(first[name], second[name]) for name in _COSTS)


def _draw_memory(panel: Axes, places: Values, rows: Sequence[_Row], peaks: Quantity, width: float) -> None:
    """Draw a bar a phase, its bytes written behind it."""
    longest = max([1024.0, *(value for row in rows for _, value, _ in row.bars)])
    texts: list[str] = []
    for place, row in zip(places, rows, strict=True):
        bars = row.bars
        high = 0.1 if len(bars) > 1 else 0.12
        for number, (phase, value, is_peak) in enumerate(bars):
            at = float(place) + (number - (len(bars) - 1) / 2) * (high + 0.012)
            left = 0.0
            for part, colour in zip(PEAK_PARTS, PART_COLOURS, strict=True) if is_peak else ():
                size = row.costs[part] if row.costs[part] > 0 else 0.0
                panel.barh(at, size, left=left, height=high, color=colour, linewidth=0)
                left += size
            if left < value * (1 - _SAME):
                panel.barh(at, value - left, left=left, height=high, color=_OTHER_PHASE, linewidth=0)
            texts.append(f"{peaks.unit.text(value)} {phase}".strip())
            _write(panel, value, at, texts[-1])
        if not bars:
            texts.append("not measured")
            _write(panel, 0.0, float(place), texts[-1])
    panel.set_xlim(0, longest / max(0.25, 1 - _written(texts) / width))
    peaks.ticks(panel.xaxis, max(2, int(width / 0.5)))


def _draw_flops(panel: Axes, places: Values, rows: Sequence[_Row], width: float) -> None:
    """Draw dots on a logarithmic axis, the count written beside each."""
    known = [row.costs[_FLOPS] for row in rows if row.costs[_FLOPS] > 0]
    low, high = (min(known), max(known)) if known else (1.0, 1.0)
    texts = [human_count(row.costs[_FLOPS]) if row.costs[_FLOPS] > 0 else "not measured" for row in rows]
    for place, row, text in zip(places, rows, texts, strict=True):
        value = row.costs[_FLOPS]
        if value > 0:
            panel.plot(
                [value],
                [place],
                linestyle="",
                marker="o",
                markersize=4.5,
                color=line_style(row.series[0])["color"],
                zorder=3,
            )
        _write(panel, value if value > 0 else low, float(place), text, aside=5)
    decades = max(1.0, math.log10(high / low))
    room = min(0.6, (_written(texts) + 0.08) / width)
    left = low / 10 ** (0.08 * decades)
    panel.set_xscale("log")
    panel.set_xlim(left, left * 10 ** (1.08 * decades / (1 - room)))
    panel.xaxis.set_major_locator(LogLocator(numticks=max(2, int(width / 0.45))))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))


def _write(panel: Axes, x: float, y: float, text: str, aside: float = 2.5) -> None:
    panel.annotate(
        text, (x, y), xytext=(aside, 0), textcoords="offset points", va="center_baseline", fontsize=_SMALL, zorder=4
    )


def _written(texts: Sequence[str]) -> float:
    return max(text_width(text, _SMALL) for text in texts) + 0.08


def _notes(rows: Sequence[_Row], *, both: bool) -> Iterator[str]:
    yield "Metered, without chance. A part that a bar lacks is 0 at that peak."
    if both:
        yield "Two bars: peak of the setup, peak of training."
    if any(len(row.names) > 1 for row in rows):
        yield "= and (+n): others, and n variants, that cost the same."


def _message(view: View, rows: Sequence[_Row]) -> str:
    known = [row for row in rows if row.costs[_PEAK] > 0]
    if not known:
        return "Device memory and compute"
    least = min(known, key=lambda row: (all(one.control for one in row.series), row.costs[_PEAK]))
    peaks = quantity(_PEAK, [row.costs[_PEAK] for row in known])
    text = f"Lowest peak memory: {least.name}, {peaks.unit.text(least.costs[_PEAK])} {peaks.unit.name}"
    reference = view.study.reference
    own = next((row for row in known if reference in row.series), least)
    if reference is None or own is least:
        return text
    return f"{text}, {own.costs[_PEAK] / least.costs[_PEAK]:.3g} times below {reference.label}"

"""The figures of a run, one set a (dataset, model): drawn from stored records, written as PNG and PDF."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from bench.errors import StoreError
from bench.metrics import METRICS, PEAK_PARTS
from plots.layout import frame, label_edges, panels, side_by_side
from plots.series import Series, Study, curve, load_study, points, select, shown_sparsity
from plots.style import (
    COLUMN_WIDTH,
    DAGGER,
    FULL_WIDTH,
    LINE_STYLES,
    PART_COLOURS,
    axis_label,
    human_bytes,
    human_count,
    look,
    theme,
    value_label,
)

_PANEL_HEIGHT = 2.1
_BAR_HEIGHT = 0.16
_SERIES_GAP = 0.4
_LOG_FROM = 20.0
"""Bars whose lengths differ by more than this factor get a logarithmic axis."""


@dataclass(frozen=True)
class Drawn:
    """A figure with what a reader needs beside it: `name` for files, a caption, and a text for who cannot see it."""

    name: str
    title: str
    caption: str
    alt_text: str
    figure: Figure


@dataclass(frozen=True)
class WrittenFigure:
    """A figure's files."""

    name: str
    caption: str
    png: Path
    pdf: Path


@dataclass(frozen=True)
class _View:
    """What one set of figures shows: the cells of one dataset and model, at a width in inches."""

    study: Study
    dataset: str
    model: str
    cells: pd.DataFrame
    width: float

    @property
    def title(self) -> str:
        return f"{self.dataset}, {self.model}"

    @property
    def slug(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.dataset}-{self.model}".lower()).strip("-")

    @property
    def series(self) -> list[Series]:
        finished = set(self.cells.loc[self.cells["ok"], "series"])
        return [one for one in self.study.series if one.label in finished]

    @property
    def alphas(self) -> list[str]:
        return list(self.cells["alpha"].cat.remove_unused_categories().cat.categories)

    def named(self, series: Series, shown: pd.DataFrame) -> str:
        """Return the legend's name of a series, with a dagger where a shown record is stale."""
        stale = bool((shown["stale"] & shown["ok"] & (shown["series"] == series.label)).any())
        return series.label + (f" {DAGGER}" if stale else "")

    def notes(self, shown: pd.DataFrame) -> list[str]:
        """Return the footnotes for a figure of these planned cells."""
        missing = shown.loc[~shown["ok"], "status"].value_counts()
        counts = ", ".join(f"{count} {str(status).replace('_', ' ')}" for status, count in sorted(missing.items()))
        notes = [f"{missing.sum()} of {len(shown)} cells not shown: {counts}."] if len(missing) else []
        if bool((shown["stale"] & shown["ok"]).any()):
            notes.append(f"{DAGGER} includes records computed with code that has changed since.")
        return notes


def _seeds(shown: pd.DataFrame) -> str:
    """Return what a mean and its interval are over, as a caption's sentence."""
    counts = points(shown, [])["n_ok"]
    low, high = int(counts[counts > 0].min()), int(counts.max())
    seeds = f"{high} seed{'s' if high > 1 else ''}" if low == high else f"{low} to {high} seeds"
    if high < 2:
        return "One seed a point, so there is no interval and no difference between methods can be told from chance."
    none = " (none where one seed finished)" if low < 2 else ""
    return f"Means over {seeds} a point, with 95% Student-t intervals over seeds{none}."


def _style(series: Series) -> tuple[str, str, object]:
    """Return a series' colour, marker and line style; variants of a method differ in line style, then in lightness."""
    method = look(series.method)
    paler, dashes = divmod(series.variant, len(LINE_STYLES))
    white = 1 - 0.6**paler
    return to_hex([white + (1 - white) * part for part in to_rgb(method.colour)]), method.marker, LINE_STYLES[dashes]


def _handle(series: Series, name: str, *, marker: bool) -> Line2D:
    colour, shape, dashes = _style(series)
    face = colour if series.variant == 0 else "white"
    return Line2D(
        [], [], color=colour, marker=shape if marker else "", linestyle=dashes, label=name, markerfacecolor=face
    )  # type: ignore[arg-type]


def _percent_axis(panel: Axes, low: float, high: float) -> None:
    """Show accuracies, stored as fractions, in percent, between limits that never leave 0 to 100."""
    pad = 0.06 * max(high - low, 0.02)
    panel.set_ylim(max(0.0, low - pad), min(1.0, high + pad))
    panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def _byte_ticks(low: float, high: float) -> list[float]:
    """Return up to four round byte counts well inside a logarithmic range: 1, 10, 100 of each unit, or more of them."""
    margin = (high / low) ** 0.06
    for leading in ((1, 10, 100), (1, 2, 5, 10, 20, 50, 100, 200, 500)):
        ticks = [digit * 1024.0**power for power in range(5) for digit in leading]
        inside = [tick for tick in ticks if low * margin <= tick <= high / margin]
        if len(inside) > 1:
            break
    return inside[:: -(-len(inside) // 4)] if inside else [math.sqrt(low * high)]


def _bounds(frame_: pd.DataFrame, metric: str) -> tuple[float, float]:
    spread = frame_[f"{metric}_half_width"].fillna(0.0)
    return float((frame_[metric] - spread).min()), float((frame_[metric] + spread).max())


def _position(sparsity: float) -> float:
    """Return where a sparsity stands: equal steps are equal ratios of density."""
    return -math.log10(1.0 - sparsity)


def _accuracy_by_sparsity(view: _View) -> Drawn:
    metric = "test_accuracy"
    summary = points(view.cells, [metric])
    summary = summary[summary["n_ok"] > 0]
    curves = [one for one in view.series if one.has_sparsity]
    lines = [one for one in view.series if not one.has_sparsity]
    levels = sorted(summary.loc[summary["series"].isin([one.label for one in curves]), "sparsity"].unique())
    at = [_position(level) for level in levels]
    step = min(np.diff(at), default=0.3)
    figure, axes = panels(len(view.alphas), view.width, _PANEL_HEIGHT)
    for panel, alpha in zip(axes, view.alphas, strict=True):
        here = summary[summary["alpha"] == alpha]
        for one in lines:
            colour, _, dashes = _style(one)
            for row in here[here["series"] == one.label].itertuples():
                spread = row.test_accuracy_half_width
                panel.axhline(row.test_accuracy, color=colour, linestyle=dashes, linewidth=1.2, zorder=2)
                if spread == spread:
                    panel.axhspan(
                        row.test_accuracy - spread, row.test_accuracy + spread, color=colour, alpha=0.12, lw=0
                    )
        for index, one in enumerate(curves):
            colour, marker, dashes = _style(one)
            own = here[here["series"] == one.label].sort_values("sparsity")
            dodge = step * 0.3 * ((index + 0.5) / len(curves) - 0.5)
            panel.errorbar(
                [_position(level) + dodge for level in own["sparsity"]],
                own[metric],
                yerr=own[f"{metric}_half_width"],
                color=colour,
                marker=marker,
                markerfacecolor=colour if one.variant == 0 else "white",
                linestyle=dashes,
                elinewidth=0.9,
                capsize=1.8,
                zorder=3,
            )
        panel.set_title(alpha)
        panel.xaxis.set_major_locator(FixedLocator(at))
        panel.set_xticklabels([value_label(level) for level in levels])
        panel.set_xlim(min(at) - 0.5 * step, max(at) + 0.5 * step)
    _percent_axis(axes[0], *_bounds(summary, metric))
    label_edges(axes, "Sparsity (log scale of density)", axis_label(metric))
    handles = [_handle(one, view.named(one, view.cells), marker=one.has_sparsity) for one in view.series]
    frame(figure, view.title, handles, view.notes(view.cells))
    reference = " Horizontal lines, with bands: methods without the sparsity axis." if lines else ""
    return Drawn(
        f"accuracy-sparsity-{view.slug}",
        f"Accuracy against sparsity: {view.title}",
        f"Test accuracy of the global model (mean of the last 5 evaluations) against the fraction of pruned weights, one "
        f"panel a label distribution. {_seeds(view.cells)} Markers are shifted sideways a little to be told apart."
        + reference,
        f"Line chart of test accuracy against sparsity for {', '.join(one.label for one in view.series)}; the table "
        "holds the same numbers.",
        figure,
    )


def _accuracy_by_series(view: _View) -> Drawn:
    """Draw the headline accuracies of a run in which no method has a sparsity axis."""
    metric = "test_accuracy"
    summary = points(view.cells, [metric])
    summary = summary[summary["n_ok"] > 0]
    names = [view.named(one, view.cells) for one in view.series]
    figure, axes = panels(len(view.alphas), view.width, 0.7 + _BAR_HEIGHT * len(names))
    for panel, alpha in zip(axes, view.alphas, strict=True):
        for row, one in enumerate(view.series):
            colour, marker, _ = _style(one)
            own = select(summary, {"alpha": alpha, "series": one.label})
            panel.errorbar(own[metric], [row] * len(own), xerr=own[f"{metric}_half_width"], color=colour, marker=marker,
                           linestyle="", capsize=1.8)  # fmt: skip
        panel.set_title(alpha)
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    label_edges(axes, axis_label(metric), "")
    frame(figure, view.title, [], view.notes(view.cells))
    return Drawn(
        f"accuracy-{view.slug}",
        f"Accuracy: {view.title}",
        "Test accuracy of the global model (mean of the last 5 evaluations), one panel a label distribution. "
        + _seeds(view.cells),
        f"Chart of test accuracy for {', '.join(names)}; the table holds the same numbers.",
        figure,
    )


def _shown_cells(view: _View) -> pd.DataFrame:
    """Return the cells that stand for their series in a curve: those at the shown sparsity, where sparsity is an axis."""
    level = shown_sparsity(view.cells, view.series)
    sparse = view.cells["series"].isin([one.label for one in view.series if one.has_sparsity])
    return view.cells if level is None else view.cells[~sparse | (view.cells["sparsity"] == level)]


def _accuracy_along(view: _View, x: str) -> Drawn:
    log = METRICS[x].unit == "bytes"
    shown = _shown_cells(view)
    finished = set(shown.loc[shown["ok"], "series"])
    series = [one for one in view.series if one.label in finished]
    figure, axes = panels(len(view.alphas), view.width, _PANEL_HEIGHT)
    low, high, ends = 1.0, 0.0, []
    for panel, alpha in zip(axes, view.alphas, strict=True):
        for one in series:
            colour, marker, dashes = _style(one)
            own = shown[shown["ok"] & (shown["alpha"] == alpha) & (shown["series"] == one.label)]
            # A series keeps several curves only where it has no shown sparsity, each at its own level.
            for _, cells in own.groupby("sparsity"):
                line = curve(view.study.run, list(cells["cell_id"]), x, log=log)
                if line.empty:
                    continue
                face = colour if one.variant == 0 else "white"
                panel.plot(line["x"], line["mean"], color=colour, linestyle=dashes, marker=marker, markersize=3.5,
                           markerfacecolor=face, markevery=[-1], zorder=3)  # fmt: skip
                panel.fill_between(line["x"], line["mean"] - line["half_width"], line["mean"] + line["half_width"],
                                   color=colour, alpha=0.15, linewidth=0)  # fmt: skip
                low, high = min(low, line["mean"].min()), max(high, (line["mean"] + line["half_width"].fillna(0)).max())
                ends += [line["x"].iloc[0], line["x"].iloc[-1]]
        panel.set_title(alpha)
    for panel in axes:
        if log and ends:
            panel.set_xscale("log")
            left, right = min(ends) / 1.3, max(ends) * 1.5
            panel.set_xlim(left, right)
            panel.xaxis.set_major_locator(FixedLocator(_byte_ticks(left, right)))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value)))
            panel.xaxis.set_minor_locator(NullLocator())
        else:
            panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    _percent_axis(axes[0], low, high)
    label_edges(axes, axis_label(x, "all clients" if log else ""), axis_label("test_accuracy"))
    frame(figure, view.title, [_handle(one, view.named(one, shown), marker=True) for one in series], view.notes(shown))
    level = shown_sparsity(view.cells, view.series)
    which = "" if level is None else f" Methods with the sparsity axis are shown at sparsity {value_label(level)}."
    return Drawn(
        f"accuracy-{x.replace('_', '-')}-{view.slug}",
        f"Accuracy against {METRICS[x].label.lower()}: {view.title}",
        f"Test accuracy of the global model during training against {_ALONG[x]}, one panel a label distribution."
        f"{which} {_seeds(shown)} The marker stands at the last evaluation.",
        f"Learning curves of {', '.join(one.label for one in series)} against {METRICS[x].label.lower()}.",
        figure,
    )


_ALONG = {
    "data_passes": "data passes (examples drawn / examples of all clients)",
    "uplink_bytes": "the encoded bytes sent so far from all clients to the server, setup included (logarithmic)",
}


def _cost(view: _View) -> Drawn:
    metrics = ["peak_device_bytes", "device_step_flops", *PEAK_PARTS]
    summary = points(view.cells, metrics, by=("series", "sparsity"))
    summary = summary[summary["n_ok"] > 0].reset_index(drop=True)
    axis = {one.label for one in view.series if one.has_sparsity}
    names = [
        row.series
        + (f", s={value_label(row.sparsity)}" if row.series in axis else "")
        + (f" {DAGGER}" if row.stale else "")
        for row in summary.itertuples()
    ]
    codes = summary["series"].cat.codes.to_numpy()
    rows = np.arange(len(names)) + _SERIES_GAP * np.cumsum(np.diff(codes, prepend=codes[0]) != 0)
    figure, memory, compute = side_by_side(view.width, 0.7 + _BAR_HEIGHT * (rows[-1] + 1))
    left = np.zeros(len(names))
    for part, colour in zip(PEAK_PARTS, PART_COLOURS, strict=True):
        sizes = summary[part].fillna(0.0).to_numpy()
        memory.barh(rows, sizes, left=left, height=0.72, color=colour, edgecolor="white", linewidth=0.4)
        left = left + sizes
    peak = summary["peak_device_bytes"].to_numpy()
    widest = float(np.nanmax(peak, initial=1.0))
    for row, value in zip(rows, peak, strict=True):
        memory.text(
            value + 0.02 * widest,
            row,
            human_bytes(value) if value == value else "not measured",
            va="center",
            fontsize=6.5,
        )
    memory.set_xlim(0, (1.3 if view.width > COLUMN_WIDTH + 0.5 else 1.5) * widest)
    unit = 1024.0 ** int(math.log(widest, 1024))
    step = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, widest / unit)
    memory.xaxis.set_major_locator(FixedLocator([tick * unit for tick in step if tick <= 1.1 * widest / unit]))
    memory.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_bytes(value) if value else "0"))
    memory.set_xlabel(axis_label("peak_device_bytes"), loc="right")

    flops = summary["device_step_flops"].to_numpy()
    most, least = float(np.nanmax(flops, initial=1.0)), float(np.nanmin(flops, initial=np.inf))
    log = most > _LOG_FROM * least > 0
    start = 10 ** math.floor(math.log10(least) - 0.3) if log else 0.0
    colours = [look(one.method).colour for name in summary["series"] for one in view.series if one.label == name]
    compute.barh(rows, flops - start, left=start, height=0.72, color=colours)
    for row, value in zip(rows, flops, strict=True):
        place = value * (most / start) ** 0.02 if log else value + 0.02 * most
        compute.text(
            place if value == value else start,
            row,
            human_count(value) if value == value else "not measured",
            va="center",
            fontsize=6.5,
        )
    if log:
        compute.set_xscale("log")
        compute.set_xlim(start, most * (most / start) ** 0.35)
        compute.xaxis.set_major_locator(LogLocator(numticks=5))
        compute.xaxis.set_minor_formatter(NullFormatter())
    else:
        compute.set_xlim(0, 1.28 * most)
        compute.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    compute.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))
    compute.set_xlabel(axis_label("device_step_flops", "log scale" if log else "2 × MACs"), loc="right")

    for panel in (memory, compute):
        panel.grid(axis="y", visible=False)
        panel.set_yticks(rows, names)
        panel.set_ylim(rows[-1] + 0.6, -0.6)
    if view.width > COLUMN_WIDTH + 0.5:
        compute.tick_params(labelleft=False)
    handles = [
        Patch(facecolor=colour, label=METRICS[part].label)
        for part, colour in zip(PEAK_PARTS, PART_COLOURS, strict=True)
    ]
    frame(figure, view.title, handles, view.notes(view.cells))
    base = " The FLOPs axis is logarithmic: compare bar ends, not lengths." if log else ""
    return Drawn(
        f"cost-{view.slug}",
        f"Device memory and compute: {view.title}",
        "Left: peak of live tensor bytes of one device, split by what they hold. Right: FLOPs (2 x MACs) of one device's "
        "update on one batch. Both are metered on the on-device algorithm, never on a simulation; means over all label "
        f"distributions and seeds.{base}" + (" s: sparsity." if axis else ""),
        f"Bar charts of peak device bytes and device-step FLOPs for {', '.join(names)}; the table holds the same numbers.",
        figure,
    )


def draw_figures(study: Study, width: float = FULL_WIDTH) -> Iterator[Drawn]:
    """Draw every figure of a study, `width` inches wide; pairs of dataset and model without an ok cell are left out."""
    for (dataset, model), cells in study.cells.groupby(["dataset", "model"], sort=False):
        if not cells["ok"].any():
            continue
        view = _View(study, dataset, model, cells, width)
        sparse = any(one.has_sparsity for one in view.series)
        with rc_context(theme()):
            yield _accuracy_by_sparsity(view) if sparse else _accuracy_by_series(view)
            yield _accuracy_along(view, "data_passes")
            yield _accuracy_along(view, "uplink_bytes")
            yield _cost(view)


def write_figures(run: Path, width: float = FULL_WIDTH) -> list[WrittenFigure]:
    """Write the figures of a run into RUN/figures as PNG (150 dpi) and PDF, `width` inches wide.

    Raises StoreError where no cell has ended well.
    """
    study = load_study(run)
    if study.ok.empty:
        raise StoreError(
            f"None of the {len(study.cells)} planned cells of {run} has status ok, so there is nothing to draw; run the "
            "matrix, or see the reasons with `fedfore show`."
        )
    folder = run / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for drawn in draw_figures(study, width):
        files = WrittenFigure(drawn.name, drawn.caption, folder / f"{drawn.name}.png", folder / f"{drawn.name}.pdf")
        with rc_context(theme()):
            drawn.figure.savefig(files.png, dpi=150, metadata={"Software": None})
            drawn.figure.savefig(files.pdf, metadata={"CreationDate": None})
        written.append(files)
    return written

"""The figure of metering-only cells: a row a method with its options, its peak bytes beside the FLOPs of its step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.rows import Name, rows_of_panels
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.naming import settings
from fedfore.plots.study import REFERENCE
from fedfore.plots.view import Drawn, Planned, View
from fedfore.plots.wording import axis_label, human_bytes, human_count

_BYTES, _FLOPS, _BATCH = "peak_device_bytes", "device_step_flops", "train.batch_size"
_SETUP, _TRAIN = f"{_BYTES}_setup", f"{_BYTES}_train"
_LARGEST, _SMALLEST = 5.6, 3.2
"""Sizes of the marks of the smallest and the largest batch, so that both are seen where they coincide."""
_RING = "#1A1A1A"


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of the metering-only cells of one data set."""
    dataset = str(view.cells["dataset"].iloc[0])
    yield Planned(f"cost-tradeoff-{dataset}", f"Memory against compute: {dataset}", partial(cost_tradeoff, view))


def on_front(bytes_: NDArray[np.float64], flops: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points [N] no other point beats: none needs less of one and no more of the other."""
    no_more = (bytes_[:, None] <= bytes_) & (flops[:, None] <= flops)
    less = (bytes_[:, None] < bytes_) | (flops[:, None] < flops)
    return np.asarray(~(no_more & less).any(axis=0))


def cost_tradeoff(view: View) -> Drawn:
    """Draw peak device bytes beside device-step FLOPs, a row a method with its options, a colour a batch size.

    A pair of panels a model with an ok cell.
    """
    several = bool((view.cells.groupby("method")["sparsity"].nunique() > 1).any())
    options = settings(view.cells, leave_out=(_BATCH,), also=("sparsity",) if several else ())
    ok = _ranked(view.cells.assign(option=options)[view.cells["ok"]])
    models = list(dict.fromkeys(ok["model"]))
    batches = sorted(ok[_BATCH].unique())
    colours = dict(zip(batches, sns.color_palette("viridis", len(batches) + 1).as_hex(), strict=False))
    abreast = 1 if is_narrow(view.width) else min(2, len(models))
    labels = [axis_label(_BYTES, "log"), axis_label(_FLOPS, "log")] * abreast
    shown = [models[start : start + abreast] for start in range(0, len(models), abreast)]
    names = [
        list(ok.loc[ok["model"].isin(own), "option"].cat.remove_unused_categories().cat.categories) for own in shown
    ]
    grid = rows_of_panels(
        [[Name(name) for name in own] for own in names], [labels] * len(shown), view.width, share_x=False
    )
    for here, block, listed in zip(shown, grid.blocks, names, strict=True):
        places = dict(zip(listed, block.places, strict=True))
        for model, memory, compute in zip(here, block.panels[::2], block.panels[1::2], strict=False):
            own = ok[ok["model"] == model]
            _draw(memory, places, own, _BYTES, colours)
            _draw(compute, places, own, _FLOPS, colours)
            memory.set_title(model, loc="left")
            _axis(memory, human_bytes, 2.0, grid.most_ticks)
            _axis(compute, human_count, 10.0, grid.most_ticks)
    for unused in grid.blocks[-1].panels[2 * ((len(models) - 1) % abreast) + 2 :]:
        unused.remove()
    set_by_setup = bool(ok["set_by_setup"].any())
    notes = [*_notes(ok, set_by_setup=set_by_setup), *figure_notes(view.cells)]
    message = _message(view, ok)
    frame(grid.figure, view.heading(message), _legend(colours, set_by_setup=set_by_setup), notes)
    return Drawn(
        f"{message}. Peak of live tensor bytes of a device, over all phases, and the FLOPs of its update on one batch, "
        f"metered without training, on logarithmic axes. {' '.join(notes)}",
        f"Dots of peak device bytes and device-step FLOPs for {', '.join(sorted(set(ok['option'])))} on "
        f"{', '.join(models)}; the table of results holds the same numbers.",
        grid.figure,
    )


def _ranked(ok: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with whether each is on the front of its model and batch, and whether setup sets its peak."""
    front = pd.Series(False, ok.index)
    for _, same in ok[~ok["control"]].groupby(["model", _BATCH], sort=False):
        front[same.index] = on_front(same[_BYTES].to_numpy(dtype=float), same[_FLOPS].to_numpy(dtype=float))
    return ok.assign(front=front, set_by_setup=ok[_SETUP].fillna(0) > ok[_TRAIN].fillna(np.inf))


def _draw(
    panel: Axes, places: Mapping[str, float], own: pd.DataFrame, metric: str, colours: Mapping[float, str]
) -> None:
    """Draw a line a row along the batch sizes, and a mark each, the larger the smaller the batch."""
    sizes = dict(zip(colours, np.linspace(_LARGEST, _SMALLEST, len(colours)), strict=True))
    for name, rows in own.groupby("option", observed=True):
        place = places[str(name)]
        panel.plot(rows[metric], [place] * len(rows), color="#BBBBBB", linewidth=0.7, zorder=1)
        for row in rows.to_dict("records"):
            batch = row[_BATCH]
            panel.plot(
                [row[metric]], [place], linestyle="", marker="s" if row["set_by_setup"] and metric == _BYTES else "o",
                markersize=sizes[batch], markerfacecolor=colours[batch], zorder=2 + batch / max(colours),
                markeredgecolor=_RING if row["front"] else colours[batch], markeredgewidth=0.9 if row["front"] else 0.3,
            )  # fmt: skip


def _axis(panel: Axes, write: Callable[[float], str], base: float, most_ticks: int) -> None:
    panel.set_xscale("log", base=base)
    panel.margins(x=0.08)
    panel.xaxis.set_major_locator(FixedLocator(_powers(*panel.get_xlim(), base, most_ticks)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _powers(low: float, high: float, base: float, most: int) -> list[float]:
    """Return powers of a base within limits, evenly thinned to `most`."""
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    step = max(1, -(-(last - first + 1) // most))
    return [base**power for power in range(first + (last - first) % step // 2, last + 1, step)]


def _legend(colours: Mapping[float, str], *, set_by_setup: bool) -> list[Line2D]:
    dot: Any = {"linestyle": "", "markersize": 4.5}
    found = [
        Line2D([], [], marker="o", color=colour, label=f"B = {value_label(batch)}", **dot)
        for batch, colour in colours.items()
    ]
    ringed = Line2D([], [], marker="o", color="white", markeredgecolor=_RING, label="best at its B", **dot)
    square = [Line2D([], [], marker="s", color="#888888", label="setup sets the peak", **dot)] if set_by_setup else []
    return [*found, ringed, *square]


def _notes(ok: pd.DataFrame, *, set_by_setup: bool) -> Iterator[str]:
    yield "Metered, without chance. Ringed: at that batch size B no row needs less of one and no more of the other."
    levels = sorted(ok.loc[ok["sparsity"] > 0, "sparsity"].unique())
    if levels:
        yield f"Methods that prune are at sparsity {', '.join(map(value_label, levels))}."


def _message(view: View, ok: pd.DataFrame) -> str:
    """Return the option that most often needs the least memory, where, and how much less than the plain reference."""
    peaks = ok[~ok["control"]].pivot_table(index=["model", _BATCH], columns="option", values=_BYTES, observed=True)
    if peaks.empty:
        return "No option competes"
    by_setting = peaks.idxmin(axis=1)
    least, count = Counter(by_setting).most_common(1)[0]
    where = "" if count == len(peaks) else f" in {count} of {len(peaks)} settings"
    text = f"Least memory{where}: {least}"
    plain = view.study.looks[REFERENCE].label if REFERENCE in view.study.looks else ""
    if plain not in peaks or plain == least:
        return text
    ratios = (peaks[plain] / peaks[least])[by_setting == least].dropna()
    return f"{text}, {ratios.min():.2g} to {ratios.max():.2g} times below {plain}"

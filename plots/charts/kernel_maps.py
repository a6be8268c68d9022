"""The heat maps of kernel errors: label distributions by numbers of clients, what may be 0 without a colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from fedfore.judgement.estimates import Difference, Estimate, estimate, paired
from fedfore.judgement.verdicts import holm
from fedfore.plots.drawing.heat import colour_bar, heat_map
from fedfore.plots.drawing.layout import frame, label_edges
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.points import select
from fedfore.plots.view import Drawn, View
from fedfore.plots.wording import MINUS, UNKNOWN, interval_text, power_of_ten
from fedfore.records.metrics import METRICS

CLIENTS = "train.clients"
PROBES = {"": "real examples", "_gaussian": "Gaussian inputs"}
"""What kernels are computed on, by what stands behind the names of metrics."""
_TILE_WIDTH, _TILE_HEIGHT = 0.31, 0.28
_SMALL = 5.5


@dataclass(frozen=True)
class KernelError:
    """An error of the kernel as heat maps show it: its excess over probes dealt at random, or the raw value."""

    name: str
    metric: str
    meaning: str
    excess: bool

    @property
    def label(self) -> str:
        """The metric's label."""
        return METRICS[self.metric].label

    @property
    def probes(self) -> Mapping[str, str]:
        """The kinds of probes that are shown."""
        return PROBES if self.excess else {"": PROBES[""]}


@dataclass(frozen=True)
class _Tile:
    """What one number of clients says at one label distribution: the estimate, and the p value of an excess of 0."""

    estimate: Estimate
    p: float
    rejected: bool = False

    @property
    def may_be_zero(self) -> bool:
        """Whether nothing is found: the interval includes 0, or there is none."""
        return self.estimate.includes_zero


def kernel_map(view: View, error: KernelError, cells: pd.DataFrame, which: str) -> Drawn:
    """Draw alpha x clients, a panel a kind of probes and sparsity, with the numbers written in."""
    alphas = [alpha for alpha in view.alphas if (cells["alpha"] == alpha).any()]
    counts, levels = sorted(cells[CLIENTS].unique()), sorted(cells["sparsity"].unique())
    shown = [(probes, level) for probes in error.probes for level in levels]
    tiles = _tested(
        [
            [
                [
                    _tile(error, select(cells, {"sparsity": level, "alpha": alpha, CLIENTS: count}), probes)
                    for count in counts
                ]
                for alpha in alphas
            ]
            for probes, level in shown
        ]
    )
    known = [one.estimate for panel in tiles for row in panel for one in row if one.estimate.n]
    norm, colours = _scale(error, known)
    power = _power(max((abs(one.mean) for one in known), default=0.0))
    beside = 0.62
    abreast = min(len(levels), max(1, int((view.width - beside - 0.55) / (_TILE_WIDTH * len(counts) + 0.12))))
    per_kind = -(-len(levels) // abreast)
    rows = per_kind * len(error.probes)
    width = min(view.width, beside + 0.55 + abreast * (0.5 * len(counts) + 0.12))
    figure = Figure(figsize=(width, rows * (_TILE_HEIGHT * len(alphas) + 0.28) + 0.35), layout="constrained")
    grid = figure.subplots(rows, abreast, sharex=True, sharey=True, squeeze=False)
    places = [
        panel
        for kind in range(len(error.probes))
        for panel in grid[kind * per_kind : (kind + 1) * per_kind].ravel()[: len(levels)]
    ]
    for unused in set(grid.ravel()) - set(places):
        unused.remove()
    for panel, (probes, level), own in zip(places, shown, tiles, strict=True):
        means = np.array([[one.estimate.mean for one in row] for row in own])
        texts = [[_written(one.estimate, power, "+" if error.excess else "") for one in row] for row in own]
        plain = np.array([[one.may_be_zero for one in row] for row in own]) if error.excess else None
        bold = np.array([[one.rejected for one in row] for row in own])
        heat_map(panel, means, (norm, colours), texts, plain=plain, bold=bold, size=_SMALL)
        kind = f"{error.probes[probes]}\n" if error.excess and level == levels[0] else ""
        panel.set_title(f"{kind}sparsity {value_label(level)}", fontsize=7, loc="left", linespacing=1.4)
        panel.set_xticks(range(len(counts)), [value_label(count) for count in counts])
        panel.set_yticks(range(len(alphas)), alphas)
    label_edges([panel for panel in grid.ravel() if panel in places], "Clients", "")
    unit = f", in {power_of_ten(10.0**power)}" if power else ""
    what = f"{error.label}{', excess' if error.excess else ''}{unit}"
    colour_bar(figure, places, norm, colours, what, lambda value: f"{value / 10.0**power:g}".replace("-", MINUS))
    notes = [*_notes(error, tiles), *figure_notes(view.cells)]
    message = _message(error, tiles)
    frame(figure, view.heading(message + which), [], notes)
    less = " minus its mean where the same probes are dealt to the clients at random" if error.excess else ""
    draws = " Gaussian inputs are as many draws, alike for every client." if error.excess else ""
    return Drawn(
        f"{message}{which}. {error.meaning}{',' if less else ''}{less}; label distributions by numbers of clients, at "
        f"the masked initial weights.{draws} {' '.join(notes)}",
        f"Heat maps of {error.label} over label distributions and numbers of clients, the numbers written in.",
        figure,
    )


def _tile(error: KernelError, own: pd.DataFrame, probes: str) -> _Tile:
    values = own.set_index("seed")[f"{error.metric}{probes}"].astype(float)
    if not error.excess:
        return _Tile(estimate(values.dropna()), math.nan)
    at_random = own.set_index("seed")[f"{error.metric}{probes}_iid"].astype(float)
    found: Difference = paired(values, at_random)
    return _Tile(estimate(found.values), found.p if found.n > 1 else math.nan)


def _tested(tiles: list[list[list[_Tile]]]) -> list[list[list[_Tile]]]:
    """Return the tiles with what Holm's procedure rejects among all of a figure."""
    steps = iter(holm([one.p for panel in tiles for row in panel for one in row]))
    return [[[_Tile(one.estimate, one.p, next(steps).rejected) for one in row] for row in panel] for panel in tiles]


def _scale(error: KernelError, known: Sequence[Estimate]) -> tuple[Normalize, str]:
    means = [one.mean for one in known] or [0.0]
    if not error.excess:
        return Normalize(0.0, max(means) or 1.0), "viridis"
    largest = max(map(abs, means)) or 1.0
    return TwoSlopeNorm(0.0, -largest, largest), "RdBu_r"


def _power(largest: float) -> int:
    """Return the power of ten in which the largest of some numbers has two digits before the point."""
    return math.floor(math.log10(largest)) - 1 if largest > 0 else 0


def _written(value: Estimate, power: int, sign: str) -> str:
    """Return an estimate in a power of ten and, where there is one, its half-width in a second line."""
    if not value.n:
        return UNKNOWN
    size = 10.0**power
    interval = interval_text(value, lambda end: f"{end / size:.1f}", both_ends=False)
    mean = round(value.mean / size, 1) + 0.0  # no "-0.0"
    return f"{mean:{sign}.1f}".replace("-", MINUS) + f"\n{interval}".rstrip()


def _notes(error: KernelError, tiles: Sequence[Sequence[Sequence[_Tile]]]) -> Iterator[str]:
    counts = [one.estimate.n for panel in tiles for row in panel for one in row if one.estimate.n]
    n = f"{max(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    yield f"Means of n = {n} seeds ± half of the 95% interval." if max(counts) > 1 else "n = 1 seed: no interval."
    if error.excess:
        yield "Grey: the interval includes 0. Bold: it excludes 0 after Holm's correction over all tiles."


def _message(error: KernelError, tiles: Sequence[Sequence[Sequence[_Tile]]]) -> str:
    if not error.excess:
        return f"{error.label} by clients and label distribution"
    known = [one for panel in tiles for row in panel for one in row if one.estimate.n > 1]
    single, after = sum(not one.may_be_zero for one in known), sum(one.rejected for one in known)
    return f"{error.label} beyond chance: {single} of {len(known)} tiles exclude 0, {after} after Holm"

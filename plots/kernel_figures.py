"""The figures of what clients lose by seeing only their own data: of the tangent kernel, and of the mask."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedfore.judgement.estimates import Estimate, estimate, paired
from fedfore.judgement.verdicts import holm
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.layout import frame, is_narrow, label_edges, panels
from fedfore.plots.naming import settings
from fedfore.plots.points import points, select
from fedfore.plots.view import Drawn, Planned, View, seeds_sentence
from fedfore.plots.wording import MINUS, UNKNOWN, axis_label, difference_text
from fedfore.records.metrics import METRICS

_CLIENTS = "train.clients"
_PROBES = {"": "", "_gaussian": ", Gaussian"}
_NARROWEST_MAP = 1.6
_TILE_HEIGHT = 0.34
_LINE_HEIGHT = 0.14
_SMALL = 6.0
_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class _Error:
    """An error of the kernel as heat maps show it: its excess over probes dealt at random, or the raw value."""

    name: str
    metric: str
    meaning: str
    excess: bool

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of a table, with what stands behind the sparsity in the titles of their panels."""
        if not self.excess:
            return {self.metric: ""}
        return {f"{self.metric}{probes}_excess": text for probes, text in _PROBES.items()}


_ERRORS = (
    _Error("ntk-mmd2", "ntk_mmd2", "How far clients' mean NTK features are from the global ones", True),
    _Error("ntk-spectrum", "ntk_spectrum_error", "How far clients' normalised NTK spectra are from the pooled one",
           True),
    _Error("ntk-blocks", "ntk_rel_frobenius_error",
           "Share of the kernel's Frobenius norm in the blocks between clients, which no client can compute. It says "
           "how many clients there are, not how much they differ", False),
)  # fmt: skip

_COMPARED = {
    "moved_weights": ("", "_null"),
    "mask_iou": ("", "_null", "_shuffled"),
    "target_moved_weights": ("", "_null"),
}
_HALVES = {"moved_weights": "layer_density_l1", "target_moved_weights": "target_layer_density_l1"}
"""What is half of what."""
_MARKS = {
    "": ("o", "#D55E00", "federated against centralised mask"),
    "_null": ("D", "#0072B2", "null: two independent centralised masks"),
    "_shuffled": ("X", "#5A5A5A", "null: positions shuffled within layers"),
}


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none."""
    families = list(_families(view.cells))
    for number, (label, cells) in enumerate(families, 1):
        suffix, which = (f"-{number}", f" ({label})") if len(families) > 1 else ("", "")
        for error in _ERRORS:
            title = f"{METRICS[error.metric].label}{which}"
            yield view.planned(f"{error.name}{suffix}", title, partial(_heat_maps, view, error, cells, which))
    compared = _compared(view.cells)
    if len(compared):
        title = "Federated against centralised masks"
        yield view.planned("mask-comparison", title, partial(_mask_comparison, view, compared))


def ntk_sentences(cells: pd.DataFrame) -> Iterator[str]:
    """Yield what the kernel errors and mask comparisons of one dataset and model say, where two seeds say it."""
    families = list(_families(cells))
    for label, family in families:
        yield from _feature_distances(f"{label}, " if len(families) > 1 else "", family)
    compared = _compared(cells)
    if len(compared):
        yield from _mask_distances(compared, "moved_weights", "centralised mask's")
        yield from _mask_distances(compared, "target_moved_weights", "centralised mask's of real inputs")


def _families(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the ok cells with kernel errors that differ in clients, alpha, sparsity and seed alone, with a label.

    Their columns `<metric>_excess` are minus the mean of the same probes dealt to the clients at random. A family that
    has one number of clients is left out.
    """
    known = cells[cells["ok"] & cells["ntk_mmd2"].notna()]
    if known.empty:
        return
    excess = {
        f"{error.metric}{probes}_excess": known[f"{error.metric}{probes}"] - known[f"{error.metric}{probes}_iid"]
        for error in _ERRORS
        for probes in _PROBES
    }
    for label, own in known.assign(**excess).groupby(settings(known, leave_out=[_CLIENTS]), observed=True):
        if own[_CLIENTS].nunique() > 1:
            yield str(label), own


def _compared(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the ok cells whose masks were compared with centralised ones, with their `setting`.

    Records that know the distance of layer densities alone get the share of moved weights, half of it.
    """
    known = cells[cells["ok"] & cells["layer_density_l1"].notna()]
    if known.empty:
        return known
    moved = {
        f"{metric}{null}": known[f"{metric}{null}"].fillna(known[f"{distance}{null}"] / 2)
        for metric, distance in _HALVES.items()
        for null in ("", "_null")
    }
    return known.assign(setting=settings(known, also=("sparsity", "alpha")), **moved)


def _decimals(largest: float) -> int:
    """Return the decimals that show three digits of the largest of some numbers."""
    return max(0, 2 - math.floor(math.log10(largest))) if largest > 0 else 0


def _number(value: Estimate, decimals: int, *, sign: str = "+", between: str = "\n") -> str:
    """Return an estimate and, where there is one, its half-width."""
    if not value.n:
        return UNKNOWN
    spread = f"{between}± {value.half_width:.{decimals}f}" if value.n > 1 else ""
    mean = round(value.mean, decimals) + 0.0  # no "-0.0"
    return f"{mean:{sign}.{decimals}f}".replace("-", MINUS) + spread


def _feature_distances(label: str, family: pd.DataFrame) -> Iterator[str]:
    """Yield the excess of the feature distance on real and on Gaussian probes, at the least and the most skew."""
    levels = sorted(family["sparsity"].unique())
    level = levels[len(levels) // 2]
    alphas = [alpha for alpha in family["alpha"].cat.categories if (family["alpha"] == alpha).any()]
    parts = []
    for alpha in dict.fromkeys((alphas[0], alphas[-1])):
        for count in sorted(family[_CLIENTS].unique()):
            own = select(family, {"sparsity": level, "alpha": alpha, _CLIENTS: count})
            real, gaussian = (estimate(own[f"ntk_mmd2{probes}_excess"]) for probes in _PROBES)
            if real.n > 1:
                zero = " (interval includes 0)" if real.includes_zero else ""
                parts.append(
                    f"{alpha}, {value_label(count)} clients: {_number(real, 4, between=' ')}{zero}, "
                    f"Gaussian probes {_number(gaussian, 4, between=' ')}"
                )
    if parts:
        yield (
            f"{METRICS['ntk_mmd2'].label} of clients' real examples above that of the same examples dealt at random, "
            f"{label}sparsity {value_label(level)}: {'; '.join(parts)}."
        )


def _mask_distances(compared: pd.DataFrame, metric: str, reference: str) -> Iterator[str]:
    """Yield in how many settings the federated mask is farther from a centralised one than two of these are."""
    tested = {}
    for name, own in compared.groupby("setting", observed=True):
        seeds = own.set_index("seed")
        more = paired(seeds[metric], seeds[f"{metric}_null"])
        if more.n > 1:
            share = f"{100 * own[metric].mean():.1f}% of the kept weights are in another layer"
            difference = Estimate(more.mean, *more.interval(), more.n)
            tested[f"{name} ({share}, {difference_text(difference)} points)"] = more
    steps = holm([more.p for more in tested.values()])
    farther = [
        name for (name, more), step in zip(tested.items(), steps, strict=True) if step.rejected and more.mean > 0
    ]
    if tested:
        yield (
            f"In {len(farther)} of {len(tested)} settings the federated mask's layer densities are farther from the "
            f"{reference} than those of two independent ones are from each other (paired t tests, with Holm's "
            f"correction over the settings){': ' + '; '.join(farther) if farther else ''}."
        )


def _heat_maps(view: View, error: _Error, cells: pd.DataFrame, which: str) -> Drawn:
    """Draw alpha x clients, a panel a sparsity and kind of probes, with the numbers written in."""
    alphas = [alpha for alpha in view.alphas if (cells["alpha"] == alpha).any()]
    counts, levels = sorted(cells[_CLIENTS].unique()), sorted(cells["sparsity"].unique())
    shown = [(column, text, level) for column, text in error.columns.items() for level in levels]
    tiles = [
        [
            [estimate(select(cells, {"sparsity": level, "alpha": alpha, _CLIENTS: count})[column]) for count in counts]
            for alpha in alphas
        ]
        for column, _, level in shown
    ]
    means = np.array([[[tile.mean for tile in row] for row in panel] for panel in tiles])
    largest = float(np.nanmax(np.abs(means)))
    lowest = -largest if error.excess else float(np.nanmin(means))
    colours = sns.color_palette("vlag", as_cmap=True) if error.excess else colormaps["cividis"]
    scale = Normalize(lowest, largest)
    columns = min(len(levels), max(1, int(view.width / _NARROWEST_MAP)))
    figure, axes = panels(len(shown), view.width, 0.5 + _TILE_HEIGHT * len(alphas), columns)
    for panel, (_, text, level), rows in zip(axes, shown, tiles, strict=True):
        panel.imshow([[one.mean for one in row] for row in rows], cmap=colours, norm=scale, aspect="auto")
        for row, place in np.ndindex(len(alphas), len(counts)):
            number = _number(rows[row][place], _decimals(largest), sign="+" if error.excess else "")
            ink = _ink(colours(float(scale(rows[row][place].mean))))
            panel.text(place, row, number, color=ink, fontsize=_SMALL, ha="center", va="center", linespacing=1.1)
        panel.set_title(f"sparsity {value_label(level)}{text}")
        panel.set_xticks(range(len(counts)), [value_label(count) for count in counts])
        panel.set_yticks(range(len(alphas)), alphas)
        panel.set_xlim(-0.5, len(counts) - 0.5)
        panel.set_ylim(len(alphas) - 0.5, -0.5)
        panel.grid(visible=False)
    label_edges(axes, "Clients", "")
    name = METRICS[error.metric].label
    less = " minus its mean where the same probes are dealt to the clients at random" if error.excess else ""
    frame(figure, view.heading(), [], [f"{name}{which}{less}.", *figure_notes(view.cells)])
    probes = " Gaussian probes are as many draws, alike for every client." if error.excess else ""
    return Drawn(
        f"{error.meaning}{',' if less else ''}{less}; label distributions by numbers of clients, at the masked initial "
        f"weights.{probes} {seeds_sentence(cells)}",
        f"Heat maps of {name} over label distributions and numbers of clients, the numbers written in.",
        figure,
    )


def _ink(ground: tuple[float, float, float, float]) -> str:
    """Return the colour of text that can be read on a colour."""
    red, green, blue, _ = ground
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "#1A1A1A"


def _wrapped(label: str, width: int) -> str:
    """Return a label of several settings in lines that break between settings only."""
    return textwrap.fill(", ".join(part.replace(" ", _NO_BREAK) for part in label.split(", ")), width)


def _mask_comparison(view: View, compared: pd.DataFrame) -> Drawn:
    """Draw distance and overlap of federated and centralised masks beside their nulls, a row a setting."""
    metrics = [metric + suffix for metric, suffixes in _COMPARED.items() for suffix in suffixes]
    summary = points(compared, metrics, by=["setting"])
    narrow = is_narrow(view.width)
    names = [_wrapped(str(name), 24 if narrow else 34) for name in summary["setting"]]
    lines = len(names) * (1.6 + max(name.count("\n") for name in names))
    figure, axes = panels(len(_COMPARED), view.width, 0.5 + _LINE_HEIGHT * lines, 1 if narrow else len(_COMPARED))
    rows = np.arange(len(summary))
    for panel, (metric, suffixes) in zip(axes, _COMPARED.items(), strict=True):
        for place, suffix in enumerate(suffixes):
            marker, colour, _ = _MARKS[suffix]
            panel.errorbar(
                summary[metric + suffix], rows + 0.22 * (place - (len(suffixes) - 1) / 2),
                xerr=summary[f"{metric}{suffix}_half_width"], linestyle="", marker=marker, markersize=3.5, color=colour,
                elinewidth=0.9, capsize=1.5,
            )  # fmt: skip
        panel.set_yticks(rows, names)
        panel.set_ylim(len(rows) - 0.5, -0.5)
        panel.set_xlim(left=0)
        panel.set_xlabel(textwrap.fill(axis_label(metric), 27))
        panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    legend = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=label)
        for marker, colour, label in _MARKS.values()
    ]
    frame(figure, view.heading(), legend, figure_notes(view.cells))
    return Drawn(
        "Share of the kept weights that are in another layer (half of the distance in layer densities, sum over layers "
        "of |difference of kept| / kept) and overlap of the federated mask and the centralised one of as many draws, "
        "then the share against the centralised mask of real inputs. "
        "Nulls: the same between two independent centralised masks; the overlap expected of random positions within "
        f"layers. A mask is as good as centralised where it meets the null. {seeds_sentence(compared)}",
        "Chart of distances and overlaps of federated and centralised masks beside their nulls.",
        figure,
    )

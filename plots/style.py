"""How methods, saliencies and figures look: fixed colours, markers and line styles, widths and fonts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib import rc_context, rcdefaults, rcParams

FULL_WIDTH = 7.0
"""Width in inches of a figure over both columns of a paper."""
COLUMN_WIDTH = 3.3
"""Width in inches of a figure in one column."""
CONTROL_STYLE: Any = (0, (4, 1.5))
"""Dashes, kept for the control that trains on the exact gradient."""
LINE_STYLES: tuple[Any, ...] = ("-", (0, (1, 1.2)), (0, (3, 1, 1, 1)), (0, (5, 1.2, 1, 1.2)), (0, (7, 2, 1, 2, 1, 2)))


@dataclass(frozen=True)
class Look:
    """How a method is drawn and named."""

    label: str
    colour: str
    marker: str


SHIPPED = {
    "fed_ntk_zo": Look("Fed-NTK + ZO", "#D55E00", "o"),
    "fed_ntk_fedavg": Look("Fed-NTK + FedAvg", "#E69F00", "p"),
    "baffle": Look("BAFFLE", "#0072B2", "^"),
    "baffle_erk": Look("BAFFLE + ERK", "#785EF0", "d"),
    "fedtiny": Look("FedTiny", "#009E73", "D"),
    "fedmef": Look("FedMef", "#CC79A7", "v"),
    "feddst": Look("FedDST", "#56B4E9", "P"),
    "fedavg": Look("FedAvg (dense)", "#1A1A1A", "s"),
    "fedavg_erk": Look("FedAvg + ERK", "#7F7F7F", "<"),
}
"""Okabe and Ito's colour-blind-safe palette, in the order in which legends name the methods."""
SALIENCIES = {
    "ntk": Look("NTK", "#D55E00", "o"),
    "snip": Look("SNIP", "#0072B2", "^"),
    "grasp": Look("GraSP", "#009E73", "D"),
    "synflow": Look("SynFlow", "#CC79A7", "v"),
    "magnitude": Look("Magnitude", "#E69F00", "s"),
    "erk": Look("ERK", "#56B4E9", "P"),
    "uniform": Look("Uniform", "#1A1A1A", "<"),
    "random": Look("Random", "#7F7F7F", "X"),
}
"""How saliencies look in a run of one method, in the order in which legends name them."""
_OTHER_COLOURS = ("#882255", "#332288", "#999933", "#661100", "#44AA99")
_OTHER_MARKERS = (">", "*", "h", "X")
PART_COLOURS = ("#00224E", "#43598A", "#7F7C75", "#A99F73", "#D0BE5E", "#FEE838")
"""Six steps of cividis for the parts of a peak; no method wears one of them."""


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return the looks of a run's methods.

    Those that do not ship are dealt colours and markers in the order of their names, so that no two of twenty have the
    same of both.
    """
    others = {
        name: Look(name, _OTHER_COLOURS[place % len(_OTHER_COLOURS)], _OTHER_MARKERS[place % len(_OTHER_MARKERS)])
        for place, name in enumerate(sorted(set(methods) - SHIPPED.keys()))
    }
    return SHIPPED | others


def look(method: str) -> Look:
    """Return a method's look in a run that has no other one of those that do not ship; its label is that of any run."""
    return looks([method])[method]


@contextmanager
def themed() -> Iterator[None]:
    """Hold matplotlib's settings, whatever the user's are: seaborn's white grid, fonts in points, stable SVG."""
    settings: Any = {
        **sns.axes_style("whitegrid"),
        "font.family": ["DejaVu Sans"],
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "figure.titlesize": 9,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.linewidth": 0.6,
        "axes.edgecolor": "#444444",
        "grid.linewidth": 0.5,
        "grid.color": "#DDDDDD",
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
        "text.parse_math": False,
        "svg.hashsalt": "fedfore",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    with rc_context():
        rcdefaults()
        rcParams.update(settings)
        yield

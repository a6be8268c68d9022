"""How methods, metrics and numbers look: fixed colours and markers, labels with units and direction, human units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import seaborn as sns
from matplotlib import rc_context, rcdefaults, rcParams

from fedfore.errors import printable
from fedfore.records.metrics import METRICS

FULL_WIDTH = 7.0
"""Width in inches of a figure over both columns of a paper."""
COLUMN_WIDTH = 3.3
"""Width in inches of a figure in one column."""
DAGGER = "†"
DOUBLE_DAGGER = "‡"
OVERSPENT = "§"
"""Marks what trained past its budget."""
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{EN DASH}"
"""Stands in tables for a value that does not exist."""
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

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SHORT_NAMES = {"num_perturbations": "K", "scoring_micro_batch": "inputs a pass"}
_PHRASES: dict[tuple[str, object], str] = {
    ("inputs", "gaussian"): "Gaussian inputs",
    ("inputs", "real"): "real inputs",
    ("memory", "none"): "",
    ("memory", "checkpoint"): "checkpointing",
    ("memory", "accumulate"): "accumulation",
    ("memory", "optimizer_in_backward"): "optimizer in backward",
    ("restore", "seed"): "restores from the seed",
    ("restore", "as_released"): "restores as released",
    ("restore", "copy"): "restores from a copy",
    ("scoring_micro_batch", None): "",
    ("shuffle", False): "",
    ("shuffle", True): "shuffled",
    ("upload", "scores"): "uploads scores",
    ("upload", "masks"): "uploads masks",
    ("where", "devices"): "scored by devices",
    ("where", "devices_forward"): "scored by devices' forward passes",
    ("where", "server"): "scored by the server",
    **{("saliency", name): one.label for name, one in SALIENCIES.items()},
}
"""Values that say what they are without their field's name; an empty one need not be said."""


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


def field_label(column: str, value: object) -> str:
    """Return a field and its value for a legend: `params.num_perturbations`, 100.0 -> "K=100"; maybe nothing."""
    name = column.split(".", 1)[-1]
    return _PHRASES.get(
        (name, value if value == value else None), f"{_SHORT_NAMES.get(name, name)}={value_label(value)}"
    )


def value_label(value: object) -> str:
    """Return a parameter's value as a reader would write it."""
    if value is None or value != value:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else printable(str(value).replace("_", " "))


def axis_label(metric: str, detail: str = "") -> str:
    """Return a metric's axis label with its unit, accuracies in percent, and an arrow to the better end."""
    row = METRICS[metric]
    unit = (
        "%"
        if is_percent(metric)
        else ""
        if row.unit.lower() in ("fraction", "ratio", *re.findall(r"\w+", row.label.lower()))
        else row.unit
    )
    inside = ", ".join(part for part in (detail, unit) if part)
    arrow = {"higher": " ↑", "lower": " ↓", "descriptive": ""}[row.direction]
    return row.label + (f" ({inside})" if inside else "") + arrow


def is_percent(metric: str) -> bool:
    """Return whether a metric, stored as a fraction, is shown in percent."""
    return METRICS[metric].unit == "fraction" and METRICS[metric].direction == "higher"


def _scaled(value: float, base: float, units: tuple[str, ...]) -> str:
    power = 0 if value < base else min(int(math.log(value, base) + 1e-9), len(units) - 1)
    number = value / base**power
    digits = f"{number:,.0f}" if number >= 99.95 or number == round(number) else f"{number:.3g}"
    return f"{digits} {units[power]}".rstrip()


def human_bytes(value: float) -> str:
    """Return bytes in binary units, three digits: 1536 -> "1.5 KiB"."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def human_count(value: float) -> str:
    """Return a count with an SI prefix, three digits: 2.5e9 -> "2.5 G"."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T", "P", "E"))


def power_of_ten(value: float) -> str:
    """Return a power of ten as text: 0.001 -> "10⁻³"."""
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPTS)


def percent_text(mean: float, half_width: float) -> str:
    """Return a fraction and its half-width in percent and points: "91.2 ± 0.8"."""
    if mean != mean:
        return UNKNOWN
    return f"{100 * mean:.1f}" + (f" ± {100 * half_width:.1f}" if half_width == half_width else "")


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

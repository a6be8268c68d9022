"""Numbers and metrics as words: labels with units and direction, human units, differences, and marks."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from fedfore.judgement.estimates import Estimate
from fedfore.judgement.sides import is_percent
from fedfore.records.metrics import METRICS
from fedfore.records.probes import HEADLINE_EVALUATIONS, HEADLINE_SHARE

HEADLINES = {
    "test_accuracy": (
        f"mean of the evaluations in the last {HEADLINE_SHARE:.0%} of the budget, {HEADLINE_EVALUATIONS} or more"
    ),
    "test_accuracy_last5": f"mean of the last {HEADLINE_EVALUATIONS} evaluations",
}
"""The headline accuracy, and what older records have in its place, with what each is a mean of."""
DAGGER = "†"
DOUBLE_DAGGER = "‡"
OVERSPENT = "§"
"""Marks what trained past its budget."""
STARVED_LAYER = "¶"
"""Marks masks that leave a layer next to nothing."""
UNCOUNTED = "‖"
"""Marks FLOPs that leave operators out."""
FAILED_SEEDS = "#"
"""Marks points of which seeds failed."""
MINUS = "\N{MINUS SIGN}"
UNKNOWN = "\N{EN DASH}"
"""Stands in tables for a value that does not exist."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def listed(names: Sequence[str], most: int = 8) -> str:
    """Return names as text, `most` of them and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def interval_text(one: Estimate, write: Callable[[float], str], *, both_ends: bool) -> str:
    """Return what stands behind a mean, each number as `write` writes it: "± 2.1", or both ends, "[93.4, 97.1]".

    Nothing where there is no interval. A column has both ends where one interval of it is skewed.
    """
    if one.half_width != one.half_width:
        return ""
    return f"[{write(one.low)}, {write(one.high)}]" if both_ends else f"± {write(one.half_width)}"


def estimate_text(one: Estimate, write: Callable[[float], str], *, both_ends: bool) -> str:
    """Return a mean with its interval: "88.3 ± 2.1", or with both ends, "95.6 [93.4, 97.1]" (see `interval_text`)."""
    return f"{write(one.mean)} {interval_text(one, write, both_ends=both_ends)}".rstrip()


def percent_text(value: float) -> str:
    """Return a fraction in percent, without its sign: "91.2"."""
    return UNKNOWN if value != value else f"{100 * value:.1f}"


def difference_text(difference: Estimate) -> str:
    """Return a difference of two accuracies, given as fractions, in points: "-1.2 ± 0.4"."""
    if difference.n < 2:
        return UNKNOWN
    text = estimate_text(difference, percent_text, both_ends=False).replace("-", MINUS)
    return f"+{text}" if difference.mean >= 0 else text


def together(names: Sequence[str], most: int = 2) -> str:
    """Return the names of what is alike as one: variants of a name among them are counted, and what is beyond `most`.

    ["A, K=5", "A, K=5, shuffled", "B"] -> "A, K=5 = B (+1)".
    """
    own = [name for name in names if not any(name.startswith(f"{other}, ") for other in names)]
    variants = len(names) - len(own)
    shown = own if len(own) <= most else [own[0], f"{len(own) - 1} others"]
    return " = ".join(shown) + (f" (+{variants})" if variants else "")

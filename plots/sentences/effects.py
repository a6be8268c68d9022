"""Differences and ratios of comparisons as words, with their intervals."""

from __future__ import annotations

from fedfore.judgement.judging import Judged
from fedfore.judgement.sides import is_percent
from fedfore.plots.wording import MINUS, human_bytes, human_count
from fedfore.records.metrics import METRICS


def effect_text(one: Judged) -> str:
    """Return what a comparison measured: "+2.0 points (+0.8 to +3.2)", "0.54 times (0.52 to 0.56)"; "" for nothing."""
    if one.difference is None:
        return ""
    ends = span_text(one, *one.interval())
    return f"{span_text(one, one.value, one.value)}{effect_unit(one)}" + (f" ({ends})" if " to " in ends else "")


def span_text(one: Judged, low: float, high: float) -> str:
    """Return two numbers of a comparison without their unit, one where both read the same or there are none."""
    ratio, metric = one.contrast.compare == "ratio", one.contrast.metric
    texts = [f"{end:.3g}" if ratio else number_text(metric, end) for end in (low, high) if end == end]
    return " to ".join(dict.fromkeys(texts))


def effect_unit(one: Judged) -> str:
    """Return the unit of a comparison's numbers, with a space before it."""
    return " times" if one.contrast.compare == "ratio" else unit_text(one.contrast.metric)


def number_text(metric: str, value: float) -> str:
    """Return a signed difference of a metric without its unit, accuracies in points."""
    unit = METRICS[metric].unit
    if unit == "bytes":
        text = human_bytes(abs(value))
    elif unit in ("FLOPs", "MACs", "operations"):
        text = human_count(abs(value))
    else:
        text = f"{100 * abs(value):.1f}" if is_percent(metric) else f"{abs(value):.3g}"
    return f"{MINUS if value < 0 else '+'}{text}"


def unit_text(metric: str) -> str:
    """Return the unit that stands behind a `number_text`, with a space before it."""
    unit = METRICS[metric].unit
    return " points" if is_percent(metric) else "" if unit in ("bytes", "fraction", "ratio") else f" {unit}"

"""Judged comparisons as the rows of a table: what was compared, how large the difference is, and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from fedfore.judgement.judging import Judged, setting_text
from fedfore.plots.wording import is_percent
from fedfore.records.metrics import METRICS


def judged_rows(found: Sequence[Judged], withheld: str = "") -> pd.DataFrame:
    """Return one row of text a comparison, of whole families; `withheld` is why none of them counts, if so."""
    sizes = Counter(one.contrast.family for one in found)
    rows = [
        {
            "contrast": one.contrast.name,
            "setting": setting_text(one.pairing.setting),
            "metric": METRICS[one.contrast.metric].label,
            "seeds": str(one.difference.n if one.difference else 0),
            "difference or ratio": measured_text(one),
            "margin": "" if one.contrast.margin is None else _text(one, one.contrast.margin).removeprefix("+"),
            "family": f"{one.contrast.family} ({sizes[one.contrast.family]})",
            "verdict": _verdict(one, withheld),
        }
        for one in found
    ]
    table = pd.DataFrame(rows)
    return table[[name for name in table if name not in ("setting", "margin") or table[name].any()]]


def measured_text(one: Judged) -> str:
    """Return the difference or the ratio with its interval at the level of its family's step; nothing where unknown."""
    if one.difference is None:
        return ""
    texts = [_number(one, value) for value in one.interval()]
    at = f" [{', '.join(texts)}] at {one.level:.1%}" if len(set(texts)) > 1 else ""
    return f"{_text(one, one.value)}{at}"


def _verdict(one: Judged, withheld: str) -> str:
    reason = withheld or one.reason
    return "; ".join([f"not tested: {reason}" if reason else one.verdict, *one.remarks])


def _text(one: Judged, value: float) -> str:
    """Return a number of a comparison with its unit: a ratio, points, or that of the metric."""
    if one.contrast.compare == "ratio":
        return f"{_number(one, value)}x"
    return f"{_number(one, value)} {'points' if is_percent(one.contrast.metric) else METRICS[one.contrast.metric].unit}"


def _number(one: Judged, value: float) -> str:
    if one.contrast.compare == "ratio":
        return f"{value:.3g}"
    return f"{100 * value:+.1f}" if is_percent(one.contrast.metric) else f"{value:+.3g}"

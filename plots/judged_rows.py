"""Judged comparisons as the rows of a table: what was measured, by which test, and the word for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from fedfore.judgement.judging import Judged, setting_text
from fedfore.judgement.sides import is_percent
from fedfore.plots.sentences.effects import number_text, unit_text
from fedfore.records.metrics import METRICS


def judged_rows(found: Sequence[Judged], withheld: str = "") -> pd.DataFrame:
    """Return one row of text a comparison, of whole families; `withheld` is why none of them counts, if so."""
    sizes = Counter(one.contrast.family for one in found if one.level < 1)
    rows = [
        {
            "contrast": one.contrast.name,
            "setting": setting_text(one.pairing.setting),
            "metric": METRICS[one.contrast.metric].label,
            "seeds": str(one.difference.n if one.difference else 0),
            "difference or ratio": measured_text(one),
            "margin": margin_text(one),
            "family": one.contrast.family + (f" ({sizes[one.contrast.family]})" if one.level < 1 else ""),
            "verdict": verdict_text(one, withheld),
        }
        for one in found
    ]
    table = pd.DataFrame(rows)
    return table[[name for name in table if name not in ("setting", "margin") or table[name].any()]]


def verdict_text(one: Judged, withheld: str = "") -> str:
    """Return a comparison's word, with the reason where it is not tested, and its remarks."""
    reason = withheld or one.reason
    return "; ".join([f"not tested: {reason}" if reason else one.verdict, *one.remarks])


def margin_text(one: Judged) -> str:
    """Return within what a comparison is equivalent, nothing without a margin."""
    return "" if one.contrast.margin is None else _text(one, one.contrast.margin).removeprefix("+")


def measured_text(one: Judged) -> str:
    """Return a comparison's difference or ratio, with its interval and the level of that."""
    if one.difference is None:
        return ""
    texts = [_number(one, value) for value in one.interval()]
    which = "over seeds" if one.level == 1 else f"at {one.level:.1%}"
    ends = f" [{', '.join(texts)}] {which}" if len(set(texts)) > 1 else ""
    return f"{_text(one, one.value)}{ends}"


def _text(one: Judged, value: float) -> str:
    """Return a number of a comparison with its unit: a ratio, points, or that of the metric."""
    return f"{_number(one, value)}{'x' if one.contrast.compare == 'ratio' else unit_text(one.contrast.metric)}"


def _number(one: Judged, value: float) -> str:
    if one.contrast.compare == "ratio":
        return f"{value:.3g}"
    return f"{100 * value:+.1f}" if is_percent(one.contrast.metric) else number_text(one.contrast.metric, value)

"""The contrasts of a study's matrix with their verdicts, as a table of its card."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive
from fedfore.judgement.claims import withheld_verdicts
from fedfore.judgement.judging import Judged, judged_of, setting_text
from fedfore.plots.wording import is_percent
from fedfore.records.markup import markdown
from fedfore.records.metrics import METRICS


def verdicts_table(archive: Archive, study: str) -> str:
    """Return every contrast that a study's matrix states, and what its records say of it.

    Nothing of an unfinished or a superseded study is tested. Raises ConfigError where the matrix states no contrast.
    """
    found = judged_of(archive.run(study))
    if not found:
        raise ConfigError(f"{study}: its matrix states no contrast that its cells answer; its card has no verdicts.")
    withheld = next(withheld_verdicts(archive, study), "")
    sizes = Counter(one.contrast.family for one in found)
    rows = [
        {
            "contrast": one.contrast.name,
            "setting": setting_text(one.pairing.setting),
            "metric": METRICS[one.contrast.metric].label,
            "seeds": str(one.difference.n if one.difference else 0),
            "difference or ratio": _measured(one),
            "margin": "" if one.contrast.margin is None else _text(one, one.contrast.margin).removeprefix("+"),
            "family": f"{one.contrast.family} ({sizes[one.contrast.family]})",
            "verdict": _verdict(one, withheld),
        }
        for one in found
    ]
    table = pd.DataFrame(rows)
    told = [name for name in table if name not in ("setting", "margin") or table[name].any()]
    return markdown(table[told])


def _verdict(one: Judged, withheld: str) -> str:
    reason = withheld or one.reason
    return "; ".join([f"not tested: {reason}" if reason else one.verdict, *one.remarks])


def _measured(one: Judged) -> str:
    if one.difference is None:
        return ""
    texts = [_number(one, value) for value in one.interval()]
    at = f" [{', '.join(texts)}] at {one.level:.1%}" if len(set(texts)) > 1 else ""
    return f"{_text(one, one.value)}{at}"


def _text(one: Judged, value: float) -> str:
    """Return a number of a comparison with its unit: a ratio, points, or that of the metric."""
    if one.contrast.compare == "ratio":
        return f"{_number(one, value)}x"
    return f"{_number(one, value)} {'points' if is_percent(one.contrast.metric) else METRICS[one.contrast.metric].unit}"


def _number(one: Judged, value: float) -> str:
    if one.contrast.compare == "ratio":
        return f"{value:.3g}"
    return f"{100 * value:+.1f}" if is_percent(one.contrast.metric) else f"{value:+.3g}"

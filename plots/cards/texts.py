"""Quantities as they stand in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from fedfore.judgement.archive import Archive, Sample
from fedfore.judgement.quantities import Quantity, interval, sample, statistic
from fedfore.plots.wording import interval_text

_BYTES: Mapping[str, float] = {"KiB": 2.0**-10, "MiB": 2.0**-20}
_JOINED = {"range": " to ", "nonzero": " of "}


def text(archive: Archive, study: str, quantity: Quantity) -> str:
    """Return a quantity as it stands in a sentence: empty where an optional one is not there."""
    found = sample(archive, study, quantity)
    return sample_text(found, quantity, both_ends=is_skewed(found, quantity))


def is_skewed(found: Sample, quantity: Quantity) -> bool:
    """Return whether a sample is shown with an interval that is longer on one side."""
    return quantity.statistic == "interval" and interval(found, quantity).is_skewed


def sample_text(found: Sample, quantity: Quantity, *, both_ends: bool) -> str:
    """Return a quantity's sample as it stands in a table or a sentence, its interval with both ends or ±."""
    if found.values.empty:
        return ", ".join(found.unfinished)
    missing = sum(found.unfinished.values())
    lacking = f" ({len(found.values)} of {len(found.values) + missing})" if missing else ""
    endings = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in found.failed.items())
    failed = f" ({endings}: as chance)" if endings else ""
    return f"{_text(found, quantity, both_ends=both_ends)}{quantity.unit}{lacking}{failed}"


def _text(found: Sample, quantity: Quantity, *, both_ends: bool) -> str:
    first, *others = statistic(found, quantity)
    if quantity.statistic in ("count", "nonzero"):
        return _JOINED.get(quantity.statistic, "").join(map(str, (first, *others)))
    if quantity.statistic != "interval":
        texts = [_number(number, quantity, sign=quantity.sign) for number in (first, *others)]
        return _JOINED.get(quantity.statistic, ", ").join(texts)
    write = partial(_number, quantity=quantity, sign=False)
    mean = _number(first, quantity, sign=quantity.sign)
    return f"{mean} {interval_text(interval(found, quantity), write, both_ends=both_ends)}".rstrip()


def _number(value: Any, quantity: Quantity, *, sign: bool) -> str:
    if isinstance(value, str):
        return value
    number = float(value) * (_BYTES[quantity.scale] if isinstance(quantity.scale, str) else quantity.scale)
    if quantity.significant is not None and number:
        decimals: int | None = max(0, quantity.significant - 1 - math.floor(math.log10(abs(number))))
    else:
        decimals = quantity.decimals
    written = f"{number:,g}" if decimals is None else f"{number:,.{decimals}f}"
    is_zero = not any(digit in written for digit in "123456789")
    written = written.removeprefix("-") if is_zero else written
    return f"+{written}" if sign and number > 0 and not is_zero else written

"""Quantities as they stand in tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedfore.judgement.archive import Archive, Sample
from fedfore.judgement.quantities import Quantity, sample, statistic

_BYTES: Mapping[str, float] = {"KiB": 2.0**-10, "MiB": 2.0**-20}
_JOINED = {"interval": " ± ", "range": " to ", "nonzero": " of "}


def text(archive: Archive, study: str, quantity: Quantity) -> str:
    """Return a quantity as it stands in a table or a sentence: empty where an optional one is not there."""
    return sample_text(sample(archive, study, quantity), quantity)


def sample_text(found: Sample, quantity: Quantity) -> str:
    """Return a quantity's sample as it stands in a table or a sentence."""
    if found.values.empty:
        return ", ".join(found.unfinished)
    numbers = statistic(found, quantity)
    missing = sum(found.unfinished.values())
    lacking = f" ({len(found.values)} of {len(found.values) + missing})" if missing else ""
    return _JOINED.get(quantity.statistic, ", ").join(_texts(numbers, quantity)) + quantity.unit + lacking


def _texts(numbers: tuple[Any, ...], quantity: Quantity) -> list[str]:
    if quantity.statistic in ("count", "nonzero"):
        return [str(number) for number in numbers]
    texts = [_number(number, quantity, sign=quantity.sign) for number in numbers]
    if quantity.statistic == "interval":
        texts[1:] = [_number(number, quantity, sign=False) for number in numbers[1:]]
    return texts


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

"""Round ticks of logarithmic scales."""

from __future__ import annotations

import math
from collections.abc import Sequence


def round_ticks(
    low: float, high: float, choices: Sequence[Sequence[float]], base: float = 10.0, least: int = 2
) -> list[float]:
    """Return the values from low to high that are a digit times a power of the base; low and high are positive.

    The digits are those of the first of the `choices` that gives at least that many values, else of the last.
    """
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    found: list[float] = []
    for digits in choices:
        found = [tick for power in powers for digit in digits if low <= (tick := digit * base**power) <= high]
        if len(found) >= least:
            break
    return found

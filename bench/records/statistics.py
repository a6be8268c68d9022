"""Means over seeds with their intervals, and paired differences of seeds that two sides share. No torch.

Intervals are 95% Student-t half-widths over seeds, NaN at fewer than two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and the half-width of its 95% Student-t interval, NaN at n < 2; in the values' unit."""

    mean: float
    half_width: float
    n: int

    @property
    def includes_zero(self) -> bool:
        """Whether the interval, if there is one, includes 0."""
        return not abs(self.mean) > self.half_width


def half_width(deviation: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Return the half-width of the 95% Student-t interval of a mean of `n` values with that sample deviation."""
    count = np.asarray(n, dtype=float)
    enough = np.where(count > 1, count, np.nan)
    return np.asarray(special.stdtrit(enough - 1, 0.975) * np.asarray(deviation, dtype=float) / np.sqrt(enough))


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of the values over seeds with its interval."""
    array = np.asarray(values, dtype=float)
    if not array.size:
        return Estimate(float("nan"), float("nan"), 0)
    deviation = array.std(ddof=1) if array.size > 1 else float("nan")
    return Estimate(float(array.mean()), float(half_width(deviation, array.size)), array.size)


def paired_estimate(first: pd.Series[float], second: pd.Series[float]) -> Estimate:
    """Return the mean of first minus second over the seeds that both know; each is indexed by seed, NaN is unknown."""
    return estimate((first - second).dropna())

"""Means over seeds and differences of two sides, with Student-t intervals, on the scale that suits the quantity.

Seeds are the only thing that is random here: an interval says what other seeds would give on the same test set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

LEVEL = 0.95
"""The level of intervals that no family of contrasts corrects."""
NEAR_A_LIMIT = 0.1
"""Fractions nearer than this to 0 or 1 get an interval on the logit scale, which stays between the two."""
_LEAST = 5e-4
"""The distance to 0 or 1 that a fraction counts with on the logit scale, where those ends are infinitely far."""
Scale = Literal["linear", "log", "logit"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and its interval, whose ends are NaN at n < 2; in the values' unit."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    @property
    def includes_zero(self) -> bool:
        """Whether the interval, if there is one, includes 0."""
        return not (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Difference:
    """The mean of first minus second, of `n` shared seeds where `paired`, else of groups of at least `n` seeds.

    `error` is its standard error, `freedom` the degrees of freedom of its t distribution; `values` are the differences
    by seed, none where it is not paired. All in the values' unit; NaN where n < 2. On a log scale they are logarithms
    of ratios.
    """

    mean: float
    error: float
    freedom: float
    n: int
    paired: bool
    values: tuple[float, ...] = ()

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return both ends of the two-sided interval of a level, NaN where n < 2."""
        half = float(special.stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """The two-sided p value of no difference; NaN where n < 2."""
        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.mean == 0)
        return float(2 * special.stdtr(self.freedom, -abs(self.mean) / self.error))


def half_width(deviation: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Values:
    """Return the half-width of the Student-t interval of a mean of `n` values with that sample deviation."""
    count = np.asarray(n, dtype=float)
    enough = np.where(count > 1, count, np.nan)
    quantile = special.stdtrit(enough - 1, (1 + level) / 2)
    return np.asarray(quantile * np.asarray(deviation, dtype=float) / np.sqrt(enough))


def estimate(values: ArrayLike, scale: Scale = "linear", level: float = LEVEL) -> Estimate:
    """Return the mean of the values over seeds, with the interval of their mean on a scale.

    `log` is for positive quantities that are shown on logarithmic axes: the mean is the geometric one, and there is no
    interval where a value is not positive. On `logit`, for fractions, the mean is the arithmetic one all the same.
    """
    array = np.asarray(values, dtype=float)
    if not array.size:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if scale == "log" and not (array > 0).all():
        return Estimate(float(array.mean()), math.nan, math.nan, array.size)
    there, back = _SCALES[scale]
    moved = there(array)
    deviation = moved.std(ddof=1) if array.size > 1 else math.nan
    middle, half = float(moved.mean()), float(half_width(deviation, array.size, level))
    mean = float(back(middle)) if scale == "log" else float(array.mean())
    return Estimate(mean, float(back(middle - half)), float(back(middle + half)), array.size)


def scale_of_fractions(values: ArrayLike) -> Scale:
    """Return the scale of the interval of fractions: logit where one of them is near 0 or 1 (see `NEAR_A_LIMIT`)."""
    array = np.asarray(values, dtype=float)
    inside = (array >= NEAR_A_LIMIT) & (array <= 1 - NEAR_A_LIMIT)
    return "linear" if bool(inside.all()) else "logit"


def paired(first: pd.Series[float], second: pd.Series[float], scale: Scale = "linear") -> Difference:
    """Return the difference over the seeds that both know; each is indexed by seed, NaN is unknown."""
    there, _ = _SCALES[scale]
    known = (first.map(there) - second.map(there)).dropna()
    values = known.to_numpy(dtype=float)
    n = len(values)
    error = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    mean = float(values.mean()) if n else math.nan
    return Difference(mean, error, n - 1.0, n, paired=True, values=tuple(map(float, values)))


def welch(first: ArrayLike, second: ArrayLike, scale: Scale = "linear") -> Difference:
    """Return the difference of two groups of seeds that share nothing, NaN left out, by Welch's test (Welch 1947)."""
    there, _ = _SCALES[scale]
    sides = [there(pd.Series(side, dtype=float).dropna()) for side in (first, second)]
    n = min(map(len, sides))
    mean = float(sides[0].mean() - sides[1].mean()) if n else math.nan
    if n < 2:
        return Difference(mean, math.nan, math.nan, n, paired=False)
    parts = [float(side.var(ddof=1) / len(side)) for side in sides]
    total = sum(parts)
    spread = sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    return Difference(mean, math.sqrt(total), total**2 / spread if spread else math.inf, n, paired=False)


def _same(values: ArrayLike) -> Values:
    return np.asarray(values, dtype=float)


def _logit(values: ArrayLike) -> Values:
    return np.asarray(special.logit(np.clip(values, _LEAST, 1 - _LEAST)))


_SCALES: dict[Scale, tuple[Callable[[ArrayLike], Values], Callable[[ArrayLike], Values]]] = {
    "linear": (_same, _same),
    "log": (np.log, np.exp),
    "logit": (_logit, special.expit),
}

"""Means over seeds and differences of two sides, with Student-t intervals, on the scale that suits the quantity.

Seeds are the only thing that is random here: an interval says what other seeds would give on the same test set.
"""

from __future__ import annotations

import math
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
_ROUNDING = 1e-12
"""Differences that vary by less than this share of what was subtracted do not vary: that is rounding."""
Scale = Literal["linear", "log", "logit"]
DifferenceScale = Literal["linear", "log"]
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
    def is_skewed(self) -> bool:
        """Whether there is an interval, and it is longer on one side of the mean."""
        return self.half_width == self.half_width and not math.isclose(
            self.high - self.mean, self.mean - self.low, abs_tol=1e-9
        )

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

    @property
    def is_constant(self) -> bool:
        """Whether it is the same at every seed, so that a t test has no spread to judge it by."""
        return self.error == 0

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Return both ends of the two-sided interval of a level, NaN where n < 2."""
        half = float(special.stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """The two-sided p value of no difference; NaN where n < 2.

        It is that of Student's t. Of a difference that is the same at every seed it is the share of the ways to
        exchange the two sides, seed by seed where it is paired, that give as large a one (Fisher's randomisation test).
        """
        if not self.is_constant:
            return float(2 * special.stdtr(self.freedom, -abs(self.mean) / self.error))
        if self.mean == 0:
            return 1.0
        return 2 / (2**self.n if self.paired else math.comb(2 * self.n, self.n))


def half_width(deviation: ArrayLike, n: ArrayLike, level: float = LEVEL) -> Values:
    """Return the half-width of the Student-t interval of a mean of `n` values with that sample deviation."""
    count = np.asarray(n, dtype=float)
    enough = np.where(count > 1, count, np.nan)
    quantile = special.stdtrit(enough - 1, (1 + level) / 2)
    return np.asarray(quantile * np.asarray(deviation, dtype=float) / np.sqrt(enough))


def estimate(values: ArrayLike, scale: Scale = "linear", level: float = LEVEL) -> Estimate:
    """Return the mean of the values over seeds, with the interval of their mean on a scale.

    `log` is for positive quantities that are shown on logarithmic axes: the mean is the geometric one, and there is no
    interval where a value is not positive. `logit` is for fractions: the mean is the arithmetic one, and its interval
    is moved to the logit scale by the delta method, as surveys do for proportions, where it stays within 0 and 1.
    """
    array = np.asarray(values, dtype=float)
    n = array.size
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if scale == "log":
        if not (array > 0).all():
            return Estimate(float(array.mean()), math.nan, math.nan, n)
        array = np.log(array)
    mean = float(array.mean())
    half = float(half_width(array.std(ddof=1) if n > 1 else math.nan, n, level))
    if scale == "log":
        return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)
    if scale == "logit" and 0 < mean < 1:
        middle, half = special.logit(mean), half / (mean * (1 - mean))
        return Estimate(mean, float(special.expit(middle - half)), float(special.expit(middle + half)), n)
    return Estimate(mean, mean - half, mean + half, n)


def scale_of_fractions(values: ArrayLike) -> Scale:
    """Return the scale of the interval of fractions: linear unless it or a value comes near 0 or 1.

    It is logit where a value is nearer to them than `NEAR_A_LIMIT`, or where the linear interval would leave them.
    """
    array = np.asarray(values, dtype=float)
    inside = (array >= NEAR_A_LIMIT) & (array <= 1 - NEAR_A_LIMIT)
    linear = estimate(array)
    return "logit" if not inside.all() or linear.low < 0 or linear.high > 1 else "linear"


def paired(first: pd.Series[float], second: pd.Series[float], scale: DifferenceScale = "linear") -> Difference:
    """Return the difference over the seeds that both know; each is indexed by seed, NaN is unknown."""
    scaled = [_on(scale, first), _on(scale, second)]
    if first.index.equals(second.index):
        sides = np.column_stack([side.to_numpy(dtype=float) for side in scaled])
        sides = sides[~np.isnan(sides).any(axis=1)]
    else:
        sides = pd.concat(scaled, axis=1, join="inner").dropna().to_numpy(dtype=float)
    values = sides[:, 0] - sides[:, 1]
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    error = _deviation(values, sides) / math.sqrt(n) if n > 1 else math.nan
    return Difference(mean, error, n - 1.0, n, paired=True, values=tuple(map(float, values)))


def welch(first: pd.Series[float], second: pd.Series[float], scale: DifferenceScale = "linear") -> Difference:
    """Return the difference of two groups of seeds that share nothing, NaN left out, by Welch's test (Welch 1947)."""
    sides = [_on(scale, side).dropna().to_numpy(dtype=float) for side in (first, second)]
    n = min(map(len, sides))
    mean = float(sides[0].mean() - sides[1].mean()) if n else math.nan
    if n < 2:
        return Difference(mean, math.nan, math.nan, n, paired=False)
    parts = [_deviation(side, side) ** 2 / len(side) for side in sides]
    total = sum(parts)
    spread = sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True))
    return Difference(mean, math.sqrt(total), total**2 / spread if spread else math.inf, n, paired=False)


def _on(scale: DifferenceScale, values: pd.Series[float]) -> pd.Series[float]:
    """Return the values on a scale; what has no logarithm is unknown there."""
    return values if scale == "linear" else values.where(values > 0).map(np.log)


def _deviation(values: ArrayLike, of: ArrayLike) -> float:
    """Return the sample deviation, 0 where rounding alone makes differences `of` values vary."""
    found = float(np.asarray(values, dtype=float).std(ddof=1))
    return found if found > _ROUNDING * float(np.abs(of).max()) else 0.0

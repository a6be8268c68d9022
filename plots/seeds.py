"""What a figure shows of a point: the values of its seeds, failures counted against it, and their mean's interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.estimates import LEVEL, Estimate, Scale, estimate
from fedfore.judgement.sides import Side, difference, mean_of, side

LEAST_FOR_AN_INTERVAL = 3
"""Fewer seeds have an interval (t = 12.7) that fills a panel; it is left to the tables."""


@dataclass(frozen=True)
class Seeds:
    """The seeds of a point: their values, the mean of these with its interval, and whether it is part of comparisons.

    A seed that failed has the accuracy of chance.
    """

    values: tuple[float, ...]
    estimate: Estimate
    withheld: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval, None where there are too few seeds for one."""
        own = self.estimate
        return (own.low, own.high) if own.n >= LEAST_FOR_AN_INTERVAL and not math.isnan(own.low) else None


def seeds_of(cells: pd.DataFrame, metric: str, scale: Scale | None = None) -> Seeds:
    """Return what the cells of one point say of a metric, on its own scale (see `mean_of`) or on another."""
    values = side(cells, metric).values.dropna()
    mean = mean_of(cells, metric) if scale is None else estimate(values, scale)
    return Seeds(tuple(map(float, values)), mean, bool(cells["withheld"].any()))


def difference_of(cells: pd.DataFrame, reference: pd.DataFrame, metric: str) -> Seeds | None:
    """Return the differences of a point to another by seed, with their mean's interval; None where they share none.

    Where both do not train on the same partitions there are no differences by seed, and the interval is Welch's.
    """
    sides: tuple[Side, Side] = (side(cells, metric), side(reference, metric))
    found = difference(*sides)
    if not found.n:
        return None
    low, high = found.interval(LEVEL)
    withheld = bool(cells["withheld"].any() or reference["withheld"].any())
    return Seeds(found.values, Estimate(found.mean, low, high, found.n), withheld=withheld)


def seeds_note(shown: Iterable[Seeds], mean: str = "mean") -> str:
    """Return what the dots, marks and bars of a figure are, and over how many seeds."""
    counts = [one.estimate.n for one in shown]
    low, high = min(counts), max(counts)
    if high < 2:
        return "n = 1 seed a point: no interval, and no difference can be told from chance."
    n = f"{high}" if low == high else f"{low} to {high}"
    if high < LEAST_FOR_AN_INTERVAL:
        return f"Dots: n = {n} seeds; marks: their {mean}. Tables have the intervals of two."
    none = f" (none below {LEAST_FOR_AN_INTERVAL} seeds)" if low < LEAST_FOR_AN_INTERVAL else ""
    return f"Dots: n = {n} seeds; marks and bars: their {mean} and its {LEVEL:.0%} interval{none}."

"""What it costs to reach an accuracy, and which accuracy to ask for: censored where a cell never reaches it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

WINDOW = 3
"""Evaluations in a row whose mean has to reach the target, so that no single lucky one counts."""
STEP = 0.05
"""Targets are multiples of it."""
_ROUNDING = 1e-9


def first_reaching(accuracies: ArrayLike, target: float) -> int | None:
    """Return the place of the evaluation at which the mean of `WINDOW` in a row first reaches a target.

    That is the last of the `WINDOW`: what training had cost by then is the cost to the target. None where never, and
    where there are fewer evaluations.
    """
    reached = np.flatnonzero(_window_means(accuracies) >= target - _ROUNDING)
    return int(reached[0]) + WINDOW - 1 if reached.size else None


def highest_reached(accuracies: ArrayLike) -> float:
    """Return the highest mean of `WINDOW` evaluations in a row, NaN where there are fewer."""
    means = _window_means(accuracies)
    return float(means.max()) if means.size else math.nan


def shared_target(heights: Sequence[Sequence[float]], chance: float = 0.0) -> float | None:
    """Return the highest multiple of `STEP` that at least half of the series reach; None where it is not above chance.

    `heights` has one `highest_reached` a seed of each series, NaN where a seed was not evaluated often enough. A series
    reaches what at least half of its seeds reach.
    """
    highest = sorted((_of_half(seeds) for seeds in heights if len(seeds)), reverse=True)
    if not highest:
        return None
    height = highest[_half(len(highest)) - 1]
    target = round(math.floor(height / STEP + _ROUNDING) * STEP, 10)
    return target if target > chance else None


def _of_half(seeds: Sequence[float]) -> float:
    """Return the highest value that at least half of the seeds reach, 0 where less than half reach any."""
    ordered = sorted((0.0 if math.isnan(one) else one for one in seeds), reverse=True)
    return ordered[_half(len(ordered)) - 1]


def _half(count: int) -> int:
    return -(-count // 2)


def _window_means(accuracies: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(accuracies, dtype=float)
    if len(values) < WINDOW:
        return np.empty(0)
    return np.lib.stride_tricks.sliding_window_view(values, WINDOW).mean(axis=1)

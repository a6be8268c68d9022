"""The words that a contrast of records gets, by rules that were fixed before its cells ran.

In this order: `too few seeds` below `LEAST_PAIRS` pairs; `equivalent` with `LEAST_FOR_EQUIVALENCE` pairs where two
one-sided tests at 5% find the difference inside the margin (Schuirmann 1987: the 90% interval lies inside it);
`better` or `worse` where the interval at Holm's step level excludes 0 (Holm 1979); else `inconclusive`. `not tested` is
said of what cannot be judged at all. The family-wise error of `better` and `worse` is at most 5%.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedfore.judgement.estimates import Difference

Verdict = Literal["too few seeds", "equivalent", "better", "worse", "inconclusive", "not tested"]
Reached = Literal["yes", "no", "within the interval"]
ERROR = 0.05
"""The family-wise error of `better` and `worse`, and the error of `equivalent`."""
LEAST_PAIRS = 5
LEAST_FOR_EQUIVALENCE = 10


@dataclass(frozen=True)
class Question:
    """A contrast as its family sees it: the difference, the margin of equivalence in its unit, which sign is better.

    `exact`: both sides are metered and have no chance in them, so that they need no seeds and no correction.
    """

    difference: Difference
    margin: float | None
    higher_is_better: bool
    exact: bool = False


@dataclass(frozen=True)
class Answer:
    """A question's verdict, and the level of the interval by which `better` and `worse` were decided."""

    verdict: Verdict
    level: float


def step_errors(p_values: Sequence[float], error: float = ERROR) -> list[float]:
    """Return Holm's step error of each of m hypotheses: error / (m - i + 1) for the i-th smallest p value.

    An unknown p value (NaN) counts as the largest.
    """
    m = len(p_values)
    order = sorted(range(m), key=lambda place: (math.isnan(p_values[place]), p_values[place]))
    steps = [0.0] * m
    for rank, place in enumerate(order):
        steps[place] = error / (m - rank)
    return steps


def rejected(p_values: Sequence[float], error: float = ERROR) -> list[bool]:
    """Return which hypotheses Holm's step-down procedure rejects: it stops at the first that it does not."""
    steps = step_errors(p_values, error)
    order = sorted(range(len(p_values)), key=lambda place: (steps[place], p_values[place]))
    found, going = [False] * len(p_values), True
    for place in order:
        going = going and p_values[place] < steps[place]
        found[place] = going
    return found


def equivalent(difference: Difference, margin: float, error: float = ERROR) -> bool:
    """Return whether two one-sided tests find the difference inside +-margin: its 1 - 2 error interval lies inside."""
    low, high = difference.interval(1 - 2 * error)
    return -margin < low and high < margin


def answers(family: Sequence[Question]) -> list[Answer]:
    """Return the verdicts of a family of contrasts, which is whole: all that its matrix asks, judged or not."""
    p_values = [math.nan if one.difference.n < LEAST_PAIRS else one.difference.p for one in family if not one.exact]
    by_chance = iter(zip(rejected(p_values), step_errors(p_values), strict=True))
    return [_exact(one) if one.exact else _answer(one, *next(by_chance)) for one in family]


def _answer(question: Question, is_rejected: bool, step: float) -> Answer:
    difference, level = question.difference, 1 - step
    if difference.n < LEAST_PAIRS:
        return Answer("too few seeds", level)
    enough = difference.n >= LEAST_FOR_EQUIVALENCE and question.margin is not None
    if enough and equivalent(difference, question.margin or 0.0):
        return Answer("equivalent", level)
    return Answer(_better(question) if is_rejected else "inconclusive", level)


def _exact(question: Question) -> Answer:
    if math.isnan(question.difference.mean):
        return Answer("not tested", 1.0)
    inside = abs(question.difference.mean) < (question.margin or 0.0)
    return Answer("equivalent" if inside or question.difference.mean == 0 else _better(question), 1.0)


def _better(question: Question) -> Verdict:
    return "better" if (question.difference.mean > 0) == question.higher_is_better else "worse"


def bound_reached(interval: tuple[float, float], bound: float) -> Reached:
    """Return whether a claimed value is reached by what was measured, of which more is claimed: from its interval."""
    low, high = interval
    return "yes" if low >= bound else "no" if high < bound else "within the interval"


def simultaneous_level(count: int, error: float = ERROR) -> float:
    """Return the level at which `count` intervals together hold with 1 - error (Bonferroni): for claims of "up to"."""
    return 1 - error / max(count, 1)

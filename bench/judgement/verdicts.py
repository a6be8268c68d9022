"""The words that a contrast of records gets, by rules that were fixed before its cells ran.

In this order: `too few seeds` below `LEAST_PAIRS` pairs; `equivalent` with `LEAST_FOR_EQUIVALENCE` pairs where two
one-sided tests at 5% find the difference inside the margin (Schuirmann 1987: the 90% interval lies inside it);
`better` or `worse` where the interval at Holm's step level excludes 0 (Holm 1979); else `inconclusive`. `not tested` is
said of what cannot be judged at all. The family-wise error of `better` and `worse` is at most 5%.

What metering makes has no chance in it: `better`, `worse` or `equivalent` is what holds at every seed.
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


@dataclass(frozen=True)
class Step:
    """What Holm's procedure says of a hypothesis: whether it is rejected, and the error at which that was decided."""

    rejected: bool
    error: float


def holm(p_values: Sequence[float], error: float = ERROR) -> list[Step]:
    """Return Holm's step of each of m hypotheses; an unknown p value (NaN) counts as the largest.

    The i-th smallest p value is held against error / (m - i + 1), up to the first that is not below it. Those after it
    are not rejected either and share its error, at which their intervals include 0 as well.
    """
    m = len(p_values)
    steps = [Step(rejected=False, error=error)] * m
    decided, going = error, True
    for rank, place in enumerate(sorted(range(m), key=lambda one: (math.isnan(p_values[one]), p_values[one]))):
        decided = error / (m - rank) if going else decided
        going = p_values[place] < decided
        steps[place] = Step(going, decided)
    return steps


def equivalent(difference: Difference, margin: float, error: float = ERROR) -> bool:
    """Return whether two one-sided tests find the difference inside +-margin: its 1 - 2 error interval lies inside."""
    low, high = difference.interval(1 - 2 * error)
    return -margin < low and high < margin


def answers(family: Sequence[Question]) -> list[Answer]:
    """Return the verdicts of a family of contrasts, which is whole: all that its matrix asks, judged or not.

    What cannot be judged, for too few seeds or for another reason, counts in Holm's correction as a p value of 1: how
    strict the others are judged was fixed with the matrix and does not depend on what came out.
    """
    p_values = [math.nan if one.difference.n < LEAST_PAIRS else one.difference.p for one in family if not one.exact]
    by_chance = iter(holm(p_values))
    return [_exact(one) if one.exact else _answer(one, next(by_chance)) for one in family]


def _answer(question: Question, step: Step) -> Answer:
    difference, margin, level = question.difference, question.margin, 1 - step.error
    if difference.n < LEAST_PAIRS:
        return Answer("too few seeds", level)
    if margin is not None and difference.n >= LEAST_FOR_EQUIVALENCE and equivalent(difference, margin):
        return Answer("equivalent", level)
    return Answer(_better(question) if step.rejected else "inconclusive", level)


def _exact(question: Question) -> Answer:
    values, margin = question.difference.values, question.margin or 0.0
    if not values:
        return Answer("not tested", 1.0)
    if all(abs(value) < margin or value == 0 for value in values):
        return Answer("equivalent", 1.0)
    one_sign = min(values) > 0 or max(values) < 0
    return Answer(_better(question) if one_sign else "inconclusive", 1.0)


def _better(question: Question) -> Verdict:
    return "better" if (question.difference.mean > 0) == question.higher_is_better else "worse"


def bound_reached(interval: tuple[float, float], bound: float) -> Reached:
    """Return whether a claimed value is reached by what was measured, of which more is claimed: from its interval."""
    low, high = interval
    return "yes" if low >= bound else "no" if high < bound else "within the interval"


def simultaneous_level(count: int, error: float = ERROR) -> float:
    """Return the level at which `count` intervals together hold with 1 - error (Bonferroni): for claims of "up to"."""
    return 1 - error / max(count, 1)

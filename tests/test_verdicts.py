"""The words of a family of contrasts: Holm's procedure by worked examples, two one-sided tests by hand, their order."""

from __future__ import annotations

import math

import pytest

from fedfore.judgement.estimates import Difference
from fedfore.judgement.verdicts import Question, Step, answers, bound_reached, equivalent, holm, simultaneous_level

NAN = math.nan


def of_seeds(mean: float, error: float, n: int, values: tuple[float, ...] = ()) -> Difference:
    return Difference(mean, error, n - 1.0, n, paired=True, values=values)


def question(
    difference: Difference, margin: float | None = None, *, higher: bool = True, exact: bool = False
) -> Question:
    return Question(difference, margin, higher, exact)


# Holm


def test_holms_procedure_by_a_worked_example() -> None:
    """Of .01, .04, .03, .005 at 5%: .005 < .05/4, .01 < .05/3, .03 > .05/2 stops, and .04 < .05 is not reached."""
    errors = [0.05 / 3, 0.05 / 2, 0.05 / 2, 0.05 / 4]
    assert holm([0.01, 0.04, 0.03, 0.005]) == [
        Step(rejected, pytest.approx(error)) for rejected, error in zip([True, False, False, True], errors, strict=True)
    ]


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([0.049], [True]),
        ([0.05], [False]),
        ([0.03, 0.03], [False, False]),  # neither is below .05 / 2
        ([0.02, 0.02, 0.5], [False, False, False]),  # .02 > .05 / 3, although .02 < .05 / 2
        ([0.016, 0.016, 0.5], [True, True, False]),
        ([NAN, 0.02], [False, True]),  # what is unknown counts as the largest
        ([NAN, 0.03], [False, False]),
        ([NAN, NAN], [False, False]),
        ([0.0, 0.0], [True, True]),
        ([], []),
    ],
)
def test_holm_with_ties_and_unknown_values(p_values: list[float], rejected: list[bool]) -> None:
    assert [step.rejected for step in holm(p_values)] == rejected


def test_what_holm_does_not_reject_has_an_interval_that_includes_zero() -> None:
    """The second p value alone would do at .05 / 1; the first stopped at .05 / 2, at which both include 0."""
    family = [question(of_seeds(1.0, error, 8)) for error in (0.42, 0.45)]
    ps = [one.difference.p for one in family]
    assert 0.025 < ps[0] < ps[1]
    for one, answer in zip(family, answers(family), strict=True):
        low, high = one.difference.interval(answer.level)
        assert answer.verdict == "inconclusive" and low < 0 < high and answer.level == pytest.approx(0.975)


# Verdicts


def test_each_word_of_a_family_by_hand() -> None:
    """Five contrasts, of which one has too few seeds: Holm's first step is .05 / 5."""
    family = [
        question(of_seeds(0.04, 0.005, 5)),  # t = 8, p = .0013 < .05 / 5
        question(of_seeds(-0.04, 0.008, 5)),  # t = -5, p = .0075 < .05 / 4
        question(of_seeds(0.03, 0.009, 5)),  # t = 3.33, p = .029 > .05 / 3
        question(of_seeds(0.5, 0.001, 4)),
        question(of_seeds(0.002, 0.003, 10), margin=0.01),  # 90%: .002 +- 1.833 x .003 = -.0035 to .0075
    ]
    assert [(one.verdict, round(1 - one.level, 4)) for one in answers(family)] == [
        ("better", 0.01),
        ("worse", 0.0125),
        ("inconclusive", 0.0167),
        ("too few seeds", 0.0167),
        ("equivalent", 0.0167),
    ]


def test_lower_is_better_where_the_metric_says_so() -> None:
    assert answers([question(of_seeds(0.04, 0.001, 5), higher=False)])[0].verdict == "worse"
    assert answers([question(of_seeds(-0.04, 0.001, 5), higher=False)])[0].verdict == "better"


def test_what_is_not_judged_counts_in_the_correction() -> None:
    """p = .0161: enough alone and in a family of three (.05 / 3), not in one of four of which three say nothing."""
    near = question(of_seeds(0.04, 0.01, 5))
    assert near.difference.p == pytest.approx(0.0161, abs=1e-4)
    unknown = question(of_seeds(NAN, NAN, 0))
    assert answers([near])[0].verdict == answers([near, unknown, unknown])[0].verdict == "better"
    assert answers([near, unknown, unknown, question(of_seeds(0.0, 0.1, 3))])[0].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("mean", "error", "n", "margin", "verdict"),
    [
        (0.0, 0.005, 10, 0.01, "equivalent"),  # 1.833 x .005 = .0092
        (0.0, 0.006, 10, 0.01, "inconclusive"),  # 1.833 x .006 = .0110
        (0.001, 0.005, 10, 0.01, "inconclusive"),  # .001 + .0092
        (0.0, 0.005, 9, 0.01, "inconclusive"),  # nine seeds are too few to say so
        (0.0, 0.005, 10, None, "inconclusive"),  # nobody said what is small
        (0.005, 0.001, 10, 0.01, "equivalent"),  # told from 0, and too small to matter: the margin comes first
        (0.005, 0.001, 10, 0.005, "better"),
    ],
)
def test_equivalence_is_two_one_sided_tests(
    mean: float, error: float, n: int, margin: float | None, verdict: str
) -> None:
    assert answers([question(of_seeds(mean, error, n), margin)])[0].verdict == verdict


def test_an_interval_that_ends_at_the_margin_is_not_inside() -> None:
    constant = of_seeds(0.01, 0.0, 10)
    assert not equivalent(constant, 0.01) and equivalent(constant, 0.0101)


@pytest.mark.parametrize(
    ("mean", "n", "margin", "verdict"),
    [
        (0.1, 5, None, "inconclusive"),  # 2 / 2^5 = .0625
        (0.1, 6, None, "better"),  # 2 / 2^6 = .0313
        (0.0, 6, None, "inconclusive"),
        (0.0, 10, 0.01, "equivalent"),
    ],
)
def test_a_difference_without_spread_is_judged_by_its_signs(
    mean: float, n: int, margin: float | None, verdict: str
) -> None:
    assert answers([question(of_seeds(mean, 0.0, n), margin)])[0].verdict == verdict


@pytest.mark.parametrize(
    ("values", "margin", "verdict"),
    [
        ((-3.0,), None, "better"),
        ((2.0, 3.0), None, "worse"),
        ((-1.0, 2.0), None, "inconclusive"),
        ((0.0, 0.0), None, "equivalent"),
        ((0.0, 2.0), None, "inconclusive"),
        ((-1.0, 2.0), 2.5, "equivalent"),
        ((), None, "not tested"),
    ],
)
def test_what_is_metered_needs_no_seeds_and_says_what_holds_at_each(
    values: tuple[float, ...], margin: float | None, verdict: str
) -> None:
    mean = sum(values) / len(values) if values else NAN
    metered = question(of_seeds(mean, NAN, len(values), values), margin, higher=False, exact=True)
    by_chance = question(of_seeds(0.04, 0.0125, 5))  # p = .033: enough alone
    assert [one.verdict for one in answers([metered, by_chance])] == [verdict, "better"], "it takes no part in Holm's"


# Bounds


@pytest.mark.parametrize(
    ("interval", "reached"),
    [((9.0, 9.5), "yes"), ((8.0, 8.9), "no"), ((8.0, 9.5), "within the interval")],
)
def test_a_bound_is_held_against_an_interval(interval: tuple[float, float], reached: str) -> None:
    assert bound_reached(interval, 9.0) == reached


def test_intervals_that_hold_together_are_bonferronis() -> None:
    assert simultaneous_level(10) == pytest.approx(0.995) and simultaneous_level(0) == pytest.approx(0.95)

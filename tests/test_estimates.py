"""Means over seeds, their intervals and differences: against SciPy, by hand, and what intervals cover if simulated."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from fedfore.judgement.estimates import Difference, Estimate, estimate, half_width, paired, scale_of_fractions, welch

VALUES = (0.91, 0.87, 0.93, 0.90)
NORMAL_ERROR = 3.0
"""Standard errors that a simulated share may lie off."""


def test_an_estimate_is_scipys_interval_of_students_t() -> None:
    made = estimate(VALUES)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (made.mean - made.half_width, made.mean + made.half_width) == pytest.approx((low, high))
    assert made.n == 4


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    for scale in ("linear", "log", "logit"):
        assert math.isnan(estimate([0.9], scale).half_width) and estimate([0.9], scale).includes_zero
        assert estimate([0.9], scale).mean == pytest.approx(0.9)
    assert math.isnan(estimate([]).mean) and estimate([]).n == 0
    assert np.isnan(half_width([0.1, 0.1], [1, 0])).all()


@pytest.mark.parametrize(("mean", "half", "includes"), [(0.2, 0.1, False), (-0.2, 0.1, False), (0.1, 0.2, True)])
def test_an_interval_says_whether_it_includes_zero(mean: float, half: float, includes: bool) -> None:
    assert Estimate(mean, mean - half, mean + half, 3).includes_zero is includes


# Scales


def test_a_geometric_mean_has_the_interval_of_its_logarithm() -> None:
    made = estimate([0.01, 0.1, 1.0], "log")
    assert made.mean == pytest.approx(0.1)
    half = 4.302653 * math.log(10) / math.sqrt(3)  # deviation ln 10, t(0.975, 2) = 4.302653
    assert (made.low, made.high) == pytest.approx((0.1 * math.exp(-half), 0.1 * math.exp(half)), rel=1e-5)


@pytest.mark.parametrize("values", [(0.0, 0.1, 0.2), (-0.1, 0.1, 0.2)])
def test_what_is_not_positive_has_a_mean_and_no_interval_on_a_log_axis(values: tuple[float, ...]) -> None:
    made = estimate(values, "log")
    assert made.mean == pytest.approx(np.mean(values)) and math.isnan(made.low) and math.isnan(made.high)


def test_on_the_logit_scale_the_mean_is_arithmetic_and_its_interval_stays_below_1() -> None:
    values = (0.97, 0.99, 1.0)
    made = estimate(values, "logit")
    mean, error = np.mean(values), stats.sem(values)
    half = stats.t.ppf(0.975, 2) * error / (mean * (1 - mean))  # d logit / d mean = 1 / (mean (1 - mean))
    assert made.mean == pytest.approx(mean)
    assert (made.low, made.high) == pytest.approx(
        (special.expit(special.logit(mean) - half), special.expit(special.logit(mean) + half))
    )
    assert made.low < made.mean < made.high < 1 < estimate(values).high


def test_a_fraction_that_is_always_1_has_an_interval_without_length() -> None:
    assert estimate([1.0, 1.0, 1.0], "logit") == Estimate(1.0, 1.0, 1.0, 3)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.89, 0.9), "linear"),
        ((0.9, 0.91), "logit"),
        ((0.09, 0.1), "logit"),
        ((0.7, 0.75), "logit"),  # .725 ± 12.7 x .025 ends above 1
        ((0.7, 0.74), "linear"),
        ((0.3, 0.25), "logit"),
        ((0.95,), "logit"),
        ((0.5,), "linear"),
    ],
)
def test_fractions_near_a_limit_get_the_logit_scale(values: tuple[float, ...], scale: str) -> None:
    assert scale_of_fractions(values) == scale


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_of_accuracies_near_1_cover_what_they_say(n: int) -> None:
    """Beta distributed with mean 98.5% and deviation 1.2 points: Student's interval covers 91% and ends above 100%."""
    mean, deviation, tries = 0.985, 0.012, 2000
    total = mean * (1 - mean) / deviation**2 - 1
    draws = np.random.default_rng(7).beta(mean * total, (1 - mean) * total, size=(tries, n))
    made = [estimate(own, "logit") for own in draws]
    covered = np.mean([one.low <= mean <= one.high for one in made])
    assert abs(covered - 0.943) < NORMAL_ERROR * math.sqrt(0.95 * 0.05 / tries)
    assert max(one.high for one in made) <= 1


# Differences


def test_a_paired_difference_is_over_the_seeds_that_both_sides_know() -> None:
    first = pd.Series([0.9, 0.8, 0.75, math.nan], index=[0, 1, 2, 3])
    second = pd.Series([0.5, 0.6, 0.1, 0.2], index=[2, 1, 9, 3])
    found = paired(first, second)
    test = stats.ttest_rel([0.8, 0.75], [0.6, 0.5])
    interval = test.confidence_interval()
    assert found.n == 2 and sorted(found.values) == pytest.approx([0.2, 0.25])
    assert found.interval() == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p == pytest.approx(test.pvalue)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.998])
def test_a_paired_difference_is_scipys_test(level: float) -> None:
    first, second = np.random.default_rng(3).normal(size=(2, 7))
    found, test = paired(pd.Series(first), pd.Series(second)), stats.ttest_rel(first, second)
    assert found.p == pytest.approx(test.pvalue)
    interval = test.confidence_interval(level)
    assert found.interval(level) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx((first - second).mean()) and found.paired


def test_groups_that_share_nothing_get_scipys_welch_test() -> None:
    first, second = np.random.default_rng(4).normal(size=6), np.random.default_rng(5).normal(1.0, 3.0, size=9)
    found = welch(pd.Series([*first, math.nan]), pd.Series(second))
    test = stats.ttest_ind(first, second, equal_var=False)
    interval = test.confidence_interval()
    assert (found.n, found.paired, found.values) == (6, False, ())
    assert found.p == pytest.approx(test.pvalue) and found.freedom == pytest.approx(test.df)
    assert found.interval() == pytest.approx((interval.low, interval.high))


def test_on_a_log_scale_a_difference_is_of_logarithms_and_leaves_out_what_has_none() -> None:
    first, second = pd.Series([2.0, 4.0, 8.0, 0.0, -1.0]), pd.Series([1.0, 1.0, 1.0, 1.0, 1.0])
    found = paired(first, second, "log")
    assert found.values == pytest.approx(np.log([2, 4, 8])) and math.exp(found.mean) == pytest.approx(4)
    unpaired = welch(first, second, "log")
    assert math.exp(unpaired.mean) == pytest.approx(4) and unpaired.n == 3


@pytest.mark.parametrize("values", [(), (0.3,)])
def test_below_two_seeds_a_difference_has_neither_error_nor_p(values: tuple[float, ...]) -> None:
    side = pd.Series(values, dtype=float)
    for found in (paired(side, 2 * side), welch(side, 2 * side)):
        assert found.n == len(values) and math.isnan(found.error) and math.isnan(found.p)
        assert all(map(math.isnan, found.interval())) and not found.is_constant


def test_a_difference_that_is_the_same_at_every_seed_has_the_p_value_of_its_signs() -> None:
    first = pd.Series([0.1, 0.2, 0.3, 0.4, 0.7])
    found = paired(first + 0.1, first)  # 0.1 + 0.2 - 0.2 and 0.1 + 0.7 - 0.7 differ by rounding
    assert len(set(found.values)) > 1 and found.is_constant
    assert found.p == pytest.approx(2 / 2**5)  # two of the 32 ways to sign five equal differences
    assert paired(first, first).p == 1.0
    groups = welch(pd.Series([0.3] * 4), pd.Series([0.1] * 4))
    assert groups.is_constant and groups.p == pytest.approx(2 / 70)  # of the 70 ways to deal 8 values to two groups
    assert groups.interval() == pytest.approx((0.2, 0.2))


def test_the_p_value_of_a_constant_difference_is_that_of_exchanging_the_sides() -> None:
    test = stats.permutation_test(
        ([0.3] * 5, [0.1] * 5), lambda x, y: np.mean(x) - np.mean(y), permutation_type="samples"
    )
    assert Difference(0.2, 0.0, 4.0, 5, paired=True).p == pytest.approx(test.pvalue)

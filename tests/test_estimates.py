"""Means over seeds, their intervals and paired differences, against SciPy's own."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedfore.judgement.estimates import Estimate, estimate, half_width, paired

VALUES = (0.91, 0.87, 0.93, 0.90)


def test_an_estimate_is_scipys_interval_of_students_t() -> None:
    made = estimate(VALUES)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, loc=np.mean(VALUES), scale=stats.sem(VALUES))
    assert (made.mean - made.half_width, made.mean + made.half_width) == pytest.approx((low, high))
    assert made.n == 4


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert math.isnan(estimate([0.9]).half_width) and estimate([0.9]).includes_zero
    assert math.isnan(estimate([]).mean) and estimate([]).n == 0
    assert np.isnan(half_width([0.1, 0.1], [1, 0])).all()


def test_a_paired_difference_is_over_the_seeds_that_both_sides_know() -> None:
    first = pd.Series([0.9, 0.8, 0.75, math.nan], index=[0, 1, 2, 3])
    second = pd.Series([0.5, 0.6, 0.1, 0.2], index=[2, 1, 9, 3])
    found = paired(first, second)
    test = stats.ttest_rel([0.8, 0.75], [0.6, 0.5])
    interval = test.confidence_interval()
    assert found.n == 2
    assert found.interval() == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert found.p == pytest.approx(test.pvalue)


@pytest.mark.parametrize(("mean", "half", "includes"), [(0.2, 0.1, False), (-0.2, 0.1, False), (0.1, 0.2, True)])
def test_an_interval_says_whether_it_includes_zero(mean: float, half: float, includes: bool) -> None:
    assert Estimate(mean, mean - half, mean + half, 3).includes_zero is includes

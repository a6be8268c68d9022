"""Costs to a target accuracy, and the target that is asked for: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from fedfore.judgement.targets import first_reaching, highest_reached, shared_target

RISING = [0.1, 0.9, 0.2, 0.4, 0.6, 0.8]
"""Means of three in a row: 0.4, 0.5, 0.4, 0.6."""


@pytest.mark.parametrize(
    ("target", "place"),
    [(0.4, 2), (0.5, 3), (0.55, 5), (0.6, 5), (0.61, None)],
)
def test_a_target_is_reached_at_the_last_of_the_first_three_evaluations_whose_mean_is_as_high(
    target: float, place: int | None
) -> None:
    assert first_reaching(RISING, target) == place


def test_a_single_high_evaluation_reaches_nothing() -> None:
    assert first_reaching([0.1, 0.9, 0.1, 0.1], 0.5) is None
    assert highest_reached(RISING) == pytest.approx(0.6)


def test_fewer_than_three_evaluations_reach_nothing() -> None:
    assert first_reaching([0.9, 0.9], 0.5) is None
    assert math.isnan(highest_reached([0.9, 0.9]))


def test_the_target_is_what_at_least_half_of_the_series_reach_in_at_least_half_of_their_seeds() -> None:
    low, middle, high = [0.31, 0.33], [0.62, 0.71, 0.74], [0.88, 0.91, math.nan]
    assert shared_target([low, high]) == pytest.approx(0.85)  # one of two suffices: 0.88, the lower of its known seeds
    assert shared_target([low, middle, high]) == pytest.approx(0.70)  # two of three have to: 0.71
    assert shared_target([low, low, middle, high]) == pytest.approx(0.70)
    assert shared_target([low]) == pytest.approx(0.30)  # of two seeds one suffices: 0.33


def test_a_target_on_a_step_is_not_lost_to_rounding() -> None:
    assert shared_target([[0.1 + 0.2]]) == pytest.approx(0.3)
    assert first_reaching([0.7, 0.7, 0.7], 0.7) == 2


def test_there_is_no_target_at_chance_or_without_evaluations() -> None:
    assert shared_target([[0.14, 0.12]], chance=0.1) is None
    assert shared_target([[math.nan, math.nan]], chance=0.1) is None
    assert shared_target([]) is None

"""What the rules of judgement get wrong, by simulation: below what is promised, and what the page says."""

from __future__ import annotations

import math

import pytest

from fedfore.docs.error_rates import COVERED, EQUIVALENT, GROUPS, LEADER, SEEN, WORDS, Rate, name_of, stored

STANDARD_ERRORS = 4.0
"""How many a simulated share may lie off."""
FEW = 400


def off(share: float, tries: int) -> float:
    return STANDARD_ERRORS * math.sqrt(max(share * (1 - share), 1 / tries) / tries)


@pytest.mark.parametrize(
    ("rate", "most"),
    [
        *((WORDS[key], 0.05) for key in ((1, 5), (6, 10))),
        (EQUIVALENT[(1, 10)], 0.05),
        *((LEADER[(which, True, 26, 10)], 0.05) for which in ("next", "all")),
        *((LEADER[("one", True, m, 5)], 0.025) for m in (5, 26)),
    ],
)
def test_a_wrong_word_is_as_rare_as_promised(rate: Rate, most: float) -> None:
    assert rate.simulated(tries=FEW) <= most + off(most, FEW)


def test_without_the_correction_a_chosen_leader_is_told_from_a_named_candidate_far_too_often() -> None:
    assert LEADER[("one", False, 26, 10)].simulated(tries=FEW) > 0.05 + off(0.05, FEW)


def test_a_difference_that_is_there_is_seen() -> None:
    assert SEEN[(3, 1, 10)].simulated(tries=FEW) > 0.9


def test_intervals_near_1_cover_what_they_say() -> None:
    assert COVERED[3].simulated(tries=FEW) >= 0.95 - off(0.95, FEW)


def test_what_is_stored_keeps_what_is_promised() -> None:
    known = stored()
    assert set(known) == {name_of(group, key) for group, own in GROUPS.items() for key in own}
    for key, rate in WORDS.items():
        assert known[name_of("words", key)] <= 0.05 + off(0.05, rate.tries)
    for key, rate in EQUIVALENT.items():
        assert key[0] < 1 or known[name_of("equivalent", key)] <= 0.05 + off(0.05, rate.tries)
    for (which, corrected, *rest), rate in LEADER.items():
        most = {"one": 0.025, "some": 1.0}.get(which, 0.05)
        assert not corrected or known[name_of("leader", (which, corrected, *rest))] <= most + off(most, rate.tries)


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_what_is_stored_is_what_is_simulated(group: str) -> None:
    known = stored()
    for key, rate in GROUPS[group].items():
        tries = rate.tries // 10
        share = known[name_of(group, key)]
        assert abs(rate.simulated(seed=1, tries=tries) - share) <= off(share, tries), key

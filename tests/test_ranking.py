"""Rankings: shared seeds of complete points, failures against, what is withheld, who may be as good; average ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedfore.judgement.estimates import estimate
from fedfore.judgement.ranking import Ranking, error_of, ranking, standings
from fedfore.records.metrics import FIELDS
from fedfore.records.table import settings_table
from tests.synthetic import cells

SEEDS = (0, 1, 2, 3, 4)
NOISE = (0.0, 0.003, -0.002, 0.001, -0.004)


def table(means: Mapping[str, float], seeds: Mapping[str, Sequence[int]] = {}, **columns: Any) -> pd.DataFrame:
    """Return the evidence of made-up series by name: the same noise of seeds in all, and a little of their own."""
    rows = []
    for place, (name, mean) in enumerate(means.items()):
        planned = cells(("fedavg",), alphas=("iid",), seeds=seeds.get(name, SEEDS))
        own = settings_table(planned).assign(series=name)
        noise = [NOISE[seed % 5] + 0.0005 * math.sin(seed + place) for seed in own["seed"]]
        rows.append(own.assign(test_accuracy=mean + np.array(noise)))
    found = pd.concat(rows, ignore_index=True)
    found = found.reindex(columns=[*found, *(name for name in FIELDS if name not in found), "scalar_errors"])
    given = {"status": "ok", "chance_accuracy": 0.1, "control": False} | columns
    return found.assign(**{name: value(found) if callable(value) else value for name, value in given.items()})


def ranked(*args: Any, **given: Any) -> Ranking:
    return ranking(table(*args, **given), ["series"], "test_accuracy")


def names(found: Ranking, which: str = "places") -> list[str]:
    return [one.key[0] for one in getattr(found, which)]


def at(name: str, *seeds: int) -> Any:
    """Return what finds the rows of a series, or those of some of its seeds."""
    return lambda rows: (rows["series"] == name) & (rows["seed"].isin(seeds) if seeds else True)


def status(how: str, name: str, *seeds: int) -> Any:
    return lambda rows: pd.Series("ok", rows.index).mask(at(name, *seeds)(rows), how)


# One setting


def test_the_leader_is_told_from_others_by_paired_tests_at_a_corrected_error() -> None:
    cells = table({"a": 0.90, "b": 0.95, "c": 0.9499})
    found = ranking(cells, ["series"], "test_accuracy")
    assert names(found) == ["b", "c", "a"] and names(found, "contenders") == ["b", "c"]
    assert found.level == pytest.approx(0.975) and found.seeds == SEEDS
    values = {name: own["test_accuracy"].to_numpy() for name, own in cells.groupby("series")}
    for place, other in zip(found.places[1:], ("c", "a"), strict=True):
        assert place.behind is not None
        assert place.behind.p == pytest.approx(stats.ttest_rel(values["b"], values[other]).pvalue)
        assert place.contends is not (place.behind.p < 0.025)
    assert found.places[0].behind is None and found.places[0].mean == estimate(values["b"], "logit")


@pytest.mark.parametrize(("candidates", "error"), [(1, 0.05), (2, 0.05), (3, 0.025), (26, 0.002)])
def test_the_error_shrinks_with_the_candidates(candidates: int, error: float) -> None:
    assert error_of(candidates) == pytest.approx(error)


def test_equal_means_tie() -> None:
    found = ranked({"a": 0.9, "b": 0.9}, test_accuracy=0.9)
    assert names(found, "contenders") == ["a", "b"]
    assert found.places[1].behind is not None and found.places[1].behind.mean == 0


def test_below_five_seeds_nobody_is_told_from_the_leader() -> None:
    found = ranked({"a": 0.9, "b": 0.5}, dict.fromkeys("ab", SEEDS[:4]))
    assert names(found, "contenders") == ["a", "b"]


def test_a_metric_of_which_less_is_better_is_ranked_so() -> None:
    found = ranking(
        table({"a": 0.9, "b": 0.5}).assign(test_loss=lambda rows: rows["test_accuracy"]), ["series"], "test_loss"
    )
    assert names(found) == ["b", "a"] and names(found, "contenders") == ["b"]


def test_a_failed_seed_counts_as_chance() -> None:
    found = ranked({"a": 0.95, "b": 0.90}, status=status("diverged", "a", 2))
    assert names(found) == ["b", "a"] and [one.failures for one in found.places] == ["", "1 of 5 seeds diverged"]
    assert found.places[1].mean.mean == pytest.approx((0.95 * 4 + 0.1) / 5, abs=0.002)


def test_an_incomplete_point_is_not_ranked_and_said() -> None:
    found = ranked({"a": 0.95, "b": 0.90, "c": 0.8}, status=status("missing", "a", 2))
    assert names(found) == ["b", "c"] and found.seeds == SEEDS
    assert found.withheld == {("a",): "1 of 5 cells have no result"} and found.level == pytest.approx(0.95)


def test_an_uncertified_point_is_withheld_as_a_whole() -> None:
    errors = lambda rows: pd.Series(  # noqa: E731
        [
            pd.Series([0.5 if s == "a" and seed < 4 else 0.01])
            for s, seed in zip(rows["series"], rows["seed"], strict=True)
        ],
        rows.index,
    )
    found = ranked({"a": 0.95, "b": 0.90}, estimator="moment", scalar_errors=errors)
    assert names(found) == ["b"] and "not certified" in found.withheld[("a",)]


def test_controls_compete_with_nobody() -> None:
    found = ranked({"a": 0.99, "b": 0.90, "c": 0.85}, control=at("a"))
    assert names(found) == ["b", "c"] and names(found, "controls") == ["a"] and found.level == pytest.approx(0.95)
    assert found.controls[0].behind is None


def test_controls_do_not_say_over_which_seeds_others_are_compared() -> None:
    control = lambda rows: rows["series"].isin(["c", "d"])  # noqa: E731
    found = ranked({"a": 0.95, "c": 0.9, "d": 0.9}, {"a": range(10)}, control=control)
    assert found.seeds == tuple(range(10)) and set(found.withheld) == {("c",), ("d",)}


def test_candidates_are_compared_over_the_seeds_that_they_share() -> None:
    more = ranked({"a": 0.95, "b": 0.90, "c": 0.8}, {"b": range(10), "c": range(10)})
    assert names(more) == ["a", "b", "c"] and more.seeds == SEEDS
    fewer = ranked({"a": 0.95, "b": 0.90, "c": 0.8}, {"a": (0, 1)})
    assert names(fewer) == ["b", "c"]
    assert fewer.withheld == {("a",): "it was not run at the seeds of the others (0, 1, 2, 3, 4)"}


def test_other_partitions_are_compared_by_welchs_test() -> None:
    found = ranked({"a": 0.95, "b": 0.90}, partition_sha256=lambda rows: rows["series"])
    assert found.places[1].behind is not None and not found.places[1].behind.paired


def test_nothing_that_is_complete_ranks_nothing() -> None:
    found = ranked({"a": 0.95}, status="missing")
    assert (found.places, found.seeds, found.controls) == ((), (), ()) and list(found.withheld) == [("a",)]


# Several settings


def test_average_ranks_and_improvements_by_hand() -> None:
    """Ranks of b, a, c: 1 2 3, 1 2 3 and 2 1 3; of the last setting's 25 pairs of seeds b wins none against a."""
    settings = [{"b": 0.95, "a": 0.90, "c": 0.8}, {"a": 0.90, "b": 0.95, "c": 0.8}, {"c": 0.8, "a": 0.95, "b": 0.90}]
    found = standings([ranked(one) for one in settings])
    assert [one.key for one in found] == [("b",), ("a",), ("c",)]
    assert [one.rank.mean for one in found] == pytest.approx([4 / 3, 5 / 3, 3.0])
    assert found[0].improvement is None
    assert [one.improvement.mean for one in found[1:] if one.improvement] == pytest.approx([2 / 3, 1.0])
    assert all(one.rank.n == 3 for one in found)
    assert (found[2].rank.low, found[2].rank.high) == (3.0, 3.0), "whatever the seeds, c is the last"


def test_ties_share_ranks_and_are_half_an_improvement() -> None:
    found = standings([ranked({"a": 0.9, "b": 0.9}, test_accuracy=0.9)] * 2)
    assert [(one.rank.mean, one.improvement and one.improvement.mean) for one in found] == [(1.5, None), (1.5, 0.5)]


def test_seeds_are_drawn_within_their_setting() -> None:
    """Of two settings one is certain; in the other a wins at four seeds of five and b at the fifth, by more."""
    values = {"a": [0.6] * 4 + [0.1], "b": [0.5] * 5}
    uneven = table({"a": 0.0, "b": 0.0}).assign(test_accuracy=[*values["a"], *values["b"]])
    found = standings([ranked({"a": 0.9, "b": 0.5}), ranking(uneven, ["series"], "test_accuracy")])
    (first, other) = found
    assert first.key == ("a",) and other.improvement is not None
    assert other.improvement.mean == pytest.approx((1 + 4 / 5) / 2)
    assert (other.improvement.low, other.improvement.high) == pytest.approx((0.7, 1.0)), "0 to 3 of 5 times the fifth"


def test_only_candidates_of_every_setting_have_standings() -> None:
    found = standings([ranked({"a": 0.9, "b": 0.8, "c": 0.7}), ranked({"a": 0.9, "c": 0.8, "d": 0.95})])
    assert [(one.key, one.rank.mean) for one in found] == [(("a",), 1.0), (("c",), 2.0)]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        [ranked({"a": 0.9, "b": 0.8})],
        [ranked({"a": 0.9, "b": 0.8}), ranked({"a": 0.9})],
        [ranked({"a": 0.9, "b": 0.8}), ranked({"a": 0.9, "b": 0.8}, dict.fromkeys("ab", SEEDS[:4]))],
    ],
)
def test_there_are_no_standings_of_too_little(settings: list[Ranking]) -> None:
    assert standings(settings) == ()

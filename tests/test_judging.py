"""From made-up records to verdicts: pairs of seeds, failures as chance, what withholds a point, families, ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from fedfore.cell import Cell
from fedfore.errors import ConfigError
from fedfore.judgement.contrasts import Contrast, controls
from fedfore.judgement.judging import Judged, contrasts_of, controls_of, evidence, judged, judged_of, setting_text
from fedfore.judgement.sides import mean_of
from fedfore.records.metrics import FIELDS
from fedfore.records.packed import MATRIX
from fedfore.records.store import open_run
from fedfore.records.table import settings_table
from tests.synthetic import cells, write_run

OF, AGAINST = {"method": "fed_ntk_zo"}, {"method": "baffle"}
ASKED = Contrast("mask", OF, AGAINST)
SEEDS = (0, 1, 2, 3, 4)
ABOVE = {0: 0.021, 1: 0.018, 2: 0.025, 3: 0.02, 4: 0.016}
"""By how much the masked method is above the dense one: t = 13.2 with four degrees of freedom."""
CERTIFIED = (0.01, 0.01)
Value = Callable[[Cell], Any]


def is_masked(cell: Cell) -> bool:
    return cell.method == "fed_ntk_zo"


def dense(cell: Cell) -> float:
    return 0.9 + 0.01 * math.sin(cell.seed)


def table(*, seeds: Sequence[int] = SEEDS, alphas: Sequence[float | str] = ("iid",), **given: Value) -> pd.DataFrame:
    """Return the evidence of a made-up run of one sparsity whose masked method is above the dense one.

    `given` are columns as functions of the cell, `errors` those of its scalars at two milestones.
    """
    planned = cells(("fed_ntk_zo", "baffle"), sparsities=(0.8,), alphas=alphas, seeds=seeds)
    known: dict[str, Value] = {
        "status": lambda cell: "ok",
        "test_accuracy": lambda cell: dense(cell) + (ABOVE.get(cell.seed, 0.02) if is_masked(cell) else 0.0),
        "chance_accuracy": lambda cell: 0.1,
        "errors": lambda cell: CERTIFIED,
        **given,
    }
    found = settings_table(planned)
    found = found.reindex(columns=[*found, *(name for name in FIELDS if name not in found)])
    columns = {name: pd.Series([value(cell) for cell in planned], found.index) for name, value in known.items()}
    errors = [pd.Series(own, [0.0, 1.0], dtype=float) for own in columns.pop("errors")]
    return found.assign(**columns, scalar_errors=pd.Series(errors, found.index, dtype=object))


def only(found: Sequence[Judged]) -> Judged:
    (one,) = found
    return one


def judge(contrast: Contrast = ASKED, **given: Any) -> Judged:
    """Return the one comparison of a contrast among the made-up evidence."""
    return only(judged(table(**given), [contrast]))


# Pairs


def test_a_contrast_is_judged_by_seed() -> None:
    found = judge()
    assert (found.verdict, found.reason, found.remarks) == ("better", "", ())
    assert found.difference is not None and found.difference.values == pytest.approx(list(ABOVE.values()))
    assert found.difference.p == pytest.approx(stats.ttest_1samp(list(ABOVE.values()), 0.0).pvalue)
    assert found.interval() == pytest.approx(found.difference.interval(0.95)) and found.value == pytest.approx(0.02)


def test_a_number_is_an_opponent_too() -> None:
    published = Contrast("published", OF, 0.9)
    values = table().loc[lambda cells: cells["method"] == OF["method"], "test_accuracy"]
    found = judge(published)
    assert found.difference is not None and found.against.cells.empty
    assert found.difference.p == pytest.approx(stats.ttest_1samp(values, 0.9).pvalue)
    assert found.value == pytest.approx(values.mean() - 0.9)
    settings = [one.pairing.setting for one in judged(table(alphas=("iid", 0.1)), [published])]
    assert settings == [{"alpha": "iid"}, {"alpha": 0.1}]
    failed = table(status=lambda cell: "diverged" if is_masked(cell) else "ok", test_accuracy=lambda cell: None)
    lost = only(judged(failed, [published]))
    assert (lost.verdict, lost.reason) == ("not tested", "every seed failed (fed_ntk_zo)")


def test_each_setting_is_a_member_of_its_family() -> None:
    other = Contrast("again", OF, {**AGAINST, "alpha": "iid"}, family="apart")
    found = judged(table(alphas=("iid", 0.1)), [ASKED, other])
    settings = [(one.contrast.name, dict(one.pairing.setting)) for one in found[:2]]
    assert settings == [("mask", {"alpha": "iid"}), ("mask", {"alpha": 0.1})]
    assert sorted(1 - one.level for one in found[:2]) == pytest.approx([0.025, 0.05]), "two are a family"
    assert sorted(1 - one.level for one in found[2:]) == pytest.approx([0.025, 0.05]), "and so are two others"


def test_four_pairs_are_too_few() -> None:
    assert judge(seeds=SEEDS[:4]).verdict == "too few seeds"


def test_two_sides_without_a_shared_seed_are_not_tested() -> None:
    apart = table()
    apart = apart.assign(seed=apart["seed"].where(apart["method"] == "baffle", apart["seed"] + 10))
    found = only(judged(apart, [ASKED]))
    assert (found.verdict, found.difference) == ("not tested", None)
    assert found.reason == "the two sides share no seed that knows test_accuracy"
    assert math.isnan(found.value) and all(map(math.isnan, found.interval()))


def test_other_partitions_are_no_pairs() -> None:
    cells = table(partition_sha256=lambda cell: f"{cell.seed}{is_masked(cell) and cell.seed == 2}")
    found = only(judged(cells, [ASKED]))
    sides = [cells.loc[cells["method"] == name, "test_accuracy"] for name in ("fed_ntk_zo", "baffle")]
    assert found.difference is not None and not found.difference.paired
    assert found.difference.p == pytest.approx(stats.ttest_ind(*sides, equal_var=False).pvalue)
    assert found.remarks == ("Welch's test: the two sides do not train on the same partitions",)


def test_partitions_of_which_one_side_is_silent_count_as_the_same() -> None:
    found = judge(partition_sha256=lambda cell: "a" if is_masked(cell) else None)
    assert found.difference is not None and found.difference.paired and found.remarks == ()


def test_two_cells_of_one_seed_are_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r'Contrast "mask": cells of one side share seed 0; they differ in alpha\.'):
        judged(table(alphas=("iid", 0.1)), [ASKED], tuned=("alpha",))


def test_a_difference_without_spread_is_said_to_have_none() -> None:
    found = judge(test_accuracy=lambda cell: 0.9 + 0.01 * is_masked(cell))
    assert found.verdict == "inconclusive"
    assert found.remarks == ("the difference is the same at every seed, so that signs decide in place of a t test",)


# Failures and gaps


def fails(cell: Cell) -> str:
    return "diverged" if is_masked(cell) and cell.seed == 3 else "ok"


def test_a_failed_seed_counts_as_chance_and_is_said() -> None:
    found = judge(status=fails)
    expected = [*list(ABOVE.values())[:3], 0.1 - (0.9 + 0.01 * math.sin(3)), ABOVE[4]]
    assert found.difference is not None and found.difference.values == pytest.approx(expected)
    assert found.remarks == ("1 of 5 seeds diverged (fed_ntk_zo), which count as chance and widen the interval",)
    assert found.verdict == "inconclusive", "without the seed it would be better"


def test_a_failure_whose_chance_nobody_knows_withholds_the_comparison() -> None:
    found = judge(status=fails, chance_accuracy=lambda cell: None)
    assert found.verdict == "not tested"
    assert found.reason == "1 of 5 seeds diverged, and test_accuracy of a failure is not known (fed_ntk_zo)"


def test_a_mean_counts_a_failure_as_its_comparison_does() -> None:
    rows = table(status=fails, test_loss=lambda cell: float(cell.seed)).query("method == 'fed_ntk_zo'")
    values = [dense_at + above for dense_at, above in zip(map(dense, rows.itertuples()), ABOVE.values(), strict=True)]
    assert mean_of(rows, "test_accuracy").mean == pytest.approx((sum(values) - values[3] + 0.1) / 5)
    assert mean_of(rows, "test_accuracy").high < 1, "on the logit scale"
    assert (mean_of(rows, "test_loss").mean, mean_of(rows, "test_loss").n) == ((0 + 1 + 2 + 4) / 4, 4)
    assert mean_of(rows.assign(chance_accuracy=None), "test_accuracy").n == 0, "where chance is not known"
    assert mean_of(rows.query("seed != 3").assign(chance_accuracy=None), "test_accuracy").n == 4


def test_a_failure_improves_no_other_metric() -> None:
    found = judge(Contrast("loss", OF, AGAINST, "test_loss"), status=fails, test_loss=lambda cell: 0.5)
    assert found.verdict == "not tested"
    assert found.reason == "1 of 5 seeds diverged, and test_loss of a failure is not known (fed_ntk_zo)"


def test_a_method_that_always_fails_is_worse_and_two_are_not_compared() -> None:
    one = judge(status=lambda cell: "failed" if is_masked(cell) else "ok")
    assert (one.verdict, one.remarks) == ("worse", ("5 of 5 seeds failed (fed_ntk_zo), which count as chance",))
    both = judge(status=lambda cell: "timeout")
    assert (both.verdict, both.reason) == ("not tested", "every seed of both sides failed (fed_ntk_zo, baffle)")


@pytest.mark.parametrize("status", ["missing", "skipped"])
def test_a_cell_without_a_result_withholds_the_comparison(status: str) -> None:
    found = judge(status=lambda cell: status if fails(cell) != "ok" else "ok")
    assert (found.verdict, found.reason) == ("not tested", "1 of 5 cells have no result (fed_ntk_zo)")


# What withholds a point


@pytest.mark.parametrize(
    ("errors", "seeds", "found"),
    [
        ((0.01, 0.5), SEEDS, "its simulation is not certified"),
        ((0.5, 0.5), (0, 1, 2, 3), "its simulation is not certified"),  # 0.5^(4/5) x 0.01^(1/5) = 0.23
        ((0.01, None), (0,), "how far its simulation is from a device is not known"),
        ((None, None), (0,), "how far its simulation is from a device is not known"),
    ],
)
def test_an_uncertified_point_is_withheld_as_a_whole(
    errors: tuple[float | None, ...], seeds: tuple[int, ...], found: str
) -> None:
    one = judge(errors=lambda cell: errors if is_masked(cell) and cell.seed in seeds else CERTIFIED)
    assert (one.verdict, one.reason) == ("not tested", f"{found} (fed_ntk_zo)")
    assert one.difference is not None and one.difference.n == 5, "no seed is left out alone"


def test_one_bad_seed_of_a_certified_point_stays_in() -> None:
    found = judge(errors=lambda cell: (0.15, 0.15) if is_masked(cell) and cell.seed == 0 else CERTIFIED)
    assert found.verdict == "better" and found.difference is not None and found.difference.n == 5


@pytest.mark.parametrize(
    ("churn", "verdict", "reason"),
    [
        (
            lambda cell: 0.7 if is_masked(cell) else None,
            "not tested",
            "churn is 0.7 on average, above 0.5 (fed_ntk_zo)",
        ),
        (lambda cell: None if is_masked(cell) else 0.6, "not tested", "churn is 0.6 on average, above 0.5 (baffle)"),
        (lambda cell: 0.4 + 0.05 * cell.seed if is_masked(cell) else None, "better", ""),
        (lambda cell: None, "better", ""),
    ],
)
def test_a_contrast_says_up_to_which_mean_of_a_field_it_is_judged(churn: Value, verdict: str, reason: str) -> None:
    asked = Contrast("mask", OF, AGAINST, at_most={"churn": 0.5})
    (one,) = judged(table(churn=churn), [asked])
    assert (one.verdict, one.reason) == (verdict, reason)
    (against_a_number,) = judged(table(churn=churn), [Contrast("mask", OF, 0.5, at_most={"churn": 0.3})])
    assert (against_a_number.verdict == "not tested") == (churn(cells(("fed_ntk_zo",), seeds=(0,))[0]) is not None)


def test_metered_numbers_need_no_certificate() -> None:
    memory = Contrast("memory", OF, AGAINST, "peak_device_bytes")
    assert judge(memory, errors=lambda cell: (0.5, 0.5), peak_device_bytes=lambda cell: 9).verdict == "equivalent"


def test_records_of_before_there_was_a_headline_are_not_tested_on_it() -> None:
    found = judge(test_accuracy=lambda cell: math.nan, test_accuracy_last5=lambda cell: 0.9)
    assert (found.verdict, found.reason) == (
        "not tested",
        "its records were made before there was a headline (fed_ntk_zo)",
    )


def test_a_metric_that_some_records_lack_is_not_tested() -> None:
    end = Contrast("end", OF, AGAINST, "final_test_accuracy")
    found = judge(end, final_test_accuracy=lambda cell: None if cell.seed == 0 else 0.9)
    assert (found.verdict, found.reason) == ("not tested", "some records lack final_test_accuracy (fed_ntk_zo)")


@pytest.mark.parametrize(
    ("span", "changes", "reason"),
    [(0.4, 1, "masks move inside the headline's window (fed_ntk_zo)"), (0.1, 1, ""), (0.4, 0, ""), (0.4, None, "")],
)
def test_a_headline_over_moving_masks_is_withheld_where_its_window_is_wide(
    span: float, changes: int | None, reason: str
) -> None:
    found = judge(
        test_accuracy_span=lambda cell: span if is_masked(cell) else 0.1,
        headline_mask_changes=lambda cell: changes if is_masked(cell) else None,
    )
    assert (found.verdict, found.reason) == ("not tested" if reason else "better", reason)


def test_a_choice_at_an_edge_is_withheld() -> None:
    found = judge(choice_at_edge=lambda cell: not is_masked(cell))
    assert (found.verdict, found.reason) == ("not tested", "the tuned values lie at an edge of their grid (baffle)")


def test_what_is_withheld_stays_in_its_family() -> None:
    cells = table(alphas=("iid", 0.1), status=lambda cell: "missing" if is_masked(cell) and cell.alpha == 0.1 else "ok")
    found = [(one.verdict, round(one.level, 6)) for one in judged(cells, [ASKED])]
    assert found == [("better", 0.975), ("not tested", 0.95)]


def test_what_is_withheld_counts_as_nothing_found_however_large_it_is() -> None:
    """Beside a difference that is certain and withheld, one of p = .033 is held against .05 / 2, not against .05."""
    gains = (0.05, 0.01, 0.02, 0.03, 0.01)
    found = judged(
        table(
            alphas=("iid", 0.1),
            test_accuracy=lambda cell: (
                0.8 + is_masked(cell) * (gains[cell.seed] if cell.alpha == 0.1 else ABOVE[cell.seed])
            ),
            errors=lambda cell: (0.5, 0.5) if cell.alpha == "iid" else CERTIFIED,
        ),
        [ASKED],
    )
    assert [one.difference.p for one in found if one.difference] == pytest.approx([0.00019, 0.0327], rel=0.01)
    assert [one.verdict for one in found] == ["not tested", "inconclusive"]


# Metered numbers and ratios


def weighing(masked: Mapping[int, int]) -> dict[str, Any]:
    return {"seeds": tuple(masked), "peak_device_bytes": lambda cell: masked[cell.seed] if is_masked(cell) else 9_000}


def test_metered_numbers_are_exact_whatever_the_seeds() -> None:
    found = judge(Contrast("memory", OF, AGAINST, "peak_device_bytes", "ratio"), **weighing({0: 1_000}))
    assert (found.verdict, found.level) == ("better", 1.0)
    assert found.value == pytest.approx(1 / 9) and found.interval() == pytest.approx((1 / 9, 1 / 9))


def test_the_interval_of_what_is_metered_goes_from_the_lowest_seed_to_the_highest() -> None:
    found = judge(Contrast("memory", OF, AGAINST, "peak_device_bytes"), **weighing({0: 8_000, 1: 9_500}))
    assert (found.verdict, found.interval(), found.value) == ("inconclusive", (-1_000.0, 500.0), -250.0)


def test_metered_numbers_are_paired_whatever_the_partition() -> None:
    memory = Contrast("memory", OF, AGAINST, "peak_device_bytes")
    found = judge(memory, partition_sha256=is_masked, **weighing({0: 8_000, 1: 8_500}))
    assert (found.verdict, found.interval(), found.remarks) == ("better", (-1_000.0, -500.0), ())


def test_a_failed_cell_knows_no_costs_and_withholds_none() -> None:
    memory = Contrast("memory", OF, AGAINST, "peak_device_bytes")
    found = judge(memory, status=fails, **weighing(dict.fromkeys(SEEDS, 1_000)))
    assert found.verdict == "better" and found.difference is not None
    assert len(found.remarks) == 1 and found.remarks[0].endswith("), which are left out")
    assert found.difference.n == 4


def test_a_ratio_of_what_is_not_above_0_withholds_the_setting() -> None:
    loss = lambda cell: float(cell.seed > 0)  # noqa: E731
    found = judge(Contrast("loss", OF, AGAINST, "test_loss", "ratio"), seeds=range(10), test_loss=loss)
    assert found.verdict == "not tested"
    assert found.reason.startswith("test_loss is not above 0 at 1 of 10 seeds, which have no ratio (")


def test_a_ratio_is_of_geometric_means_and_its_margin_relative() -> None:
    losses = {seed: 0.5 * 1.02 ** (1 + seed % 2) for seed in range(10)}
    given = {"seeds": range(10), "test_loss": lambda cell: losses[cell.seed] if is_masked(cell) else 0.5}
    found, near, nearer = (
        judge(Contrast("loss", OF, AGAINST, "test_loss", "ratio", margin), **given) for margin in (None, 0.04, 0.03)
    )
    assert found.value == pytest.approx(1.02**1.5) and found.verdict == "worse", "of a loss more is worse"
    mean, half = 1.5 * math.log(1.02), stats.t.ppf(0.975, 9) * math.log(1.02) * math.sqrt(0.25 / 9)
    assert found.interval() == pytest.approx((math.exp(mean - half), math.exp(mean + half)))
    assert (near.verdict, nearer.verdict) == ("equivalent", "worse"), "the 90% interval ends at 3.6%"


# A run and its matrix


def test_a_run_gives_its_evidence_and_is_judged_by_its_own_matrix(tmp_path: Path) -> None:
    planned = cells(("fed_ntk_zo", "baffle"), sparsities=(0.8,), alphas=("iid",), seeds=SEEDS)
    above = {cell.id: dense(cell) + 0.1 + ABOVE[cell.seed] * is_masked(cell) for cell in planned}

    def known(cell: Cell) -> dict[str, Any]:
        return {"test_accuracy": above[cell.id], "chance_accuracy": None if fails(cell) != "ok" else 0.1}

    write_run(tmp_path / "run", planned, fails, change=known, scalar_errors=lambda cell: (0.02, 0.03))
    run = open_run(tmp_path / "run")
    found = evidence(run).set_index("cell_id")
    assert set(found["study"]) == {"run"} and set(found["chance_accuracy"]) == {0.1}, "chance is told by other records"
    errors = {cell.id: found.loc[cell.id, "scalar_errors"] for cell in planned}
    assert all(fails(cell) != "ok" or list(errors[cell.id]) == [0.02, 0.03] for cell in planned)
    assert contrasts_of(run) == controls_of(run) == judged_of(run) == []
    (tmp_path / "run" / MATRIX).write_text(
        '[[contrast]]\nname = "mask"\nof = { method = "fed_ntk_zo" }\nagainst = { method = "baffle" }\n'
        '[[control]]\nwhere = { method = "baffle" }\n'
    )
    assert contrasts_of(run) == [ASKED] and controls_of(run) == controls({"control": [{"where": AGAINST}]})
    assert only(judged_of(run)).remarks == (
        "1 of 5 seeds diverged (fed_ntk_zo), which count as chance and widen the interval",
    )
    (tmp_path / "run" / MATRIX).write_text("[[contrast]\n")
    with pytest.raises(ConfigError, match="is no valid TOML"):
        controls_of(run)


def test_settings_are_written_as_people_do() -> None:
    assert setting_text({"alpha": 0.1, "sparsity": 0.80, "K": 50}) == "alpha 0.1, sparsity 0.8, K 50"
    assert setting_text({}) == ""

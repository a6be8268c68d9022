"""The sentences that answer first: who leads and may be as good, what contrasts found, what it costs, how sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedfore.cell import Cell, cell_id
from fedfore.plots.findings import against_reference, answer, findings
from fedfore.plots.points import POINT
from fedfore.plots.study import Study, load_study
from fedfore.records.packed import MATRIX
from tests.synthetic import cells, write_run

SEEDS = (0, 1, 2, 3, 4)
NOISE = (0.0, 0.004, -0.003, 0.002, -0.003)
MINUS = "\N{MINUS SIGN}"
SKEWED = "\N{GREEK SMALL LETTER ALPHA} = 0.1"
Make = Callable[..., Study]


@pytest.fixture
def study_of(tmp_path: Path) -> Make:
    """Return what makes a study of these cells whose methods have these accuracies, and noise of their own."""

    def make(planned: Sequence[Cell], levels: Mapping[str, float], matrix: str = "", **given: Any) -> Study:
        def known(cell: Cell) -> dict[str, Any]:
            noise = NOISE[(cell.seed + sorted(levels).index(cell.method)) % 5]
            more = given.get("change", lambda cell: {})(cell)
            return {"test_accuracy": levels[cell.method] + noise, "chance_accuracy": 0.1} | more

        write_run(tmp_path, planned, given.get("outcome", lambda cell: "ok"), change=known)
        (tmp_path / MATRIX).write_text(matrix)
        return load_study(tmp_path)

    return make


def plan(*methods: str, **given: Any) -> list[Cell]:
    return cells(methods, **{"alphas": ("iid",), "sparsities": (0.8,), "seeds": SEEDS, **given})


def told(study: Study) -> list[str]:
    return [sentence for group in findings(study) for sentence in group.sentences]


# Who leads


def test_the_answer_begins_with_who_leads_by_how_much_and_who_may_be_as_good(study_of: Make) -> None:
    study = study_of(plan("fedavg", "fedtiny", "baffle"), {"fedavg": 0.95, "fedtiny": 0.949, "baffle": 0.8})
    first = answer(study)[0]
    assert first.startswith(
        "iid: FedAvg (dense) has the highest mean test accuracy, 95.0 % (94.6 to 95.4) over 5 seeds, "
    )
    assert (
        f"0.1 points more ({MINUS}" in first
        and "at 97.5%, as the first of 3) than the next, FedTiny at sparsity 0.8" in first
    )
    assert first.endswith("; FedTiny at sparsity 0.8 may be as good.")


def test_a_leader_that_is_told_from_all_is_better(study_of: Make) -> None:
    study = study_of(plan("fedavg", "fedtiny"), {"fedavg": 0.95, "fedtiny": 0.8})
    assert answer(study)[0].endswith("; it is better than each other one.")


def test_too_few_seeds_tell_nobody_apart(study_of: Make) -> None:
    first = answer(study_of(plan("fedavg", "fedtiny", seeds=(0, 1, 2)), {"fedavg": 0.95, "fedtiny": 0.5}))[0]
    assert "over 3 seeds" in first and first.endswith("; fewer than 5 seeds do not tell who is better.")


def test_one_seed_is_said_to_be_one(study_of: Make) -> None:
    first = answer(study_of(plan("fedavg", "fedtiny", seeds=(0,)), {"fedavg": 0.95, "fedtiny": 0.5}))[0]
    assert "95.0 % at one seed, 44.6 points more than the next" in first and "±" not in first


def test_equal_means_are_named_together(study_of: Make) -> None:
    same = {"change": lambda cell: {"test_accuracy": 0.9}}
    first = answer(study_of(plan("fedavg", "fedtiny", "baffle"), {"fedavg": 0, "fedtiny": 0, "baffle": 0}, **same))[0]
    assert first == (
        "iid: FedAvg (dense), FedTiny at sparsity 0.8 and BAFFLE have the same highest mean test accuracy, "
        "90.0 % (90.0 to 90.0) over 5 seeds."
    )


def test_failed_seeds_count_against_a_method_and_are_said(study_of: Make) -> None:
    """Without its two diverged seeds FedTiny would lead."""
    study = study_of(
        plan("fedavg", "fedtiny"), {"fedavg": 0.9, "fedtiny": 0.95},
        outcome=lambda cell: "diverged" if cell.method == "fedtiny" and cell.seed < 2 else "ok",
    )  # fmt: skip
    assert answer(study)[0].startswith("iid: FedAvg (dense) has the highest")
    assert "iid: failures count as chance: FedTiny at sparsity 0.8 (2 of 5 seeds diverged)." in told(study)


def test_incomplete_points_are_not_ranked_and_named(study_of: Make) -> None:
    study = study_of(
        plan("fedavg", "fedtiny"), {"fedavg": 0.9, "fedtiny": 0.95},
        outcome=lambda cell: "missing" if cell.method == "fedtiny" and cell.seed < 2 else "ok",
    )  # fmt: skip
    assert answer(study)[0].endswith("over 5 seeds; 1 of 2 points are not ranked.")
    assert "iid: not ranked, because 2 of 5 cells have no result: FedTiny at sparsity 0.8." in told(study)


def test_methods_without_shared_seeds_are_not_compared(study_of: Make) -> None:
    planned = plan("fedavg") + plan("baffle", seeds=(7, 8))
    study = study_of(planned, {"fedavg": 0.8, "baffle": 0.9})
    assert answer(study)[0].endswith("over 5 seeds; 1 of 2 points are not ranked.")
    assert "iid: not ranked, because it was not run at the seeds of the others (0, 1, 2, 3, 4): BAFFLE." in told(study)


def controlled(study_of: Make, matrix: str = "") -> Study:
    planned = [
        replace(cell, estimator=estimator)
        for cell in plan("baffle", "fedavg", seeds=(0, 1))
        for estimator in (("moment", "exact") if cell.estimator else (None,))
    ]
    planned = [replace(cell, id=cell_id(cell, {})) for cell in planned]
    change = lambda cell: {"test_accuracy": 0.99, "peak_device_bytes": 1} if cell.estimator == "exact" else {}  # noqa: E731
    return study_of(planned, {"baffle": 0.8, "fedavg": 0.9}, matrix, change=change)


def test_a_control_is_never_the_best_and_never_the_cheapest_and_is_shown_apart(study_of: Make) -> None:
    study = controlled(study_of)
    assert "exact" not in " ".join(answer(study)) and answer(study)[0].startswith("iid: FedAvg (dense) has")
    assert "iid, controls, which compete with nobody: BAFFLE, exact gradient 99.0 % (99.0 to 99.0)." in told(study)


def test_the_controls_of_a_matrix_compete_with_nobody(study_of: Make) -> None:
    study = controlled(study_of, '[[control]]\nwhere = { method = "fedavg" }\n')
    assert {one.label: one.control for one in study.series} == {
        "BAFFLE": False, "BAFFLE, exact gradient": True, "FedAvg (dense)": True,
    }  # fmt: skip
    assert answer(study)[0].startswith("iid: BAFFLE has the highest") and "FedAvg" not in " ".join(answer(study))


def test_models_that_differ_in_their_options_are_ranked_together(study_of: Make) -> None:
    planned = plan("fedmef", model="resnet14:norm=none") + plan("fedavg", model="resnet14:norm=batch")
    first, *_ = answer(study_of(planned, {"fedmef": 0.5, "fedavg": 0.4}))
    assert first.startswith("iid: FedMef at sparsity 0.8 (norm=none) has the highest")
    assert "than the next, FedAvg (dense) (norm=batch); it is better than each other one." in first


def test_of_many_settings_the_answer_gives_average_ranks(study_of: Make) -> None:
    levels = {"fedavg": 0.9, "fedtiny": 0.8, "baffle": 0.7}
    study = study_of(plan(*levels, alphas=("iid", 10.0, 1.0, 0.1)), levels)
    assert answer(study)[0] == (
        "Average rank over 4 settings: FedAvg (dense) 1 (1 to 1), FedTiny at sparsity 0.8 2 (2 to 2), BAFFLE 3 (3 to "
        "3); FedAvg (dense) is better than FedTiny at sparsity 0.8 with a probability of 1.00 (1.00 to 1.00)."
    )
    assert sum("has the highest mean test accuracy" in sentence for sentence in told(study)) == 4


# What contrasts found

MATRIX_TEXT = """
[[contrast]]
name = "mask against dense"
of = { method = "fed_ntk_zo" }
against = { method = "baffle" }
[[contrast]]
name = "memory"
of = { method = "baffle" }
against = { method = "fedavg" }
metric = "peak_device_bytes"
compare = "ratio"
"""


def test_contrasts_are_told_with_their_words_and_how_sure_they_are(study_of: Make) -> None:
    levels = {"fed_ntk_zo": 0.85, "baffle": 0.8, "fedavg": 0.9}
    found = answer(study_of(plan(*levels, alphas=("iid", 0.1)), levels, MATRIX_TEXT))
    (mask,) = (one for one in found if one.startswith("mask against dense"))
    assert mask.startswith("mask against dense: better, +5.0 points (+4.") and mask.endswith(f" at {SKEWED}, 5 seeds.")
    assert f"memory (Peak device bytes): better, 0.42 times at iid and 0.42 times at {SKEWED}." in found
    assert (
        "2 comparisons, and 2 metered, were fixed before the cells ran: the chance that any of a family is "
        "wrongly called better or worse is at most 5%."
    ) in found


def test_many_settings_of_a_contrast_are_told_by_their_words(study_of: Make) -> None:
    levels = {"fed_ntk_zo": 0.85, "baffle": 0.8, "fedavg": 0.9}
    planned = plan(*levels, alphas=("iid", 10.0, 1.0, 0.1))
    lost = lambda cell: "missing" if (cell.alpha, cell.method, cell.seed) == (0.1, "baffle", 0) else "ok"  # noqa: E731
    (mask,) = (one for one in answer(study_of(planned, levels, MATRIX_TEXT, outcome=lost)) if one.startswith("mask"))
    assert mask == (
        f"mask against dense: better, +5.0 points in 3 settings, 5 seeds; not tested at {SKEWED}: 1 of 5 cells have no "
        "result (baffle)."
    )


def test_without_contrasts_nothing_is_called_better(study_of: Make) -> None:
    found = answer(study_of(plan("fedavg", "fedtiny"), {"fedavg": 0.95, "fedtiny": 0.8}))
    assert (
        "The matrix fixed no contrast before the cells ran: beyond who leads, nothing is called better or worse."
        in found
    )


# What it costs


def costs(study_of: Make, bytes_: Mapping[str, int]) -> str:
    change = lambda cell: {"peak_device_bytes": bytes_[cell.method]}  # noqa: E731
    study = study_of(plan(*bytes_, seeds=(0,)), dict.fromkeys(bytes_, 0.5) | {"fedavg": 0.9}, change=change)
    (found,) = (one for one in answer(study) if one.startswith("Peak device bytes"))
    return found


def test_costs_go_from_the_least_to_the_most_and_name_all_that_tie(study_of: Make) -> None:
    assert costs(study_of, {"fedavg": 1030, "fedtiny": 1000, "fedmef": 1000, "baffle": 3000}) == (
        "Peak device bytes: 0.98 KiB at least (FedTiny at sparsity 0.8 and FedMef at sparsity 0.8), 1.01 KiB (FedAvg "
        "(dense), which leads; 3 % more), 2.93 KiB at most (BAFFLE; 3 times as much)."
    )


def test_who_leads_can_be_the_cheapest(study_of: Make) -> None:
    assert costs(study_of, {"fedavg": 1000, "baffle": 3000}) == (
        "Peak device bytes: 0.98 KiB at least (FedAvg (dense), which leads), 2.93 KiB at most (BAFFLE; 3 times as "
        "much)."
    )


def test_bytes_are_those_of_both_directions(study_of: Make) -> None:
    change = lambda cell: {"uplink_bytes": 1 if cell.method == "baffle" else 100, "downlink_bytes": 400}  # noqa: E731
    study = study_of(plan("baffle", "fedavg", seeds=(0,)), {"baffle": 0.5, "fedavg": 0.9}, change=change)
    least, most = "401 B at least (BAFFLE)", "500 B at most (FedAvg (dense), which leads; 1.25 times as much)"
    assert f"Total bytes, up and down: {least}, {most}." in answer(study)


# Beside the answer


def test_differences_to_the_reference_count_failures_as_chance(study_of: Make) -> None:
    study = study_of(
        plan("fedavg", "fedtiny"), {"fedavg": 0.9, "fedtiny": 0.9},
        outcome=lambda cell: "timeout" if cell.method == "fedtiny" and cell.seed == 0 else "ok",
        change=lambda cell: {"test_accuracy": 0.9},
    )  # fmt: skip
    values = ("digits", "lenet5", "iid", "FedTiny", 0.8)
    keys = (values, (*values[:3], "FedAvg (dense)", 0.0))
    found, reference = against_reference(study, [dict(zip(POINT, key, strict=True)) for key in keys])
    assert found is not None and found.mean == pytest.approx(-0.8 / 5) and found.n == 5
    assert reference is None


def test_nothing_that_ended_well_has_no_answer(study_of: Make) -> None:
    study = study_of(plan("fedavg"), {"fedavg": 0.9}, outcome=lambda cell: "failed")
    assert answer(study) == () and findings(study) == []

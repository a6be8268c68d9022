"""What a matrix asks of its records: which cells a contrast pairs, and one sentence for one that cannot be answered."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from fedfore.cell import Cell
from fedfore.errors import ConfigError
from fedfore.judgement.contrasts import (
    Contrast,
    Pairing,
    contrasts,
    controls,
    is_control,
    pairings,
    problem,
    unanswered,
)
from fedfore.records.table import settings_table
from tests.synthetic import cells

MASK = {"name": "mask", "of": {"method": "fed_ntk_zo"}, "against": {"method": "baffle"}}


def table(planned: Sequence[Cell]) -> pd.DataFrame:
    return settings_table(planned)


def plan(**given: Any) -> pd.DataFrame:
    return table(cells(("fed_ntk_zo", "baffle", "fedavg"), **{"alphas": ("iid", 0.1), "sparsities": (0.8,), **given}))


def sides(found: Sequence[Pairing], cells: pd.DataFrame) -> list[tuple[dict[str, Any], set[Any], set[Any]]]:
    """Return the setting of every pairing, with the alphas of both of its sides."""
    return [(dict(one.setting), *(set(cells.loc[index, "alpha"]) for index in (one.of, one.against))) for one in found]


# What a matrix may say


def test_a_contrast_has_the_headline_no_margin_and_one_family_unless_it_says_more() -> None:
    (found,) = contrasts({"contrast": [MASK]})
    assert found == Contrast("mask", {"method": "fed_ntk_zo"}, {"method": "baffle"}, "test_accuracy")
    assert (found.compare, found.margin, found.family) == ("difference", None, "study")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"metric": "test_acuracy"},
            'Contrast "mask": there is no metric "test_acuracy". Did you mean "test_accuracy"?',
        ),
        ({"metric": "label_skew_tv"}, "label_skew_tv describes, and no side of it is better"),
        ({"metric": "best_test_accuracy"}, "is chosen on test data, and no verdict rests on it; take test_accuracy."),
        ({"metric": "train_seconds"}, "train_seconds is a time of this machine, not of a device; take another"),
        ({"margin": 0}, "[[contrast]] 1: margin: input should be greater than 0."),
        ({"margin": math.inf}, "[[contrast]] 1: margin: input should be a finite number."),
        ({"margin": True}, "[[contrast]] 1: margin: input should be a valid number."),
        ({"against": math.nan}, "[[contrast]] 1: against."),
        ({"against": "0.95"}, "[[contrast]] 1: against."),
        ({"against": 0, "compare": "ratio"}, "there is no ratio to 0; give a number above 0."),
        ({"marign": 0.01}, "marign: unexpected keyword argument"),
        ({"at_most": {"chrun": 0.5}}, 'at_most: there is no metric "chrun". Did you mean "churn"?'),
        ({"compare": "quotient"}, "compare: input should be 'difference' or 'ratio'"),
        ({"name": ""}, "[[contrast]] 1: name:"),
    ],
)
def test_a_wrong_contrast_is_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        contrasts({"contrast": [{**MASK, **given}]})


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"contrast": [MASK, MASK]}, 'Two contrasts are called "mask"'),
        ({"contrast": MASK}, "[contrast] is a list of tables; write [[contrast]]."),
        ({"contrast": [{"name": "mask", "of": {}}]}, "[[contrast]] 1: against: field required."),
    ],
)
def test_wrong_tables_of_contrasts_are_a_sentence(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        contrasts(document)


# Which cells are compared


def test_a_setting_that_both_sides_leave_open_is_one_in_which_they_agree() -> None:
    planned = plan()
    (contrast,) = contrasts({"contrast": [MASK]})
    assert sides(pairings(planned, contrast), planned) == [
        ({"alpha": "iid"}, {"iid"}, {"iid"}),
        ({"alpha": 0.1}, {0.1}, {0.1}),
    ]
    assert [len(one.of) for one in pairings(planned, contrast)] == [3, 3], "seeds"


def test_what_the_opponent_does_not_have_makes_a_comparison_each() -> None:
    planned = plan(sparsities=(0.8, 0.9))
    found = pairings(planned, Contrast("mask", MASK["of"], MASK["against"]))
    assert [one.setting for one in found] == [
        {"sparsity": sparsity, "alpha": alpha} for alpha in ("iid", 0.1) for sparsity in (0.8, 0.9)
    ]
    assert found[0].against.equals(found[1].against), "the dense opponent has no sparsity"


def test_one_opponent_of_a_setting_stands_against_every_cell() -> None:
    planned = plan()
    found = pairings(planned, Contrast("mask", MASK["of"], {"method": "baffle", "alpha": "iid"}))
    assert sides(found, planned) == [({"alpha": "iid"}, {"iid"}, {"iid"}), ({"alpha": 0.1}, {0.1}, {"iid"})]


def test_a_comparison_that_only_the_opponent_could_tell_apart_needs_the_same_setting() -> None:
    planned = plan(num_perturbations=(50, 100))
    found = pairings(planned, Contrast("mask", {**MASK["of"], "num_perturbations": 50}, MASK["against"]))
    assert all(set(planned.loc[one.against, "params.num_perturbations"]) == {50} for one in found)
    with pytest.raises(ConfigError, match="against differs in num_perturbations, in which no cell of the other side"):
        pairings(planned, Contrast("mask", {"method": "fedavg", "alpha": "iid"}, {"method": "baffle", "alpha": "iid"}))


def test_a_setting_without_an_opponent_is_no_comparison() -> None:
    own = cells(("fed_ntk_zo", "baffle"), alphas=("iid", 1.0, 0.1), sparsities=(0.8,))
    planned = table([cell for cell in own if not (cell.method == "baffle" and cell.alpha == 1.0)])
    assert [one.setting for one in pairings(planned, Contrast("mask", MASK["of"], MASK["against"]))] == [
        {"alpha": "iid"},
        {"alpha": 0.1},
    ]


def test_tuned_keys_make_no_setting() -> None:
    own = [replace(cell, params={**cell.params, "lr": 0.1 + cell.seed}) for cell in cells(("fed_ntk_zo", "baffle"))]
    planned = table([cell for cell in own if cell.alpha == "iid" and cell.sparsity in (0.0, 0.8)])
    contrast = Contrast("mask", {**MASK["of"], "sparsity": 0.8}, MASK["against"])
    assert [len(one.of) for one in pairings(planned, contrast)] == [1, 1, 1]
    (found,) = pairings(planned, contrast, tuned=("params.lr",))
    assert (found.setting, len(found.of), len(found.against)) == ({}, 3, 3)


def test_trials_of_tuning_are_compared_with_nothing() -> None:
    planned = plan()
    trials = planned.assign(stage="tune1", seed=planned["seed"] + 100)
    both = pd.concat([planned, trials], ignore_index=True)
    (first, _) = pairings(both, Contrast("mask", MASK["of"], MASK["against"]))
    assert set(both.loc[first.of.union(first.against), "stage"]) == {"report"}


@pytest.mark.parametrize(
    ("of", "against", "sentence"),
    [
        ({"method": "fed_ntk"}, {"method": "baffle"}, "no cell fits `of` (method = 'fed_ntk')"),
        ({"method": "baffle"}, {"metod": "fedavg"}, 'against: nothing is called "metod". Did you mean "method"?'),
        ({"method": "baffle"}, {}, "is on both sides; narrow one."),
        ({"alpha": "iid"}, {"method": "baffle"}, "is on both sides; narrow one."),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(of: dict[str, Any], against: dict[str, Any], sentence: str) -> None:
    contrast = Contrast("mask", of, against)
    with pytest.raises(ConfigError, match=f'Contrast "mask".*{re.escape(sentence)}'):
        pairings(plan(), contrast)
    assert sentence in (problem(plan(), contrast) or "")


def test_a_matrix_says_which_of_its_questions_its_cells_do_not_answer() -> None:
    document = {"contrast": [MASK, {**MASK, "name": "two", "against": {"method": "fedtiny"}}]}
    document["control"] = [{"where": {"method": "fedavg"}}, {"where": {"alpha": 7.0}}]
    first, second = unanswered(document, plan())
    assert (
        'Contrast "two": no cell fits `against`' in first
        and "[[control]] where = {'alpha': 7.0} fits no cell" in second
    )


# Controls


def test_controls_are_those_of_the_matrix_and_the_exact_gradient() -> None:
    planned = plan(seeds=(0,), alphas=("iid",)).assign(estimator=["directional", "exact", None])
    asked = controls({"control": [{"where": {"method": "fedavg"}}]})
    assert list(is_control(planned, asked)) == [False, True, True]
    assert list(is_control(planned, [])) == [False, True, False]
    with pytest.raises(ConfigError, match=re.escape("[[control]] 1: wher: unexpected keyword argument")):
        controls({"control": [{"wher": {}}]})
    with pytest.raises(ConfigError, match="an empty `where` fits every cell"):
        controls({"control": [{"where": {}}]})

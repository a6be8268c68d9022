"""Tuning: what is tried, in which order, what is chosen, and what follows where trials fail, tie or lie at an edge."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fedfore.cell import Cell
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError
from fedfore.execution.overrides import apply_override
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.judgement.choices import extended, next_value
from fedfore.records.choices import Choice, tuning_from_json, tuning_to_json

METHODS = discover()
RATES = [0.01, 0.03, 0.1, 0.3]
MATRIX: dict[str, Any] = {
    "grid": {
        "method": ["fedavg", "baffle"],
        "dataset": ["digits"],
        "model": ["lenet5"],
        "sparsity": [0.0],
        "alpha": ["iid", 0.5],
        "seed": [0, 1],
    },
    "train": {"rounds": 10, "clients": 4, "validation_fraction": 0.1, "eval_every": 9},
    "tune": {"grid": {"lr": RATES}, "seed": [100, 101], "horizon": 0.3, "keep": 2, "at": {"alpha": "iid"}},
}
Accuracy = Callable[[Cell], float | str]
"""What a trial comes to: an accuracy, or how it failed."""


def matrix(**changes: Any) -> dict[str, Any]:
    """Return the matrix with other tables, whose entries join those of the same table; None leaves a table out."""
    changed = copy.deepcopy(MATRIX)
    for table, entries in changes.items():
        if isinstance(entries, dict) and table in changed:
            changed[table].update(entries)
        elif entries is None:
            del changed[table]
        else:
            changed[table] = entries
    return changed


def outcome(result: float | str) -> dict[str, Any]:
    ok = isinstance(result, float)
    return {
        "status": "ok" if ok else result, "validation_accuracy": result if ok else None, "chance_accuracy": 0.1,
    }  # fmt: skip


def stages(document: Mapping[str, Any], accuracy: Accuracy) -> list[StagedPlan]:
    """Return the plans of a matrix as its trials end, one after another."""
    ended: dict[str, dict[str, Any]] = {}
    plans = [staged_plan(document, METHODS, ended)]
    while True:
        trials = [item.cell for item in plans[-1].cells if item.cell.stage != "report" and item.cell.id not in ended]
        if not trials:
            return plans
        ended |= {cell.id: outcome(accuracy(cell)) for cell in trials}
        plans.append(staged_plan(document, METHODS, ended))


def chosen(plan: StagedPlan) -> dict[str, Choice]:
    """Return what a plan chose, by the name of the series."""
    assert plan.tuning is not None and plan.tuning.choices is not None
    return {choice.name: choice for choice in plan.tuning.choices}


def choices(document: Mapping[str, Any], accuracy: Accuracy) -> dict[str, Choice]:
    """Return what is chosen in the end, by the name of the series."""
    return chosen(stages(document, accuracy)[-1])


def best_at(lr: float) -> Accuracy:
    """Return accuracies with their highest at a rate."""
    return lambda cell: 0.9 - 0.1 * abs(RATES_ALL.index(cell.params["lr"]) - RATES_ALL.index(lr))


RATES_ALL = [0.001, 0.003, *RATES, 1.0, 3.0, 10.0]


def test_every_stage_follows_from_the_trials_of_the_one_before() -> None:
    first, second, last = stages(matrix(), best_at(0.03))
    cells = [item.cell for item in first.cells]
    assert {cell.stage for cell in cells} == {"tune1"} and len(cells) == 2 * 4 * 2
    assert {cell.seed for cell in cells} == {100, 101} and {cell.alpha for cell in cells} == {"iid"}
    assert {cell.train.rounds for cell in cells} == {3} and {cell.train.eval_every for cell in cells} == {None}
    again = [item.cell for item in second.cells[len(cells) :]]
    assert {cell.stage for cell in again} == {"tune2"} and {cell.train.rounds for cell in again} == {10}
    assert sorted(cell.params["lr"] for cell in again) == sorted([0.01, 0.03] * 4)
    reported = [item.cell for item in last.cells[len(second.cells) :]]
    assert [(cell.method, cell.alpha, cell.seed, cell.params["lr"]) for cell in reported] == [
        (method, alpha, seed, 0.03) for method in ("fedavg", "baffle") for alpha in ("iid", 0.5) for seed in (0, 1)
    ]
    assert {cell.stage for cell in reported} == {"report"} and {cell.train.eval_every for cell in reported} == {9}
    assert first.expected == last.expected == {"tune1": 16, "tune2": 8, "report": 8}
    assert first.tuning is not None and first.tuning.choices is None
    assert last.tuning is not None and tuning_from_json(tuning_to_json(last.tuning)) == last.tuning


def test_a_choice_is_of_the_second_stage_and_keeps_every_trial() -> None:
    def accuracy(cell: Cell) -> float:
        late = {0.03: 0.5, 0.1: 0.6}
        return (
            late[cell.params["lr"]]
            if cell.stage == "tune2"
            else {0.01: 0.1, 0.03: 0.8, 0.1: 0.7}.get(cell.params["lr"], 0.2)
        )

    choice = choices(matrix(), accuracy)["fedavg"]
    assert choice.values == {"lr": 0.1} and not choice.at_edge and choice.seeds == (100, 101)
    assert [(one.stage, one.values["lr"], one.mean) for one in choice.trials] == [
        ("tune1", 0.01, 0.1), ("tune1", 0.03, 0.8), ("tune1", 0.1, 0.7), ("tune1", 0.3, 0.2),
        ("tune2", 0.03, 0.5), ("tune2", 0.1, 0.6),
    ]  # fmt: skip


def test_one_choice_is_for_all_seeds_by_the_mean_over_the_tuning_seeds() -> None:
    by_seed = {(100, 0.03): 0.9, (101, 0.03): 0.1, (100, 0.1): 0.6, (101, 0.1): 0.6}
    assert choices(matrix(), lambda cell: by_seed.get((cell.seed, cell.params["lr"]), 0.2))["fedavg"].values == {
        "lr": 0.1
    }


def test_a_horizon_of_the_whole_budget_needs_no_second_stage() -> None:
    plans = stages(matrix(tune={"horizon": 1.0}), best_at(0.1))
    assert len(plans) == 2 and {item.cell.stage for item in plans[-1].cells} == {"tune1", "report"}
    assert plans[0].expected["tune2"] == 0
    assert {item.cell.params["lr"] for item in plans[-1].cells if item.cell.stage == "report"} == {0.1}


def test_ties_go_to_the_smaller_rate_and_then_to_the_smaller_other_values() -> None:
    grid = {"init_scale": [2.0, 1.0, 0.5], "lr": RATES}
    level = {(0.03, 1.0): 0.8, (0.03, 2.0): 0.8, (0.1, 0.5): 0.8}
    accuracy = lambda cell: level.get((cell.params["lr"], cell.params.get("init_scale")), 0.3)  # noqa: E731
    assert choices(matrix(grid={"method": ["baffle"]}, tune={"grid": grid}), accuracy)["baffle"].values == {
        "lr": 0.03,
        "init_scale": 1.0,
    }


@pytest.mark.parametrize("ending", ["diverged", "failed", "timeout", "out_of_memory"])
def test_a_failed_trial_counts_as_chance(ending: str) -> None:
    def accuracy(cell: Cell) -> float | str:
        return (
            ending
            if cell.params["lr"] == 0.1 and cell.seed == 100
            else {0.1: 0.9, 0.03: 0.51}.get(cell.params["lr"], 0.3)
        )

    choice = choices(matrix(), accuracy)["fedavg"]
    assert choice.values == {"lr": 0.03}, "0.51 is above the mean of 0.9 and chance"
    (failed,) = [one for one in choice.trials if one.stage == "tune2" and one.failed]
    assert failed.accuracies == (0.1, 0.9) and failed.mean == 0.5 and failed.failed == 1


def test_where_no_trial_ends_the_cells_are_skipped_and_say_why() -> None:
    plans = stages(matrix(), lambda cell: "diverged" if cell.method == "baffle" else best_at(0.03)(cell))
    assert {item.cell.method for item in plans[-1].cells if item.cell.stage == "tune2"} == {"fedavg"}
    reported = [item for item in plans[-1].cells if item.cell.stage == "report"]
    assert {(item.cell.method, item.skip) for item in reported} == {
        ("fedavg", None),
        ("baffle", "none of its 8 trials of tuning ended ok"),
    }


def test_a_method_without_a_tuned_key_is_tried_over_those_that_it_has() -> None:
    document = matrix(tune={"grid": {"init_scale": [0.5, 1.0]}})
    plans = stages(document, lambda cell: 0.5 + 0.1 * (cell.params["init_scale"] == 1.0))
    assert {item.cell.method for item in plans[0].cells} == {"baffle"} and plans[0].untuned == ("fedavg",)
    choice = chosen(plans[-1])["fedavg"]
    assert choice.values == {} and choice.trials == () and not choice.at_edge
    assert sum(item.cell.method == "fedavg" for item in plans[-1].cells) == 4
    both = stages(matrix(tune={"grid": {"lr": RATES, "init_scale": [0.5, 1.0]}}), best_at(0.03))
    tried = [item.cell.method for item in both[0].cells]
    assert tried.count("fedavg") == 4 * 2 and tried.count("baffle") == 8 * 2


def test_a_table_of_a_method_takes_the_place_of_the_whole_grid() -> None:
    document = matrix(tune={"grid": {"lr": RATES, "baffle": {"init_scale": [0.5, 1.0]}, "fedavg": {}}})
    first = stages(document, lambda cell: 0.5)[0]
    assert {(item.cell.method, item.cell.params["init_scale"]) for item in first.cells} == {
        ("baffle", 0.5), ("baffle", 1.0),
    }  # fmt: skip
    assert first.untuned == ("fedavg",)


@pytest.mark.parametrize(
    ("values", "high", "low"),
    [
        ((0.01, 0.03, 0.1), 0.3, 0.003),
        ((0.001, 0.003, 0.01, 0.03), 0.1, 0.0003),
        ((0.5, 1.0, 2.0), 4.0, 0.25),
        ((0.41, 0.7, 1.0, 1.4, 2.0), 2.8, 0.29),
        ((0.1, 0.2), 0.4, 0.05),
        ((10, 100), 1000, 1),
    ],
)
def test_a_grid_goes_on_by_its_own_ratio(values: tuple[float, ...], high: float, low: float) -> None:
    assert (next_value(values, "high"), next_value(values, "low")) == (high, low)
    assert extended(values, "high") == (*values, high) and extended(values, "low") == (low, *values)


def test_whole_numbers_go_on_with_whole_numbers_as_far_as_there_are_any() -> None:
    assert extended((1, 2, 4), "low") == (1, 2, 4) and extended((1, 2, 4), "high") == (1, 2, 4, 8)


def test_a_best_point_at_an_edge_adds_the_next_value_for_every_series_at_most_twice() -> None:
    def peak(fedavg: float) -> Accuracy:
        return lambda cell: best_at(fedavg if cell.method == "fedavg" else 0.1)(cell)

    once = stages(matrix(), lambda cell: peak(1.0)(cell) if cell.params["lr"] < 1.0 else 0.0)
    assert [plan.expected["tune1"] for plan in once] == [16, 20, 20, 20]
    assert {(item.cell.method, item.cell.params["lr"]) for item in once[1].cells} == {
        (method, lr) for method in ("fedavg", "baffle") for lr in (*RATES, 1.0)
    }
    twice, still = choices(matrix(), peak(1.0)), choices(matrix(), peak(10.0))
    assert twice["fedavg"].values == {"lr": 1.0} and not twice["fedavg"].at_edge
    assert still["fedavg"].values == {"lr": 3.0} and still["fedavg"].at_edge
    assert twice["baffle"].grid == still["baffle"].grid == {"lr": (*RATES, 1.0, 3.0)}
    assert twice["baffle"].values == {"lr": 0.1} and not still["baffle"].at_edge


def test_an_edge_of_the_second_stage_adds_values_too_and_the_best_of_them_come_again_for_every_series() -> None:
    def accuracy(cell: Cell) -> float:
        if cell.stage == "tune1":
            return {0.1: 0.8, 0.3: 0.7}.get(cell.params["lr"], 0.1)
        return best_at(1.0 if cell.method == "fedavg" else 0.1)(cell)

    plans = stages(matrix(), accuracy)
    assert [plan.expected["tune1"] for plan in plans] == [16, 16, 20, 20, 24, 24, 24]
    assert [plan.expected["tune2"] for plan in plans] == [8, 8, 8, 12, 12, 16, 16]
    late = [item.cell for item in plans[-1].cells if item.cell.stage == "tune2"]
    again = Counter((cell.method, cell.params["lr"]) for cell in late)
    assert {lr for method, lr in again if method == "fedavg"} == {0.1, 0.3, 1.0, 3.0}
    assert {lr for method, lr in again if method == "baffle"} == {0.1, 0.3, 1.0, 3.0} and set(again.values()) == {2}
    last = chosen(plans[-1])
    assert last["fedavg"].values == {"lr": 1.0} and not last["fedavg"].at_edge
    assert last["baffle"].values == {"lr": 0.1} and last["baffle"].points == 6 and len(last["baffle"].finalists) == 4


def test_a_value_that_a_method_cannot_have_is_added_for_none() -> None:
    plans = stages(
        matrix(grid={"method": ["baffle"]}, tune={"grid": {"ema_decay": [0.3, 0.9]}}),
        lambda cell: cell.params["ema_decay"],
    )
    assert [plan.expected["tune1"] for plan in plans] == [4, 4, 4]
    assert plans[-1].tuning is not None and plans[-1].tuning.choices is not None
    assert all(choice.at_edge and choice.values == {"ema_decay": 0.9} for choice in plans[-1].tuning.choices)


def test_a_choice_holds_for_the_values_of_axes_that_tuning_fixes_and_no_others() -> None:
    grid = {"method": ["baffle"], "params.baffle.num_perturbations": [2, 4], "model": ["lenet5", "lenet5:width=0.5"]}
    tune = {"at": {"alpha": 0.5, "train": {"clients": 2}, "model": "lenet5"}}
    first = stages(matrix(grid=grid, tune=tune), best_at(0.03))[0]
    assert {(item.cell.alpha, item.cell.train.clients, item.cell.model) for item in first.cells} == {(0.5, 2, "lenet5")}
    accuracy: Accuracy = lambda cell: best_at(0.03 if cell.params["num_perturbations"] == 2 else 0.1)(cell)  # noqa: E731
    last = stages(matrix(grid=grid, tune=tune), accuracy)[-1]
    reported = [item.cell for item in last.cells if item.cell.stage == "report"]
    assert {(cell.params["num_perturbations"], cell.params["lr"]) for cell in reported} == {(2, 0.03), (4, 0.1)}
    assert {(cell.model, cell.alpha, cell.train.clients) for cell in reported} == {
        (model, alpha, 4) for model in grid["model"] for alpha in ("iid", 0.5)
    }
    open_alpha = matrix(tune={"at": {}})
    assert set(choices(open_alpha, best_at(0.03))) == {
        "fedavg, alpha iid", "fedavg, alpha 0.5", "baffle, alpha iid", "baffle, alpha 0.5",
    }  # fmt: skip


CONTRAST = {"name": "one", "of": {"method": "baffle"}, "against": {"method": "fedavg"}}


def test_what_a_family_of_contrasts_compares_is_tried_equally_often() -> None:
    own = {"lr": RATES, "baffle": {"lr": RATES, "init_scale": [0.5, 1.0]}}
    unequal = matrix(tune={"grid": own}, contrast=[CONTRAST])
    with pytest.raises(ConfigError, match=r'Family "study" .* baffle tries 8 points and fedavg 4; give both as many'):
        staged_plan(unequal, METHODS, {})
    elsewhere = {**CONTRAST, "against": {"method": "baffle_erk"}, "family": "another"}
    grid = {"method": ["fedavg", "baffle", "baffle_erk"]}
    staged_plan(
        matrix(grid=grid, tune={"grid": {**own, "baffle_erk": own["baffle"]}}, contrast=[elsewhere]), METHODS, {}
    )
    turned = {
        "fedavg": {"lr": [0.1, 0.2], "momentum": [0.1, 0.5, 0.9]},
        "baffle": {"lr": [0.1, 0.2, 0.3], "init_scale": [1, 2]},
    }
    with pytest.raises(
        ConfigError, match="not tuned equally once a value is added at an edge: baffle and fedavg try as"
    ):
        staged_plan(matrix(tune={"grid": turned}, contrast=[CONTRAST]), METHODS, {})
    lacking = {"lr": RATES, "init_scale": [0.5, 1.0]}
    staged_plan(matrix(tune={"grid": lacking}, contrast=[CONTRAST]), METHODS, {})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tune": {"seed": [1, 100]}}, "tune.seed holds 1, which [grid] reports; tune on other seeds"),
        ({"tune": {"seed": [100, 100]}}, "tune.seed holds 100 twice"),
        ({"train": {"validation_fraction": 0.0}}, "there are none: give train.validation_fraction, such as 0.1"),
        ({"train": {"setup_only": True, "rounds": None, "eval_every": None}}, "[tune] needs training"),
        (
            {"params": {"lr": 0.1}},
            "[params] sets lr of fedavg, which [tune] chooses; leave one of them out (`--set tune=`",
        ),
        ({"params": {"baffle": {"lr": 0.1}}}, "[params] sets lr of baffle"),
        ({"grid": {"params.baffle.lr": [0.1]}}, "an axis of [grid] sets lr of baffle"),
        ({"grid": {"params.lr": [0.1]}}, "an axis of [grid] sets lr of fedavg"),
        ({"tune": {"grid": {}}}, "tune.grid is empty; give a list of values for each key"),
        ({"tune": {"grid": {"candidates": [5]}}}, 'tune.grid: no method of the grid has a key "candidates"'),
        ({"tune": {"at": {"alpha": 0.7}}}, "tune.at fixes alpha at 0.7, which no cell has that is reported"),
        ({"tune": {"at": {"train": {"rounds": 5}}}}, "tune.at fixes train.rounds, which is the budget; tune.horizon"),
        ({"tune": {"grid": {"rate": [1.0]}}}, 'tune.grid: there is no key "rate" to tune'),
        ({"tune": {"grid": {"fedavg": {"sigma": [1.0]}}}}, 'tune.grid.fedavg: there is no key "sigma" to tune'),
        ({"tune": {"grid": {"fedavgg": {}}}}, 'There is no method "fedavgg". Did you mean "fedavg"?'),
        ({"tune": {"grid": {"lr": 0.1}}}, "tune.grid.lr = 0.1: give a list of the values to try"),
        ({"tune": {"grid": {"lr": [0.1, 0.1]}}}, "tune.grid.lr holds 0.1 twice"),
        ({"tune": {"grid": {"lr": [0.1, -0.1]}}}, "[tune]: params.fedavg.lr = -0.1: input should be greater than 0"),
        ({"tune": {"horizon": 0.0}}, "tune.horizon = 0.0: input should be greater than 0"),
        ({"tune": {"keep": 0}}, "tune.keep = 0: input should be greater than or equal to 1"),
        ({"tune": {"keeps": 3}}, '[tune] has no key "keeps". Did you mean "keep"?'),
        ({"tune": {"at": {"alph": "iid"}}}, 'tune.at has no axis "alph". Did you mean "alpha"?'),
        ({"tune": {"at": {"sparsity": 2}}}, "[tune]: grid.sparsity holds 2; a sparsity is the fraction"),
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(changes: dict[str, Any], said: str) -> None:
    document = matrix(**changes)
    document["train"] = {key: value for key, value in document["train"].items() if value is not None}
    with pytest.raises(ConfigError) as error:
        staged_plan(document, METHODS, {})
    assert said in str(error.value)


def test_tuning_is_changed_and_left_out_by_the_command() -> None:
    document = matrix(params={"momentum": 0.9})
    for override in ("tune.seed=[200]", "tune.grid.lr=[0.1, 1.0]", "tune.keep=1", "tune.at.alpha=0.5", "tune.horizon="):
        apply_override(document, override, METHODS)
    assert document["tune"] == {"grid": {"lr": [0.1, 1.0]}, "seed": [200], "keep": 1, "at": {"alpha": 0.5}}
    apply_override(document, "tune=", METHODS)
    assert staged_plan(document, METHODS, {}).tuning is None and "tune" not in document
    with pytest.raises(ConfigError, match='the matrix does not set "tune"'):
        apply_override(document, "tune=", METHODS)
    with pytest.raises(ConfigError, match=r'\[tune\] has no key "seeds"'):
        apply_override(document, "tune.seeds=", METHODS)
    apply_override(document, "tune.seed=[1]", METHODS)
    with pytest.raises(ConfigError, match=r"\[tune\] needs grid: a list of values for each key that is tuned"):
        staged_plan(document, METHODS, {})

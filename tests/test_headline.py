"""The headline accuracy: what it is a mean of, when it is evaluated, and which one a study shows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.errors import StoreError
from fedfore.execution.job import Job
from fedfore.execution.reproduction import over_the_same_evaluations
from fedfore.execution.worker import conclude
from fedfore.judgement.repetition import compared
from fedfore.plots.charts.accuracy_rows import accuracy_rows
from fedfore.plots.findings import answer, findings
from fedfore.plots.study import Study, load_study
from fedfore.plots.tables.show import render
from fedfore.plots.view import View
from fedfore.records.agreement import line_problems
from fedfore.records.headline import Schedule, window_span, window_start
from fedfore.records.lines import LINES, ROUNDS
from fedfore.records.record import STATUSES, Moment, Origin, Status
from fedfore.records.store import LiveRun
from tests.synthetic import accuracy, cells, rounds, write_lines, write_run

SMALL = cells(("fedavg", "fedavg_erk"), alphas=("iid",), sparsities=(0.8,))


def study_of(run: Path, planned: list[Cell], change: Callable[[Cell], dict[str, Any]] = lambda cell: {}) -> Study:
    write_run(run, planned, change=change)
    return load_study(run)


def as_trial(cell: Cell) -> Cell:
    trial = replace(cell, stage="tune1", id="")
    return replace(trial, id=cell_id(trial, {}))


def evaluated(sizes: Sequence[float], budget: float, interval: float | None = None) -> list[float]:
    """Return what is spent at the evaluations of a cell whose rounds have these sizes; it ends with its budget."""
    schedule, spent, found = Schedule(budget, interval), 0.0, []
    for size in sizes:
        spent += size
        if schedule.is_due(spent):
            found.append(spent)
        if spent >= budget - 1e-9:
            break
    return found


# When it is evaluated


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (500, [460, 470, 480, 490, 500]),
        (60, [56, 57, 58, 59, 60]),
        (51, [47, 48, 49, 50, 51]),
        (50, [46, 47, 48, 49, 50]),
        (49, [45, 46, 47, 48, 49]),
        (30, [26, 27, 28, 29, 30]),
        (3, [1, 2, 3]),
        (1, [1]),
    ],
)
def test_five_rounds_at_the_end_of_the_budget_are_evaluated(budget: int, expected: list[float]) -> None:
    """By hand: the first rounds at 92, 94, ... 100% of the budget; below 50 rounds these are the last five."""
    assert evaluated([1.0] * budget, budget) == expected


def test_the_protocols_interval_stands_beside_the_window() -> None:
    assert evaluated([1.0] * 100, 100, 25.0) == [25, 50, 75, 92, 94, 96, 98, 100]
    assert evaluated([1.0] * 8, 8, 3.0) == [3, 4, 5, 6, 7, 8]


def test_under_data_passes_every_round_is_evaluated_once_five_of_the_largest_would_end_the_budget() -> None:
    """Two rounds pass 0.75; what is left is five rounds of 0.5 after 20 rounds, at 7.5 of 10 passes."""
    assert evaluated([0.5, 0.25] * 99, 10) == [8.0, 8.25, 8.75, 9.0, 9.5, 9.75, 10.25]
    assert evaluated([0.125] * 999, 30) == [27.625, 28.25, 28.875, 29.5, 30.0], "240 rounds, so five marks"
    assert evaluated([0.4] * 9, 1) == pytest.approx([0.4, 0.8, 1.2])


@given(st.lists(st.floats(0.05, 1.0), min_size=1, max_size=9), st.floats(0.5, 9.0))
def test_a_window_of_five_is_never_missed_after_the_largest_round(sizes: list[float], budget: float) -> None:
    sizes = [1.0, *sizes * 200]
    spent = list(itertools.accumulate(sizes))
    ended = spent[: next(place for place, one in enumerate(spent) if one >= budget - 1e-9) + 1]
    seen = evaluated(sizes, budget)
    assert sum(one > 0.9 * budget for one in seen) >= 5 or seen[-5:] == pytest.approx(ended[-5:])


# What it is the mean of


@pytest.mark.parametrize(
    ("spent", "budget", "window"),
    [
        ([25, 50, 75, 92, 94, 96, 98, 100], 100, [92, 94, 96, 98, 100]),
        ([440, 450, 460, 470, 475, 480, 490, 500], 500, [460, 470, 475, 480, 490, 500]),
        ([24, 25, 26, 27, 28, 29, 30], 30, [26, 27, 28, 29, 30]),
        ([8.0, 8.25, 8.75, 9.0, 9.5, 9.75, 10.25], 10, [8.75, 9.0, 9.5, 9.75, 10.25]),
        ([0.4, 0.8, 1.2], 1, [0.4, 0.8, 1.2]),
        ([1], 1, [1]),
    ],
    ids=["rounds", "450 of 500 lies before it", "few rounds", "uneven passes", "overspent", "one round"],
)
def test_the_window_holds_the_evaluations_above_90_percent_or_the_last_five(
    spent: list[float], budget: float, window: list[float]
) -> None:
    assert spent[window_start(spent, budget) :] == window
    assert window_span(spent, budget) == pytest.approx((window[-1] - window[0]) / budget)


@pytest.mark.parametrize(
    ("unit", "window"),
    [({"data_passes": 30.0}, slice(-5, None)), ({"rounds": 600}, slice(-5, None)), ({"rounds": 450}, slice(-7, None))],
    ids=["passes", "rounds", "overspent"],
)
def test_a_records_headline_is_that_of_its_lines_and_budget(
    tmp_path: Path, unit: dict[str, float], window: slice
) -> None:
    """A made-up cell has 21 lines, at 0, 30, ..., 600 rounds: of 450 rounds the last seven lie above 405."""
    cell = replace(SMALL[0], train=Protocol(**{"data_passes": None, **unit}))
    lines = [{**line, "validation_accuracy": line["test_accuracy"] / 2} for line in rounds(cell)]
    mean = sum(line["test_accuracy"] for line in lines[window]) / len(lines[window])
    right = {
        "test_accuracy": mean,
        "validation_accuracy": mean / 2,
        "test_accuracy_span": (len(lines[window]) - 1) * 30 / (unit.get("rounds") or 600),
    }

    def problems(**changed: Any) -> list[str]:
        write_run(tmp_path, [cell], change=lambda _: {**right, "final_test_accuracy": None, **changed})
        write_lines(tmp_path, cell, ROUNDS, lines)
        found = line_problems(LiveRun(tmp_path))
        return [text.split(": ")[2].split()[0] for text in found if "test_accuracy" in text or "validation" in text]

    assert problems() == []
    for name, value in right.items():
        assert problems(**{name: value + 0.01}) == [name]


def test_an_older_records_means_are_those_of_its_last_five_lines(tmp_path: Path) -> None:
    cell = replace(SMALL[0], train=Protocol(rounds=450))
    last = [line["test_accuracy"] for line in rounds(cell)][-5:]
    older = {"test_accuracy": None, "test_accuracy_last5": sum(last) / 5}
    write_run(tmp_path, [cell], change=lambda _: older)
    assert not [text for text in line_problems(LiveRun(tmp_path)) if "accuracy" in text]
    write_run(tmp_path, [cell], change=lambda _: {**older, "test_accuracy_last5": last[-1]})
    assert [text for text in line_problems(LiveRun(tmp_path)) if "test_accuracy_last5 is" in text]


def test_an_older_record_is_repeated_over_the_evaluations_that_it_had(tmp_path: Path) -> None:
    """It was evaluated at every fourth of the lines that a repetition has."""
    cell = SMALL[0]
    lines = [{**line, "validation_accuracy": line["test_accuracy"] / 2} for line in rounds(cell)]
    then = [{**line, "validation_accuracy": None} for line in lines[::4]]
    mean, best = (function([line["test_accuracy"] for line in then[1:]]) for function in (np.mean, max))
    older = {"test_accuracy": None, "test_accuracy_last5": mean, "validation_accuracy": mean / 2}
    write_run(tmp_path / "study", [cell], change=lambda _: {**older, "best_test_accuracy": best})
    write_run(tmp_path / "run", [cell], change=lambda _: {"best_test_accuracy": 0.99, "validation_accuracy": 0.99})
    study, run = (LiveRun(tmp_path / name) for name in ("study", "run"))
    write_lines(study.path, cell, ROUNDS, then)
    write_lines(run.path, cell, ROUNDS, lines)
    old, new = study.found(cell.id), run.found(cell.id)
    assert old is not None and new is not None
    again = over_the_same_evaluations(old, study, new, run)
    verdicts = {one.metric: one.verdict for one in compared(old, again, [old]) if "accuracy" in one.metric}
    assert verdicts == dict.fromkeys(("test_accuracy_last5", "best_test_accuracy", "validation_accuracy"), "equal")
    assert over_the_same_evaluations(new, study, new, run) == new


def test_a_line_knows_its_test_or_its_validation_accuracy() -> None:
    line = {**rounds(SMALL[0])[3], "test_accuracy": None}
    assert LINES[ROUNDS].problem(line) == "test_accuracy cannot be None"
    assert LINES[ROUNDS].problem({**line, "validation_accuracy": 0.5}) is None


@pytest.mark.parametrize("status", STATUSES)
def test_every_record_says_what_chance_is(tmp_path: Path, status: Status) -> None:
    cell = replace(SMALL[0], dataset="cifar100")
    job = Job(cell, tmp_path, Origin("baseline", (), None, 2, None, "e", 1), "cpu", None, (), tmp_path / "checkpoint")
    assert conclude(job, status, "for some reason", {}, Moment.now()).chance_accuracy == 0.01
    found = LiveRun(tmp_path).found(cell.id)
    assert found is not None and (found.status, found.chance_accuracy) == (status, 0.01)


# What a study shows


def test_a_study_shows_the_headline_and_one_of_older_records_what_they_have(tmp_path: Path) -> None:
    def older(cell: Cell) -> dict[str, Any]:
        return {"test_accuracy": None, "test_accuracy_last5": accuracy(cell)}

    new, old = study_of(tmp_path / "new", SMALL), study_of(tmp_path / "old", SMALL, older)
    assert (new.accuracy, old.accuracy) == ("test_accuracy", "test_accuracy_last5")
    for study, label, window in (
        (new, "Test accuracy (%) ↑", "mean of the evaluations in the last 10% of the budget, 5 or more"),
        (old, "Test accuracy, last five (%) ↑", "mean of the last 5 evaluations"),
    ):
        figure = accuracy_rows(View(study, study.cells))
        assert " ".join(figure.figure.axes[0].get_xlabel().split()) == label and window in figure.caption
        assert f"| {label} |" in str(render(study.run.path, "markdown"))
    assert [one.replace(", last five", "") for one in answer(old)] == list(answer(new))
    assert "highest mean test accuracy" in answer(new)[0]


def test_trials_of_tuning_enter_nothing_that_is_reported(tmp_path: Path) -> None:
    trials = [as_trial(cell) for cell in SMALL]
    alone = study_of(tmp_path / "alone", SMALL)
    study = study_of(tmp_path / "tuned", [*trials, *SMALL])
    assert list(study.cells["cell_id"]) == [cell.id for cell in SMALL]
    assert list(study.trials["cell_id"]) == [cell.id for cell in trials] and set(study.trials["stage"]) == {"tune1"}
    assert render(study.run.path, "markdown") == render(alone.run.path, "markdown")
    assert findings(study) == findings(alone)
    assert alone.trials.empty
    with pytest.raises(StoreError, match="holds no cell that is reported"):
        study_of(tmp_path / "trials", trials)

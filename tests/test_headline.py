"""The headline accuracy: what it is a mean of, when it is evaluated, and which one a study shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedfore.cell import Cell, cell_id
from fedfore.errors import StoreError
from fedfore.plots.accuracy import accuracy_by_sparsity
from fedfore.plots.findings import findings
from fedfore.plots.study import Study, load_study
from fedfore.plots.tables.summary import presentable, summary
from fedfore.plots.view import View
from tests.synthetic import accuracy, cells, write_run

SMALL = cells(("fedavg", "fedavg_erk"), alphas=("iid",), sparsities=(0.8,))


def study_of(run: Path, planned: list[Cell], change: Callable[[Cell], dict[str, Any]] = lambda cell: {}) -> Study:
    write_run(run, planned, change=change)
    return load_study(run)


def as_trial(cell: Cell) -> Cell:
    trial = replace(cell, stage="tune1", id="")
    return replace(trial, id=cell_id(trial, {}))


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
        figure = accuracy_by_sparsity(View(study, study.cells))
        assert figure.figure.axes[0].get_ylabel() == label and window in figure.caption
        assert [name for name in presentable(summary(study.cells)) if "accuracy" in name] == [label]
    assert [one.sentences for one in findings(old)] == [one.sentences for one in findings(new)]
    assert "highest mean test accuracy" in findings(old)[0].sentences[0]


def test_trials_of_tuning_enter_nothing_that_is_reported(tmp_path: Path) -> None:
    trials = [as_trial(cell) for cell in SMALL]
    alone = study_of(tmp_path / "alone", SMALL)
    study = study_of(tmp_path / "tuned", [*trials, *SMALL])
    assert list(study.cells["cell_id"]) == [cell.id for cell in SMALL]
    assert list(study.trials["cell_id"]) == [cell.id for cell in trials] and set(study.trials["stage"]) == {"tune1"}
    assert summary(study.cells).equals(summary(alone.cells)) and findings(study) == findings(alone)
    assert alone.trials.empty
    with pytest.raises(StoreError, match="holds no cell that is reported"):
        study_of(tmp_path / "trials", trials)

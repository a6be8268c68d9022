"""Figures of estimators: twins are matched on all but the estimator, and drawn values are the recorded ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfore.cell import Cell, cell_id
from fedfore.plots.charts import estimators
from fedfore.plots.findings import answer, findings
from fedfore.plots.points import twins
from fedfore.plots.study import Study, load_study
from fedfore.plots.view import Drawn, View
from fedfore.records.store import DIAGNOSTICS, lines_writer
from tests.drawn import points, rows
from tests.synthetic import cells, write_run

ACCURACY = {"finite_difference": 0.80, "directional": 0.81, "moment": 0.90}


def renamed(cell: Cell, **changes: Any) -> Cell:
    changed = replace(cell, **changes)
    return replace(changed, id=cell_id(changed, {}))


def planned(
    *estimators: str, sigmas: tuple[float, ...] = (1e-4,), precisions: tuple[str, ...] = ("float32",)
) -> list[Cell]:
    base = cells(["baffle"], alphas=["iid", 0.1], seeds=(0, 1))
    return [
        renamed(
            cell, estimator=estimator, params={**cell.params, "sigma": sigma, "form": "forward", "precision": precision}
        )
        for cell in base
        for estimator in estimators
        for sigma in sigmas
        for precision in precisions
    ]


@pytest.fixture
def study_of(tmp_path: Path) -> Callable[..., Study]:
    def make(planned_cells: list[Cell], change: Callable[[Cell], dict[str, Any]] = lambda cell: {}) -> Study:
        write_run(tmp_path, planned_cells, change=change)
        for cell in planned_cells:
            with lines_writer(tmp_path, cell.id, DIAGNOSTICS) as write:
                for moment in (0.0, 0.1, 1.0):
                    ratio = 8.0 * (1 - moment) + 0.5
                    error = None if cell.estimator == "exact" else cell.params["sigma"] * 100 * (1 + moment)
                    write({"moment": moment, "round": 1, "variance_ratio": ratio, "fd_scalar_error": error})
        return load_study(tmp_path)

    return make


def figures(study: Study) -> dict[str, Drawn]:
    planned = estimators.figures(View(study, study.cells))
    return {one.name.removesuffix("-digits-lenet5"): one.draw() for one in planned}


def test_twins_differ_in_the_estimator_alone(study_of: Callable[..., Study]) -> None:
    study = study_of(
        planned("finite_difference", "directional", "moment"),
        change=lambda cell: {"test_accuracy": ACCURACY[cell.estimator or ""] + 0.01 * cell.seed},
    )
    pairs = twins(study.cells, "test_accuracy")
    assert len(pairs) == 2 * 2 * 2
    np.testing.assert_allclose(pairs.loc[pairs["estimator"] == "directional", "difference"], 0.01)
    np.testing.assert_allclose(pairs.loc[pairs["estimator"] == "moment", "difference"], 0.10)
    other = [renamed(cell, params={**cell.params, "lr": 0.5}) for cell in planned("directional")]
    assert twins(study_of_new(study, other).cells, "test_accuracy").empty


def study_of_new(study: Study, planned_cells: list[Cell]) -> Study:
    write_run(study.run.path / "other", planned("finite_difference") + planned_cells)
    return load_study(study.run.path / "other")


def test_only_the_figures_that_have_data_are_drawn(study_of: Callable[..., Study], tmp_path: Path) -> None:
    assert set(figures(study_of(planned("directional")))) == {"variance-ratio"}
    write_run(tmp_path / "plain", cells(["fedavg"]))
    assert figures(load_study(tmp_path / "plain")) == {}


def test_every_figure_draws_the_recorded_values(study_of: Callable[..., Study]) -> None:
    study = study_of(planned("finite_difference", "directional", sigmas=(1e-4, 1e-3)))
    drawn = figures(study)
    assert set(drawn) == {"variance-ratio", "scalar-error", "twins"}
    ratio = points(drawn["variance-ratio"].figure.axes[0], upright=True)
    assert [own.mean for own in list(ratio.values())[:3]] == pytest.approx([8.5, 7.7, 0.5])
    error = points(drawn["scalar-error"].figure.axes[2], upright=True)
    assert {place: own.mean for place, own in error.items()} == pytest.approx({1e-4: 0.02, 1e-3: 0.2})
    twin_rows = rows(drawn["twins"].figure.axes[0])
    assert all("directional" in name for name in twin_rows) and len(twin_rows) == 4, "two sizes of sigma, two alphas"
    differences = twins(study.cells, "test_accuracy")["difference"]
    assert sorted(value for own in twin_rows.values() for value in own.seeds) == pytest.approx(sorted(differences))


def test_cells_without_scalars_leave_the_scalars_figure_to_the_others(study_of: Callable[..., Study]) -> None:
    drawn = figures(study_of(planned("exact", "directional", sigmas=(1e-4, 1e-3))))
    error = points(drawn["scalar-error"].figure.axes[2], upright=True)
    assert [own.mean for own in error.values()] == pytest.approx([0.02, 0.2])


def test_precisions_are_lines_of_their_own(study_of: Callable[..., Study]) -> None:
    study = study_of(planned("directional", sigmas=(1e-4, 1e-3), precisions=("bfloat16", "float32")))
    (legend,) = figures(study)["scalar-error"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "sparsity 0", "forward", "forward, bfloat16", "certified up to 10%",
    ]  # fmt: skip


def test_a_run_of_many_series_has_no_panel_for_each(study_of: Callable[..., Study]) -> None:
    assert "variance-ratio" not in figures(study_of(planned("moment", sigmas=(1e-6, 1e-5, 1e-4, 1e-3, 1e-2))))


def test_exact_has_no_twin_and_the_margin_of_the_matrix_is_a_band(study_of: Callable[..., Study]) -> None:
    study = study_of(planned("finite_difference", "exact", "moment"))
    asked = """[[contrast]]
name = "the same experiment"
of = { estimator = "moment" }
against = { estimator = "finite_difference" }
margin = 0.02
"""
    (study.run.path / "matrix.toml").write_text(asked)
    (panel,) = figures(load_study(study.run.path))["twins"].figure.axes
    assert list(rows(panel)) == ["BAFFLE, moment, iid", "BAFFLE, moment, \N{GREEK SMALL LETTER ALPHA} = 0.1"]
    (band,) = panel.patches
    assert (band.get_x(), band.get_width()) == pytest.approx((-0.02, 0.04))


@pytest.mark.parametrize("estimator", ["directional", "moment"])
def test_an_agreeing_twin_pardons_nothing(study_of: Callable[..., Study], estimator: str) -> None:
    both = planned("finite_difference", estimator, sigmas=(1e-3,))
    study = study_of(both, change=lambda cell: {"test_accuracy": 0.8})
    best = answer(study)[0]
    assert best.startswith("iid: BAFFLE, finite differences has") and estimator not in best
    assert set(study.cells.loc[study.cells["estimator"] == estimator, "certificate"]) == {"uncertified"}


@pytest.mark.parametrize("estimator", ["finite_difference", "exact"])
def test_what_simulates_no_device_needs_no_certificate(study_of: Callable[..., Study], estimator: str) -> None:
    study = study_of(planned(estimator, sigmas=(1e-2,)))
    assert not study.cells["withheld"].any() and "certified" not in " ".join(findings(study)[0].sentences)


def test_simulated_cells_are_said_to_be(study_of: Callable[..., Study]) -> None:
    sentences = " ".join(findings(study_of(planned("directional", "moment")))[0].sentences)
    assert "4 of them are simulated" in sentences


def test_the_exact_control_is_dashed(study_of: Callable[..., Study]) -> None:
    study = study_of(planned("directional", "exact"), change=lambda cell: {"test_accuracy": 0.8})
    controls = {one.label: one.control for one in study.series}
    assert sorted(controls.values()) == [False, True]
    assert all(("exact" in label) is control for label, control in controls.items())

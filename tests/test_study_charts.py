"""Figures of how a study was tuned, of its estimates, its settings and its clients, on made-up records."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from fedfore.cell import Cell, cell_id
from fedfore.judgement.choices import choice, trial
from fedfore.plots.charts.cosine import cosines, theory
from fedfore.plots.charts.tuning import tuning
from fedfore.plots.drawing.style import themed
from fedfore.plots.figures import chosen, plan_figures
from fedfore.plots.study import Study, load_study
from fedfore.plots.tuned import Tuned, tuned_series
from fedfore.plots.view import Drawn, View
from fedfore.plots.wording import DOUBLE_DAGGER, MINUS
from fedfore.records.lines import CLIENTS, DIAGNOSTICS
from tests.synthetic import cells, rounds, write_lines, write_run

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def study_of(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    def make(planned: list[Cell], *args: Any, files: Any = None, **options: Any) -> Study:
        run = tmp_path_factory.mktemp("run")
        write_run(run, planned, *args, **options)
        for cell in planned if files else ():
            for name, lines in files(cell).items():
                write_lines(run, cell, name, lines)
        return load_study(run)

    return make


def drawn(study: Study, name: str) -> Drawn:
    (found,) = (one.draw() for one in chosen(plan_figures(study), [name]))
    return found


def texts(panel: Axes) -> list[str]:
    return [text.get_text() for text in panel.texts]


def with_params(cell: Cell, **params: Any) -> Cell:
    changed = replace(cell, params={**cell.params, **params})
    return replace(changed, id=cell_id(changed, {}))


# Tuning


@pytest.fixture(scope="module")
def tried(study_of: MakeStudy) -> Study:
    """FedAvg is best at the middle of three rates, FedTiny at the largest; a seed of its first one diverged."""
    best = {"fedavg": 0.1, "fedtiny": 0.3}
    planned = cells(tuple(best), alphas=("iid",), sparsities=(0.8,), seeds=(0, 1))
    rated = [with_params(cell, lr=rate) for cell in planned for rate in (0.03, 0.1, 0.3)]

    def outcome(cell: Cell) -> str:
        return "diverged" if (cell.method, cell.params["lr"], cell.seed) == ("fedtiny", 0.03, 0) else "ok"

    def validated(cell: Cell) -> dict[str, Any]:
        if outcome(cell) != "ok":
            return {}
        return {
            "validation_accuracy": 0.8 - abs(math.log(cell.params["lr"] / best[cell.method])) / 10 + 0.01 * cell.seed
        }

    return study_of(rated, outcome, change=validated)


def test_cells_that_differ_in_their_rate_alone_are_a_tuned_series_with_a_choice(tried: Study) -> None:
    found = {one.label: one.choice for one in tuned_series(tried)}
    assert {label: dict(one.values or {}) for label, one in found.items()} == {
        "FedAvg (dense)": {"lr": 0.1}, "FedTiny": {"lr": 0.3},
    }  # fmt: skip
    assert [one.at_edge for one in found.values()] == [label == "FedTiny" for label in found]
    failed = {one.values["lr"]: (one.failed, one.accuracies[0]) for one in found["FedTiny"].trials}
    assert failed[0.03] == (1, pytest.approx(0.1)), "chance, of ten classes"


def test_two_models_of_a_method_are_tuned_series_of_two_names() -> None:
    archive = Path(__file__).parent.parent / "results"
    named = [one.label for one in tuned_series(load_study(archive / "masks-or-scale"))]
    assert {"BAFFLE, lenet5", "BAFFLE, lenet5:width=0.44"} <= set(named) and len(named) == len(set(named)) == 7


def test_the_choice_is_ringed_and_an_edge_is_said(tried: Study) -> None:
    found = drawn(tried, "tuning")
    ringed, edges = {}, {}
    for panel in found.figure.axes:
        (ring,) = [line for line in panel.lines if line.get_markersize() == 9]
        ringed[panel.get_title()] = (float(ring.get_xdata()[0]), round(float(ring.get_ydata()[0]), 3))
        edges[panel.get_title()] = "at an edge" in texts(panel)
    assert ringed == {"FedAvg (dense)": (0.1, 0.805), "FedTiny": (0.3, 0.805)}
    assert edges == {"FedAvg (dense)": False, "FedTiny": True}
    assert found.caption.startswith("1 of 2 choices lie at an edge of what was tried: FedTiny.")
    assert "n = 2 tuning seeds" in found.caption and "Crosses" in found.caption


def test_steps_of_tuning_and_other_tuned_values_are_told_apart(tried: Study) -> None:
    def record(accuracy: float) -> dict[str, Any]:
        return {"status": "ok", "validation_accuracy": accuracy, "chance_accuracy": 0.1}

    grid = {"lr": (0.01, 0.1), "init_scale": (0.5, 1.0)}
    points = [{"lr": rate, "init_scale": scale} for rate in grid["lr"] for scale in grid["init_scale"]]
    first = [trial("tune1", point, [record(0.3), record(0.4)]) for point in points]
    last = [trial("tune2", points[3], [record(0.6), record(0.7)])]
    tuned = Tuned("Mine", choice({"method": "mine"}, grid, (100, 101), [*first, *last]))
    with themed():
        figure = tuning(View(tried, tried.cells), [tuned]).figure
    (panel,) = figure.axes
    lines = [line for line in panel.lines if line.get_marker() == "o" and line.get_markersize() < 5]
    assert [len(line.get_xdata()) for line in lines if len(line.get_xdata())] == [2, 2, 1]
    assert len({line.get_color() for line in lines[:2]}) == 2
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["init \N{MULTIPLICATION SIGN} 0.5", "init scale 1", "first step", "whole budget", "chosen"]


def test_a_study_without_validation_data_was_not_tuned(study_of: MakeStudy) -> None:
    planned = [with_params(cell, lr=rate) for cell in cells(("fedavg",), alphas=("iid",)) for rate in (0.1, 0.3)]
    assert not tuned_series(study_of(planned))


# Cosines


def test_theory_is_worked_out_by_hand() -> None:
    """One direction of four coordinates: |cos|² is 1 / 4 in the mean; as many as coordinates: 4 / 7."""
    assert list(theory([1, 4], 4)) == pytest.approx([0.5, math.sqrt(4 / 7)])
    assert float(theory(1, 1)) == 1.0
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(20_000, 3, 40))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    gradient = np.eye(40)[0]
    estimates = np.einsum("nk,nkp->np", directions @ gradient, directions)
    cosine = estimates @ gradient / np.linalg.norm(estimates, axis=1)
    assert math.sqrt(float((cosine**2).mean())) == pytest.approx(float(theory(3, 40)), rel=0.05)


@pytest.fixture(scope="module")
def estimated(study_of: MakeStudy) -> Study:
    """Cosines are 1.1 times theory at the start and 0.9 times at the end, of either sign."""
    planned = cells(("fed_ntk_zo", "baffle"), alphas=("iid",), sparsities=(0.8,), num_perturbations=(10, 100, 1000))

    def lines(cell: Cell) -> dict[str, list[dict[str, float]]]:
        coordinates = 61_000 * (1 - cell.sparsity) + 706
        expected = float(theory(cell.params["num_perturbations"], coordinates))
        sign = -1 if cell.seed == 2 else 1
        return {
            DIAGNOSTICS: [
                {"moment": moment, "round": 0, "grad_cosine": sign * factor * expected}
                for moment, factor in ((0.0, 1.1), (1.0, 0.9))
            ]
        }

    return study_of(planned, files=lines, change=lambda cell: {"num_prunable": 61_000})


def test_perturbed_coordinates_are_the_kept_weights_and_the_dense_parameters(estimated: Study) -> None:
    table = cosines(View(estimated, estimated.cells))
    assert sorted(table["coordinates"].unique()) == [12_900.0, 61_700.0], "12,906 and 61,706 to three digits"
    assert len(table) == 2 * 3 * 2 * 3, "moments, K, P and seeds"
    ratios = (table["cosine"] / table["theory"]).groupby(table["moment"]).mean()
    assert list(ratios) == pytest.approx([1.1, 0.9], rel=1e-3)


def test_cosines_lie_along_k_with_a_theory_line_for_each_p(estimated: Study) -> None:
    found = drawn(estimated, "gradient-cosine")
    left, right = found.figure.axes
    assert left.get_xlabel() == "Perturbations K"
    assert texts(left) == ["P = 12.9 k", "P = 61.7 k"]
    dashed = [line for line in left.lines if line.get_linestyle() == "--" and len(line.get_xdata()) == 50]
    k, value = dashed[1].get_xdata()[7], dashed[1].get_ydata()[7]
    assert value == pytest.approx(math.sqrt(k / (k + 61_700 - 1)))
    assert found.caption.startswith("Estimates point along the gradient 0.90 to 1.10 times as far as theory says.")
    means = [float(line.get_ydata()[0]) for line in right.lines if line.get_marker() == "o"]
    assert means == pytest.approx([1.1, 0.9], rel=1e-3)


def test_one_k_and_one_sparsity_have_no_such_figure(study_of: MakeStudy, estimated: Study) -> None:
    view = View(
        estimated,
        estimated.cells[estimated.cells["params.num_perturbations"].eq(10) & estimated.cells["sparsity"].eq(0)],
    )
    assert len(cosines(view)[["k", "coordinates"]].drop_duplicates()) == 1
    assert not [one for one in plan_figures(study_of(cells(("fedavg",)))) if one.name.startswith("gradient-cosine")]


# Heat maps


def tiles(panel: Axes) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in panel.texts]


def test_tiles_are_paired_differences_and_bold_where_their_interval_excludes_zero(study_of: MakeStudy) -> None:
    """FedTiny loses 10 points, and at sparsity 0.9 gains -4, 0 and 4: its interval there is ± 9.9."""

    def accuracy(cell: Cell) -> dict[str, Any]:
        loss = 0.04 * (cell.seed - 1) if cell.sparsity == 0.9 else -0.1
        return {"test_accuracy": 0.8 + 0.02 * cell.seed + (loss if cell.method == "fedtiny" else 0.0)}

    planned = cells(("fedtiny", "fedavg"), alphas=("iid", 0.1), sparsities=(0.8, 0.9))
    missing = [cell for cell in planned if (cell.sparsity, cell.alpha) != (0.9, 0.1)]
    assert not [one for one in plan_figures(study_of(missing, change=accuracy)) if "alpha" in one.name]
    (panel,) = drawn(study_of(planned, change=accuracy), "sparsity-alpha").figure.axes
    assert tiles(panel) == [f"{MINUS}10.0 ± 0.0", "+0.0 ± 9.9"] * 2
    assert [text.get_fontweight() for text in panel.texts] == ["bold", "normal"] * 2


def test_a_map_over_k_shows_accuracy_and_what_a_flop_buys_and_marks_what_is_not_certified(study_of: MakeStudy) -> None:
    """At K = 10 and 2 TFLOP 40 points above chance: 20 a TFLOP; at K = 100 and 20 TFLOP 60: 3."""

    def known(cell: Cell) -> dict[str, Any]:
        many = cell.params["num_perturbations"] == 100
        flops = 20e12 if many else 2e12
        return {"test_accuracy": 0.7 if many else 0.5, "train_flops_total": flops - 1e9, "setup_flops_total": 1e9}

    planned = cells(("fed_ntk_zo",), alphas=("iid",), sparsities=(0.5, 0.8), num_perturbations=(10, 100))
    planned = [cell for cell in planned if cell.seed or cell.sparsity == 0.5]
    errors = lambda cell: (0.5, 0.5) if cell.sparsity == 0.8 else (0.01, 0.01)  # noqa: E731
    accuracy, bought = drawn(study_of(planned, change=known, scalar_errors=errors), "k-sparsity").figure.axes
    assert tiles(accuracy) == ["50.0 ± 0.0", f"50.0 {DOUBLE_DAGGER}", "70.0 ± 0.0", f"70.0 {DOUBLE_DAGGER}"]
    assert [text.split()[0] for text in tiles(bought)] == ["20", "20", "3", "3"]
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["K = 10", "K = 100"]


def test_a_failed_seed_is_chance_in_a_map_and_intervals_near_1_have_both_ends(study_of: MakeStudy) -> None:
    """At sparsity 0.5 seeds of 95, 96 and 97%, at 0.8 of 70, 70 and chance."""
    planned = cells(("fed_ntk_zo",), alphas=("iid",), sparsities=(0.5, 0.8), num_perturbations=(10, 100))
    study = study_of(
        planned,
        lambda cell: "diverged" if cell.sparsity == 0.8 and cell.seed == 2 else "ok",
        change=lambda cell: {
            "test_accuracy": 0.95 + 0.01 * cell.seed if cell.sparsity == 0.5 else 0.7,
            "train_flops_total": 1e12,
            "setup_flops_total": 0,
        },
    )
    accuracy, bought = drawn(study, "k-sparsity").figure.axes
    # logit(.96) = 3.178, half .024841 / .0384 = .6469: expit(2.531), expit(3.825)
    assert tiles(accuracy) == ["96.0 [92.6, 97.9]", "50.0 [3.1, 96.9]"] * 2
    assert [text.split()[0] for text in tiles(bought)] == ["86", "40"] * 2, "points above chance, 0 of the failure"


# Curves


def test_a_failed_seed_is_chance_along_a_curve_at_the_costs_of_the_others(study_of: MakeStudy) -> None:
    planned = cells(("fedavg",), alphas=("iid",))
    found = drawn(study_of(planned, lambda cell: "diverged" if cell.seed == 2 else "ok"), "curves")
    ends = [rounds(cell)[-1]["test_accuracy"] for cell in planned[:2]]
    (mean,) = (line for line in found.figure.axes[0].lines if line.get_linewidth() == 1.2)
    assert (mean.get_xdata()[-1], mean.get_ydata()[-1]) == (600, pytest.approx((sum(ends) + 0.1) / 3))
    assert "Thin: n = 3 seeds" in found.caption and "Counted as chance: FedAvg (dense): 1 diverged" in found.caption


# Clients


def test_clients_are_drawn_with_the_mean_and_the_worst_over_seeds(study_of: MakeStudy) -> None:
    """Of two clients the worse one has 50, 60 and 70% in three seeds, the better one always 90%."""

    def lines(cell: Cell) -> dict[str, list[dict[str, Any]]]:
        worse = 0.5 + 0.1 * cell.seed - (0.2 if cell.method == "baffle" else 0.0)
        return {
            CLIENTS: [
                {"client": 0, "examples": 12, "class_counts": [12, 0, 0], "test_accuracy": worse},
                {"client": 1, "examples": 5, "class_counts": [1, 2, 2], "test_accuracy": 0.9},
            ]
        }

    found = drawn(study_of(cells(("fedavg", "baffle"), alphas=("iid", 0.1)), files=lines), "clients")
    histogram, _, spread, _ = found.figure.axes
    counts = histogram.collections[0].get_array()
    assert np.asarray(counts).reshape(2, 3).tolist() == [[12, 0, 0], [1, 2, 2]]
    worst = [float(line.get_xdata()[0]) for line in spread.lines if line.get_marker() == "|"]
    means = [float(line.get_xdata()[0]) for line in spread.lines if line.get_marker() == "D"]
    assert worst == pytest.approx([0.4, 0.6]) and means == pytest.approx([0.65, 0.75])
    assert "the worst client has 60% under FedAvg (dense), 40% under BAFFLE" in found.caption
    failing = study_of(cells(("fedavg",), alphas=("iid",)), lambda cell: "diverged" if cell.seed else "ok", files=lines)
    found = drawn(failing, "clients")
    (worst_client,) = (line for line in found.figure.axes[1].lines if line.get_marker() == "|")
    assert float(worst_client.get_xdata()[0]) == pytest.approx((0.5 + 0.1 + 0.1) / 3), "chance twice"

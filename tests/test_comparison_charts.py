"""Figures that answer a study's questions: what they compute by hand, and what they draw, on made-up records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from fedfore.cell import Cell, cell_id
from fedfore.plots.charts.curves import curves
from fedfore.plots.charts.forest import MOST_ROWS, forest
from fedfore.plots.charts.pareto import pareto, settings_with_costs, with_fronts
from fedfore.plots.charts.target_costs import reaching
from fedfore.plots.drawing.facets import MOST_SERIES, facets
from fedfore.plots.drawing.labels import Label, write_apart
from fedfore.plots.drawing.layout import panels
from fedfore.plots.drawing.style import COLUMN_WIDTH, themed
from fedfore.plots.figures import chosen, plan_figures
from fedfore.plots.heterogeneity import ALPHA
from fedfore.plots.study import Study, load_study
from fedfore.plots.training import mean_line
from fedfore.plots.view import Drawn, Options, View
from fedfore.plots.wording import MINUS
from fedfore.records.lines import ROUNDS
from tests.synthetic import cells, write_lines, write_run

MakeStudy = Callable[..., Study]
TIMES = "\N{MULTIPLICATION SIGN}"
CONTRASTS = """
[[contrast]]
name = "FedTiny against FedAvg"
of = { method = "fedtiny" }
against = { method = "fedavg" }
margin = 0.02
family = "pruning"

[[contrast]]
name = "FedMef against FedAvg"
of = { method = "fedmef" }
against = { method = "fedavg" }
family = "pruning"

[[contrast]]
name = "Peak of FedTiny"
of = { method = "fedtiny" }
against = { method = "fedavg" }
metric = "peak_device_bytes"
compare = "ratio"
family = "memory"
"""


FEDMEF_IS_A_CONTROL = "[[control]]\nwhere = { method = 'fedmef' }\n"


@pytest.fixture(scope="module")
def study_of(tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    def make(planned: list[Cell], *args: Any, matrix: str = "", lines: Any = None, **options: Any) -> Study:
        run = tmp_path_factory.mktemp("run")
        write_run(run, planned, *args, **options)
        if matrix:
            (run / "matrix.toml").write_text(matrix)
        for cell in planned if lines else ():
            write_lines(run, cell, ROUNDS, lines(cell))
        return load_study(run)

    return make


def drawn(draw: Callable[[View], Drawn], study: Study, width: float = 7.0) -> Drawn:
    with themed():
        return draw(View(study, study.cells, Options(width)))


def dots(panel: Axes) -> list[list[float]]:
    """Return where the seeds of each row lie."""
    lines = [line for line in panel.lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    return [sorted(np.round(np.asarray(line.get_xdata(), dtype=float), 6).tolist()) for line in lines]


def texts(panel: Axes) -> list[str]:
    return [text.get_text() for text in panel.texts]


# Forest


def compared(cell: Cell) -> dict[str, Any]:
    """Give FedTiny -2, -1, 0, 1 and 2 points to FedAvg, and 20 KiB to its 40."""
    gain = {"fedtiny": 0.01 * (cell.seed - 2), "fedmef": 0.05 + 0.001 * cell.seed}.get(cell.method, 0.0)
    return {"test_accuracy": 0.8 + gain, "peak_device_bytes": 20480 if cell.method == "fedtiny" else 40960}


@pytest.fixture(scope="module")
def stated(study_of: MakeStudy) -> Study:
    planned = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid",), sparsities=(0.8,), seeds=range(5))
    return study_of(planned, change=compared, matrix=CONTRASTS)


def test_a_row_has_its_seeds_its_margin_its_verdict_and_its_difference(stated: Study) -> None:
    figure = drawn(forest, stated).figure
    accuracy, memory = figure.axes
    assert dots(accuracy) == [[-2, -1, 0, 1, 2], [5.0, 5.1, 5.2, 5.3, 5.4]]
    bands = [patch for patch in accuracy.patches if isinstance(patch, Rectangle)]
    assert [(band.get_x(), band.get_width()) for band in bands] == [(pytest.approx(-2.0), pytest.approx(4.0))]
    assert texts(accuracy) == [
        "pruning", "FedTiny against FedAvg", "inconclusive", "+0.0, n = 5", "FedMef against FedAvg", "better",
        "+5.2, n = 5",
    ]  # fmt: skip
    assert texts(memory) == ["memory", "Peak of FedTiny", "better", f"0.5{TIMES}, metered"]
    (heading, *_) = [text.get_text() for text in figure.texts]
    assert heading == "3 comparisons stated beforehand: 2 better, 1 inconclusive"


def test_sides_that_are_equal_in_all_seeds_are_in_the_middle_of_an_axis(study_of: MakeStudy) -> None:
    planned = cells(("fedtiny", "fedavg"), alphas=("iid",), sparsities=(0.8,), seeds=(0, 1))
    equal = study_of(planned, change=lambda cell: {"test_accuracy": 0.8, "peak_device_bytes": 40960})
    for panel in drawn(forest, equal).figure.axes:
        low, high = np.log(panel.get_xlim()) if panel.get_xscale() == "log" else panel.get_xlim()
        assert low == pytest.approx(-high) and high > 0


def test_intervals_are_those_of_holms_steps(stated: Study) -> None:
    """FedMef's p is the smaller of two: its level is 97.5%, t(.9875, 4) = 3.495406; FedTiny's 95%, t = 2.776445."""
    accuracy = drawn(forest, stated).figure.axes[0]
    intervals = [line.get_xdata() for line in accuracy.lines if line.get_linewidth() == 1.3]
    error = np.std([-2, -1, 0, 1, 2], ddof=1) / np.sqrt(5)
    assert list(intervals[0]) == pytest.approx([-2.776445 * error, 2.776445 * error], rel=1e-5)
    assert list(intervals[1]) == pytest.approx([5.2 - 0.3495406 * error, 5.2 + 0.3495406 * error], rel=1e-5)


def test_what_is_not_tested_says_why_and_has_no_dots(study_of: MakeStudy) -> None:
    planned = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid",), sparsities=(0.8,), seeds=range(5))
    study = study_of(
        planned, lambda cell: "missing" if cell.method == "fedmef" else "ok", change=compared, matrix=CONTRASTS
    )
    accuracy = drawn(forest, study).figure.axes[0]
    assert len(dots(accuracy)) == 1
    assert "not tested" in texts(accuracy) and any("cells have no result" in text for text in texts(accuracy))


def test_without_contrasts_series_are_compared_with_their_reference_and_nothing_is_decided(study_of: MakeStudy) -> None:
    planned = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid", 0.1), sparsities=(0.8,), seeds=range(3))
    found = drawn(forest, study_of(planned, change=compared))
    (panel,) = found.figure.axes
    assert texts(panel)[:4] == ["Minus FedAvg (dense)", "FedTiny", "   iid", f"{MINUS}1.0, n = 3"]
    assert len(dots(panel)) == 4 and not {"better", "worse", "inconclusive"} & set(texts(panel))
    assert "Exploratory" in found.caption and "not corrected for 4 comparisons" in found.caption


def test_controls_are_no_rows_of_an_exploratory_forest(study_of: MakeStudy) -> None:
    planned = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid", 0.1), sparsities=(0.8,), seeds=range(3))
    one = "[[control]]\nwhere = { method = 'fedtiny', alpha = 0.1 }\n"
    (panel,) = drawn(forest, study_of(planned, change=compared, matrix=FEDMEF_IS_A_CONTROL + one)).figure.axes
    assert texts(panel) == ["Minus FedAvg (dense)", "FedTiny", f"{MINUS}1.0, n = 3"]


@pytest.mark.thorough
def test_many_comparisons_are_spread_over_figures_with_the_message_of_all(study_of: MakeStudy) -> None:
    alphas = ("iid", *(0.1 * (place + 1) for place in range(MOST_ROWS // 2)))
    study = study_of(cells(("fedtiny", "fedmef", "fedavg"), alphas=alphas, sparsities=(0.8,), seeds=(0,)))
    found = [one for one in plan_figures(study) if one.name.startswith("forest")]
    assert [one.name for one in found] == ["forest-1-digits-lenet5", "forest-2-digits-lenet5"]
    pages = [one.draw() for one in found]
    assert [sum("n = 1" in text for text in texts(page.figure.axes[0])) for page in pages] == [MOST_ROWS // 2 + 1] * 2
    assert all(f"not corrected for {MOST_ROWS + 2} comparisons" in page.caption for page in pages)


@pytest.mark.parametrize("width", [7.0, COLUMN_WIDTH])
def test_texts_of_a_forest_plot_do_not_overlap(stated: Study, width: float) -> None:
    figure = drawn(forest, stated, width).figure
    figure.draw_without_rendering()
    for panel in figure.axes:
        boxes = [text.get_window_extent() for text in panel.texts]
        assert not any(box.overlaps(other) for place, box in enumerate(boxes) for other in boxes[place + 1 :])
        assert all(box.x0 > -1 and box.x1 < figure.bbox.x1 + 1 for box in boxes)


# Pareto


def point(series: str, mean: float, memory: float, **changes: Any) -> dict[str, Any]:
    costs = dict.fromkeys(("device_flops_total", "total_bytes"), 1.0) | {"peak_device_bytes": memory}
    known = {"dataset": "digits", "alpha": "iid", "series": series, "hollow": False}
    return known | {"mean": mean, **costs} | changes


def test_a_front_holds_what_nothing_that_competes_beats() -> None:
    table = pd.DataFrame(
        [
            point("small", 0.80, 1.0),
            point("beaten", 0.79, 2.0),
            point("large", 0.90, 3.0),
            point("as good, and larger", 0.90, 4.0),
            point("competes with nothing", 0.99, 1.0, hollow=True),
            point("elsewhere", 0.10, 9.0, alpha=f"{ALPHA} = 0.1"),
        ]
    )
    found = with_fronts(table, "test_accuracy").set_index("series")
    assert list(found.index[found["front_peak_device_bytes"]]) == ["small", "large", "elsewhere"]
    assert list(found.index[found["front_total_bytes"]]) == ["large", "as good, and larger", "elsewhere"]
    lower = with_fronts(table, "test_loss").set_index("series")
    assert list(lower.index[lower["front_peak_device_bytes"]]) == ["small", "beaten", "elsewhere"]


def test_costs_are_those_of_setup_and_training_and_of_both_directions(study_of: MakeStudy) -> None:
    known = {"setup_flops_total": 30, "train_flops_total": 70, "uplink_bytes": 5, "downlink_bytes": 15}
    study = study_of(cells(("fedavg",), alphas=("iid",)), change=lambda cell: {**known, "test_accuracy": 0.5})
    (row,) = settings_with_costs(study.cells, "test_accuracy").to_dict("records")
    assert (row["device_flops_total"], row["total_bytes"], row["n"]) == (100, 20, 3)


@pytest.mark.parametrize(
    ("status", "mean", "hollow"),
    [("ok", 0.81, False), ("diverged", (0.2 + 0.81 + 0.82) / 3, False), ("missing", 0.815, True)],
)
def test_a_seed_that_failed_counts_as_chance_and_one_without_a_result_keeps_its_point_off_the_front(
    study_of: MakeStudy, status: str, mean: float, hollow: bool
) -> None:
    """FedMef has 80, 81 and 82%, or chance, 20%, in place of the first."""
    study = study_of(
        cells(("fedmef",), alphas=("iid",), sparsities=(0.8,)),
        lambda cell: "ok" if cell.seed else status,
        change=lambda cell: {"chance_accuracy": 0.2, "test_accuracy": 0.8 + cell.seed / 100},
    )
    (row,) = settings_with_costs(study.cells, "test_accuracy").to_dict("records")
    assert row["mean"] == pytest.approx(mean) and row["hollow"] is hollow


def test_what_competes_with_nothing_is_hollow_and_the_front_is_a_staircase(study_of: MakeStudy) -> None:
    planned = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid",), sparsities=(0.8,))
    study = study_of(planned, change=compared, matrix=FEDMEF_IS_A_CONTROL)
    memory = drawn(pareto, study).figure.axes[0]
    faces = [to_hex(line.get_markerfacecolor()) for line in memory.lines if line.get_marker() not in ("None", "_")]
    assert faces.count("#ffffff") == 1, "FedMef, the control"
    (front,) = [line for line in memory.lines if line.get_drawstyle() == "steps-post"]
    assert list(front.get_xdata())[:2] == [20480, 40960]
    assert list(front.get_ydata()) == pytest.approx([0.79, 0.80, 0.80])


def test_panels_of_one_row_hold_the_points_of_all_of_them(study_of: MakeStudy) -> None:
    planned = cells(("fedavg", "baffle"), alphas=("iid", 0.1))
    far = study_of(planned, change=lambda cell: {"test_accuracy": 0.9 if cell.alpha == "iid" else 0.3})
    for panel in drawn(pareto, far, COLUMN_WIDTH).figure.axes:
        low, high = panel.get_ylim()
        assert low < 0.3 and high > 0.9


def test_labels_stand_beside_their_points_and_apart() -> None:
    figure, (panel,) = panels(1, 4.0, 3.0)
    panel.set(xlim=(0, 1), ylim=(0, 1))
    labels = [Label(0.5, 0.5, "first"), Label(0.51, 0.5, "second"), Label(0.99, 0.02, "in the corner")]
    write_apart(panel, (3.4, 2.5), labels, labels)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in panel.texts]
    assert not any(box.overlaps(other) for place, box in enumerate(boxes) for other in boxes[place + 1 :])
    assert panel.get_window_extent().x1 > boxes[2].x1 and panel.get_window_extent().y0 < boxes[2].y0


def test_equal_labels_of_points_that_coincide_are_written_once() -> None:
    _, (panel,) = panels(1, 4.0, 3.0)
    panel.set(xlim=(0, 1), ylim=(0, 1))
    crowd = [Label(0.5, 0.5, "#1")] * 40
    write_apart(panel, (3.4, 2.5), [*crowd, Label(0.1, 0.1, "#1")], crowd)
    written = [text.get_position() for text in panel.texts if text.xy == (0.5, 0.5)]
    assert len(set(written)) == len(written) == len(panel.texts) - 1


# Curves


def evaluated(costs: Sequence[float], accuracies: Sequence[float], **others: float) -> list[dict[str, float]]:
    """Return lines of rounds.jsonl: as many rounds and passes as costs, as many bytes in each direction."""
    rest = {"test_loss": 1.0, **others}
    return [
        {"round": cost, "data_passes": cost, "uplink_bytes": cost, "downlink_bytes": cost, "device_flops": cost + 1}
        | {"test_accuracy": accuracy, **rest}
        for cost, accuracy in zip(costs, accuracies, strict=True)
    ]


def test_a_mean_line_is_over_the_evaluations_that_all_seeds_have() -> None:
    def seed(name: str, costs: Sequence[float], accuracies: Sequence[float]) -> pd.DataFrame:
        known = dict.fromkeys(("rounds", "data_passes", "total_bytes", "device_flops"), costs)
        return pd.DataFrame({"cell_id": name, "place": range(len(costs)), **known, "test_accuracy": accuracies})

    found = mean_line(pd.concat([seed("a", [0, 10, 20], [0.1, 0.5, 0.7]), seed("b", [4, 30], [0.3, 0.9])]))
    assert list(found["place"]) == [0, 1]
    assert list(found["total_bytes"]) == [2, 20]
    assert list(found["test_accuracy"]) == pytest.approx([0.2, 0.7])


@pytest.fixture(scope="module")
def trained(study_of: MakeStudy) -> Study:
    """FedTiny pays 8 bytes before training and overtakes FedAvg at 40 bytes."""

    def lines(cell: Cell) -> list[dict[str, float]]:
        if cell.method == "fedtiny":
            return evaluated([4, 10, 20, 30], [0.1, 0.2, 0.9, 0.95])
        return evaluated([0, 10, 20, 100], [0.1, 0.5, 0.6, 0.7])

    planned = cells(("fedtiny", "fedavg"), alphas=("iid",), sparsities=(0.8,), seeds=(0, 1, 2))
    return study_of(planned, lines=lines, change=lambda cell: {"setup_rounds": 2 if cell.method == "fedtiny" else 0})


def test_curves_start_where_training_was_first_evaluated_and_mark_what_setup_costs(trained: Study) -> None:
    rounds, _, total, _ = drawn(curves, trained).figure.axes
    means = {
        name: [list(line.get_xdata()) for line in panel.lines if line.get_linewidth() == 1.2]
        for name, panel in (("rounds", rounds), ("bytes", total))
    }
    assert means == {"rounds": [[6, 12, 22, 32], [0, 10, 20, 100]], "bytes": [[20, 40, 60], [20, 40, 200]]}
    marks = [line for line in total.lines if line.get_marker() == "^" and list(line.get_ydata()) == [0.0]]
    assert [list(line.get_xdata()) for line in marks] == [[8.0]]
    assert not [line for line in rounds.lines if line.get_marker() == "^" and list(line.get_ydata()) == [0.0]]


def test_the_message_compares_means_at_the_cost_that_all_reach(trained: Study) -> None:
    """At 30 rounds, 30 passes, 60 bytes and 31 FLOPs FedTiny is at 95% or 90%, FedAvg at 60%."""
    assert drawn(curves, trained).caption.startswith("Highest mean at equal cost, of 4 panels: FedTiny in 4.")


def test_every_seed_is_a_thin_line(trained: Study) -> None:
    rounds = drawn(curves, trained).figure.axes[0]
    thin = [np.asarray(line.get_ydata()) for line in rounds.lines if line.get_linewidth() == 0.5]
    assert [int(np.isnan(line).sum()) for line in thin] == [3, 3], "a break after each of three seeds"


def test_a_panel_holds_few_series_that_share_a_setting(study_of: MakeStudy) -> None:
    planned = cells(
        ("fed_ntk_zo", "baffle"), alphas=("iid",), sparsities=(0.8,), seeds=(0,), num_perturbations=(50, 500)
    )
    varied = [
        replace(cell, params={**cell.params, "init_scale": scale}) for cell in planned for scale in (0.5, 1.0, 2.0)
    ]
    study = study_of([replace(cell, id=cell_id(cell, {})) for cell in varied])
    assert len(study.series) == 12 > MOST_SERIES
    found = facets(study.cells, study.series)
    assert [name for name, _ in found] == ["K=50", "K=500"]
    assert [len(series) for _, series in found] == [6, 6]
    assert {one.method for one in found[0][1]} == {"fed_ntk_zo", "baffle"}
    assert facets(study.cells, study.series[:MOST_SERIES]) == [("", list(study.series[:MOST_SERIES]))]


# Costs to a target


def test_what_reaching_costs_is_what_had_been_spent_at_the_first_window(trained: Study) -> None:
    """FedTiny's mean of three is first 0.4 at 20 rounds (40 bytes), then 0.683; FedAvg's is 0.4, then 0.6 at 100."""
    ids = {method: list(own["cell_id"]) for method, own in trained.cells.groupby("method")}

    def spent(method: str, target: float) -> list[float]:
        return reaching(trained.evaluations, ids[method], target)["total_bytes"].tolist()

    assert spent("fedtiny", 0.4) == [40] * 3 and spent("fedtiny", 0.6) == [60] * 3
    assert spent("fedavg", 0.4) == [40] * 3 and spent("fedavg", 0.6) == [200] * 3
    assert spent("fedavg", 0.65) == []


def test_the_target_is_chosen_and_who_never_reaches_it_is_counted(trained: Study) -> None:
    (found,) = (one.draw() for one in chosen(plan_figures(trained), ["target-cost"]))
    first, *_, last = found.figure.axes
    assert first.get_title(loc="left") == "iid: to 65%", "what one of two reaches: 68.3%"
    assert texts(last) == ["3/3", "0/3"]
    crosses = [list(line.get_xdata()) for line in last.lines if line.get_marker() == "x"]
    assert crosses == [[101.0]], "FedAvg, at what it spent"
    assert "fewest rounds and bytes and FLOPs FedTiny" in found.caption


def test_a_seed_that_failed_reaches_nothing(study_of: MakeStudy) -> None:
    def lines(cell: Cell) -> list[Mapping[str, float]]:
        return [] if cell.method == "fedavg" and cell.seed == 2 else evaluated([1, 2, 3], [0.9, 0.9, 0.9])

    planned = cells(("fedtiny", "fedavg"), alphas=("iid",), sparsities=(0.8,), seeds=(0, 1, 2))
    study = study_of(
        planned, lambda cell: "diverged" if cell.method == "fedavg" and cell.seed == 2 else "ok", lines=lines
    )
    (found,) = (one.draw() for one in chosen(plan_figures(study), ["target-cost"]))
    assert texts(found.figure.axes[-1]) == ["3/3", "2/3"]

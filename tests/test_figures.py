"""Figures of a run: which there are, how they are asked for, and that they draw what records say."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfore.cell import Cell, cell_id
from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.judgement.estimates import estimate
from fedfore.plots.drawing.facets import MOST_SERIES
from fedfore.plots.drawing.style import COLUMN_WIDTH, FULL_WIDTH
from fedfore.plots.figures import chosen, plan_figures, png, write_figures
from fedfore.plots.looks import METHODS as LOOKS
from fedfore.plots.study import Study, load_study
from fedfore.plots.view import Drawn, Options
from fedfore.plots.wording import DAGGER
from fedfore.records.metrics import PEAK_PARTS
from tests.drawn import assert_readable, legend, names, notes, points, rows
from tests.synthetic import METHODS, accuracy, cells, made_to_fail, write_run

MakeStudy = Callable[..., Study]
MINUS = "\N{MINUS SIGN}"
ALPHA = "\N{GREEK SMALL LETTER ALPHA} = 0.1"

FIGURES = ("accuracy", "curves", "target-cost", "cost")
"""The figures that every study of trained cells has, in order."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("figures") / "synthetic"
    write_run(folder, cells(alphas=("iid", 0.1)), made_to_fail, change=lambda cell: {"chance_accuracy": 0.1})
    return load_study(folder)


@pytest.fixture
def study_of(tmp_path: Path) -> MakeStudy:
    runs = itertools.count()

    def make(planned: list[Cell], *args: Any, **options: Any) -> Study:
        run = tmp_path / str(next(runs))
        write_run(run, planned, *args, **options)
        return load_study(run)

    return make


def drawn(study: Study, name: str, options: Options = Options(FULL_WIDTH)) -> Drawn:  # noqa: B008
    """Draw the one figure whose name begins so."""
    first, *_ = chosen(plan_figures(study, options), [name])
    return first.draw()


# Which there are, and how they are asked for


def test_figures_are_known_by_name_and_title_before_they_are_drawn(study: Study) -> None:
    planned = plan_figures(study)
    names = ("forest", "pareto", "accuracy", "accuracy-sparsity", "curves", "target-cost", "sparsity-alpha", "cost")
    assert [one.name for one in planned] == [f"{name}-digits-lenet5" for name in names]
    assert planned[3].title == "Accuracy against sparsity: digits, lenet5"


def test_each_dataset_and_model_has_its_own_figures(study_of: MakeStudy) -> None:
    one = cells(("fedtiny",), alphas=("iid",), seeds=(0,), sparsities=(0.8,))
    other = cells(
        ("fedtiny",), alphas=("iid",), seeds=(0,), sparsities=(0.8,), dataset="cifar10", model="resnet20:norm=batch"
    )
    found = [planned.name for planned in plan_figures(study_of([*one, *other]))]
    own = [name for name in found if not name.startswith(("forest", "pareto"))]
    assert len(set(own)) == len(own) == 2 * len(FIGURES)
    assert "cost-cifar10-resnet20-norm-batch" in found


def test_methods_on_variants_of_a_model_share_a_figure_unless_all_ran_on_both(study_of: MakeStudy) -> None:
    axes: dict[str, Any] = {"alphas": ("iid",), "sparsities": (0.8,)}
    plan = cells(("fedtiny", "fedavg"), model="resnet14", **axes) + cells(
        ("fedmef",), model="resnet14:norm=none", **axes
    )
    joined = study_of(plan)
    found = [one.name for one in plan_figures(joined) if one.name.endswith("-digits-resnet14")]
    assert found == [f"{name}-digits-resnet14" for name in FIGURES]
    assert names(drawn(joined, "accuracy").figure.axes[0]) == ["FedTiny", "FedMef, norm=none", "FedAvg (dense)"]
    both = [
        *plan,
        *cells(("fedtiny", "fedavg"), model="resnet14:norm=none", **axes),
        *cells(("fedmef",), model="resnet14", **axes),
    ]
    apart = {
        one.name.removeprefix("accuracy-digits-") for one in chosen(plan_figures(study_of(both)), ["accuracy-digits"])
    }
    assert apart == {"resnet14", "resnet14-norm-none"}


def test_a_name_chooses_figures_by_its_beginning_and_a_wrong_one_is_told_the_near(study: Study) -> None:
    planned = plan_figures(study)
    assert [one.name for one in chosen(planned, ["cost", "accuracy-sparsity-digits-lenet5"])] == [
        "accuracy-sparsity-digits-lenet5", "cost-digits-lenet5",
    ]  # fmt: skip
    assert chosen(planned, []) == planned
    with pytest.raises(ConfigError, match=r'no figure "cots-digits-lenet5".*Did you mean "cost-digits-lenet5"'):
        chosen(planned, ["cots-digits-lenet5"])
    with pytest.raises(ConfigError, match=r'no figure "co" .*Known: accuracy-digits-lenet5, '):
        chosen(planned, ["co"])


@pytest.mark.thorough
def test_plot_writes_the_chosen_figures_with_their_captions(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(study.run.path)
    assert main(["plot", run, "--list"]) == 0
    assert "cost-digits-lenet5: Device memory and compute: digits, lenet5\n" in capsys.readouterr().out
    assert main(["plot", run, "--only", "cost", "--width", "3.3", "--captions", "--no-title"]) == 0
    folder = study.run.path / "figures"
    assert {path.name for path in folder.iterdir()} == {
        f"cost-digits-lenet5.{ending}" for ending in ("png", "pdf", "txt")
    }
    assert "Peak of live tensor bytes" in (folder / "cost-digits-lenet5.txt").read_text(encoding="utf-8")
    assert struct.unpack(">I", (folder / "cost-digits-lenet5.png").read_bytes()[16:20])[0] == int(COLUMN_WIDTH * 150)
    assert (folder / "cost-digits-lenet5.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.thorough
def test_without_a_title_a_figure_has_neither_message_nor_subject(study: Study) -> None:
    texts = [notes(drawn(study, "cost", Options(title=shown)).figure) for shown in (True, False)]
    assert texts[0].startswith("Lowest peak memory: ") and "digits, lenet5" in texts[0]
    assert texts[1].startswith("Metered") and "digits, lenet5" not in texts[1]


def test_another_metric_takes_the_place_of_the_accuracy(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    panel = drawn(study, "accuracy", Options(metric="uplink_bytes")).figure.axes[0]
    assert panel.get_xlabel() == "Uplink bytes (MiB)\N{NO-BREAK SPACE}↓"
    assert rows(panel)["BAFFLE"].mean == 2_400_000
    with pytest.raises(ConfigError, match=r'no metric "test_acuracy".*Did you mean "test_accuracy"'):
        plan_figures(study, Options(metric="test_acuracy"))
    assert main(["plot", str(study.run.path), "--metric", "uplink"]) == 2
    assert "Did you mean" in capsys.readouterr().err


@pytest.mark.thorough
def test_figures_are_written_alike_twice_whatever_the_users_settings_are(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib

    before = png(drawn(study, "cost"))
    ugly = tmp_path / "matplotlibrc"
    ugly.write_text("font.size: 31\naxes.facecolor: red\nfigure.dpi: 30\ntext.usetex: True\nsavefig.bbox: tight\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(ugly))
    with matplotlib.rc_context(fname=str(ugly)):
        assert png(drawn(study, "cost")) == before
        assert matplotlib.rcParams["font.size"] == 31, "the user's settings are left as they were"


@pytest.mark.slow
def test_a_pdf_is_written_alike_twice(study: Study) -> None:
    one, other = ([path.pdf.read_bytes() for path in write_figures(study.run.path)] for _ in range(2))
    assert one == other


# Accuracy


def test_rows_of_accuracy_draw_seeds_mean_and_interval(study: Study) -> None:
    figure = drawn(study, "accuracy").figure
    iid, minus, skewed, _ = figure.axes
    assert [panel.get_title(loc="left") for panel in (iid, skewed)] == ["iid", ALPHA]
    own = rows(iid)["Fed-NTK + ZO, sparsity 0.8"]
    values = [accuracy(cell) for cell in cells(("fed_ntk_zo",), alphas=("iid",), sparsities=(0.8,))]
    expected = estimate(values)
    assert own.seeds == pytest.approx(values) and own.mean == pytest.approx(expected.mean)
    assert own.interval == pytest.approx((expected.low, expected.high))
    reference = [accuracy(cell) for cell in cells(("fedavg",), alphas=("iid",))]
    differences = np.subtract(values, reference)
    assert rows(minus)["Fed-NTK + ZO, sparsity 0.8"].seeds == pytest.approx(list(differences))
    assert "FedAvg (dense)" in rows(iid) and "FedAvg (dense)" not in rows(minus)
    assert "n = 3 seeds" in notes(figure) and "95% interval" in notes(figure)


@pytest.mark.thorough
def test_seeds_that_failed_count_as_chance_and_are_said(study: Study) -> None:
    figure = drawn(study, "accuracy").figure
    assert rows(figure.axes[2])["FedMef, sparsity 0.9"].mean == pytest.approx(0.1), "all three failed"
    assert "FedTiny, sparsity 0.5" not in rows(figure.axes[0]), "was not run"
    assert f"Counted as chance: FedMef, {ALPHA}, sparsity 0.9: 2 diverged and 1 failed of 3 seeds." in notes(figure)
    assert "3 cells not shown: 3 missing." in notes(figure)


@pytest.mark.thorough
def test_accuracy_against_sparsity_draws_curves_and_lines(study: Study) -> None:
    figure = drawn(study, "accuracy-sparsity").figure
    above, _, below, _ = figure.axes
    assert above.get_title() == "iid"
    values = [accuracy(cell) for cell in cells(("fed_ntk_zo",), alphas=("iid",), sparsities=(0.5,))]
    shown = list(points(above, upright=True).values())
    assert any(own.seeds == pytest.approx(values) for own in shown)
    curve = next(
        line
        for line in above.lines
        if line.get_color() == LOOKS["fed_ntk_zo"].colour.lower() and len(line.get_xdata()) == 4
    )
    assert np.diff(np.asarray(curve.get_xdata(), dtype=float)).min() > 0
    flat = {line.get_color() for line in above.lines if list(line.get_xdata()) == [0, 1]}
    assert flat == {LOOKS["baffle"].colour.lower(), LOOKS["fedavg"].colour.lower()}
    assert below.get_ylabel().replace("\n", " ") == "minus FedAvg (dense) (points)"
    assert set(legend(figure)) == {LOOKS[name].label for name in METHODS}


@pytest.mark.thorough
def test_a_panel_over_sparsity_holds_few_series_all_minus_the_reference(study_of: MakeStudy) -> None:
    made = study_of(cells(alphas=("iid",), seeds=(0,), num_perturbations=tuple(range(1, 10))))
    found = [one for one in plan_figures(made) if one.name.startswith("accuracy-sparsity")]
    pages = [one.draw().figure for one in found]
    assert len(pages) > 1 and max(len(legend(page)) for page in pages) <= MOST_SERIES
    assert all(len(points(page.axes[1], upright=True)) for page in pages)


@pytest.mark.thorough
def test_a_single_seed_has_no_interval_and_two_leave_theirs_to_the_tables(study_of: MakeStudy) -> None:
    one = drawn(study_of(cells(seeds=(0,), alphas=("iid",), sparsities=(0.8,))), "accuracy")
    assert all(own.interval is None for own in rows(one.figure.axes[0]).values())
    assert "no interval" in notes(one.figure) and "no interval" in one.caption
    two = drawn(study_of(cells(seeds=(0, 1), alphas=("iid",), sparsities=(0.8,))), "accuracy")
    assert all(own.interval is None and len(own.seeds) == 2 for own in rows(two.figure.axes[0]).values())
    assert "Tables have the intervals of two" in notes(two.figure)


def test_points_that_are_not_certified_are_hollow(study_of: MakeStudy) -> None:
    made = study_of(
        cells(("fedavg", "fed_ntk_zo", "baffle"), sparsities=(0.8,), alphas=("iid",)),
        scalar_errors=lambda cell: (0.05, 0.3) if cell.method == "baffle" else (0.05, 0.05),
    )
    figure = drawn(made, "accuracy").figure
    assert {name: own.hollow for name, own in rows(figure.axes[0]).items()} == {
        "Fed-NTK + ZO": False, "BAFFLE": True, "FedAvg (dense)": False,
    }  # fmt: skip
    assert "Hollow: Not certified: at 1 of 2 points" in notes(figure)


def test_controls_are_under_a_heading_of_their_own(study_of: MakeStudy) -> None:
    plan = cells(("baffle",), alphas=("iid",))
    exact = [replace(one, estimator="exact") for one in plan]
    made = study_of([*plan, *(replace(one, id=cell_id(one, {})) for one in exact)])
    figure = drawn(made, "accuracy").figure
    assert names(figure.axes[0]) == ["BAFFLE", "Controls", "BAFFLE, exact gradient"]
    assert set(rows(figure.axes[0])) == {"BAFFLE", "BAFFLE, exact gradient"}


def test_the_message_is_what_the_matrix_asked(study_of: MakeStudy) -> None:
    plan = cells(("fedavg", "baffle"), alphas=("iid", 0.1), seeds=range(5))
    asked = '[[contrast]]\nname = "forward passes"\nof = { method = "baffle" }\nagainst = { method = "fedavg" }\n'
    run = study_of(plan).run.path
    (run / "matrix.toml").write_text(asked)
    text = notes(drawn(load_study(run), "accuracy").figure)
    assert text.startswith("Forward passes: worse digits, lenet5")


# Costs


@pytest.mark.thorough
def test_bars_of_peak_memory_add_up(study: Study) -> None:
    memory, compute = drawn(study, "cost").figure.axes
    own = study.ok[study.ok["series"] == "Fed-NTK + ZO"].iloc[0]
    place = memory.get_yticks()[names(memory).index("Fed-NTK + ZO, sparsity 0 = BAFFLE")]
    bars = [bar for bar in memory.patches if abs(bar.get_y() + bar.get_height() / 2 - place) < 1e-6]
    assert sum(bar.get_width() for bar in bars) == own["peak_device_bytes"]
    assert sorted(bar.get_width() for bar in bars if bar.get_width()) == sorted(
        own[part] for part in PEAK_PARTS if own[part]
    )
    assert points(compute)[round(float(place), 6)].mean == own["device_step_flops"]
    assert names(memory)[:2] == ["Fed-NTK + ZO, sparsity 0 = BAFFLE", "Fed-NTK + ZO, sparsity 0.5"]


def test_setup_and_training_have_bars_of_their_own(study_of: MakeStudy) -> None:
    peaks = {"peak_device_bytes_setup": 4_000_000, "peak_device_bytes_train": 1_000_000, "peak_device_bytes": 4_000_000}
    made = study_of(
        cells(("fed_ntk_zo", "fedavg"), alphas=("iid",), sparsities=(0.8,)),
        change=lambda cell: peaks if cell.method == "fed_ntk_zo" else {},
    )
    figure = drawn(made, "cost").figure
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written[:2] == ["3.81 setup", "0.95 training"] and not written[2].endswith(("setup", "training"))
    assert "other phase (parts not recorded)" in legend(figure)


def test_series_that_cost_the_same_are_one_row(study_of: MakeStudy) -> None:
    plan = cells(("fedtiny", "fedmef", "fedavg"), alphas=("iid",), sparsities=(0.8,))
    plan += [replace(one, params={**one.params, "lr": 0.2}) for one in plan if one.method == "fedtiny"]
    made = study_of([replace(one, id=cell_id(one, {})) for one in plan])
    figure = drawn(made, "cost").figure
    assert names(figure.axes[0]) == ["FedTiny, lr=0.1 = 2 others", "FedAvg (dense)"]


def test_missing_cost_metrics_are_said_not_drawn_as_zero(study_of: MakeStudy) -> None:
    made = study_of(
        cells(("fedavg",), alphas=("iid",)),
        change=lambda cell: dict.fromkeys(["peak_device_bytes", "device_step_flops", *PEAK_PARTS]),
    )
    assert [text.get_text() for panel in drawn(made, "cost").figure.axes for text in panel.texts] == [
        "not measured"
    ] * 2


def test_stale_records_are_marked(study_of: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedfore.records.table.present_code", lambda files: lambda method, scheme: "new")
    made = study_of(
        cells(("fedavg", "fedtiny"), alphas=("iid",), sparsities=(0.8,)),
        change=lambda cell: {"code_sha256": "old" if cell.method == "fedtiny" else "new"},
    )
    for kind in ("accuracy", "cost"):
        figure = drawn(made, kind).figure
        assert sorted(names(figure.axes[0])) == ["FedAvg (dense)", f"FedTiny {DAGGER}"]
        assert f"{DAGGER} includes records" in notes(figure)


# Layout


@pytest.mark.parametrize("width", [pytest.param(FULL_WIDTH, marks=pytest.mark.slow), COLUMN_WIDTH])
@pytest.mark.thorough
def test_nothing_overlaps_with_many_methods_and_failures(tmp_path: Path, width: float) -> None:
    methods = (*METHODS, "fedavg_erk", "my_method")
    plan = cells(methods, alphas=("iid", 0.1), seeds=(0, 1), sparsities=(0.8, 0.9), num_perturbations=(100, 500))
    statuses = {0.8: ("ok", "out_of_memory"), 0.9: ("timeout", "diverged"), 0.0: ("ok", "ok")}
    write_run(tmp_path, plan, lambda cell: statuses[cell.sparsity][cell.seed])
    for one in chosen(plan_figures(load_study(tmp_path), Options(width)), ["accuracy-digits", "cost"]):
        assert_readable(one.draw().figure, one.name)

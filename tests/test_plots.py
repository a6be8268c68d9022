"""Figures, tables and findings, on made-up runs: the statistics against numbers worked out by hand."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedfore.cell import Cell, cell_id
from fedfore.errors import StoreError
from fedfore.judgement.estimates import estimate, half_width
from fedfore.plots.figures import write_figures
from fedfore.plots.findings import answer, findings
from fedfore.plots.points import points, records
from fedfore.plots.report.page import write_report
from fedfore.plots.study import Study, load_study, shown_sparsity
from fedfore.plots.tables.show import FORMATS, render
from fedfore.plots.wording import axis_label, human_bytes, human_count
from fedfore.records.metrics import METRICS
from tests.synthetic import accuracy, cells, made_to_fail, write_run

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plots") / "synthetic"
    planned = cells(alphas=("iid", 0.1), num_perturbations=(100,))
    write_run(folder, planned, made_to_fail)
    return folder


@pytest.fixture
def study_of(tmp_path: Path) -> MakeStudy:
    def make(planned: list[Cell], *args: Any, **options: Any) -> Study:
        write_run(tmp_path / "run", planned, *args, **options)
        return load_study(tmp_path / "run")

    return make


def renamed(cell: Cell, **params: Any) -> Cell:
    """Return the cell with other parameters and its id."""
    changed = replace(cell, params={**cell.params, **params})
    return replace(changed, id=cell_id(changed, {}))


def test_a_variant_stands_behind_the_methods_name_also_for_cells_of_that_model_that_failed(
    study_of: MakeStudy,
) -> None:
    published = cells(("fedtiny", "fedavg"), alphas=("iid",), seeds=(0,), model="resnet20:norm=batch")
    varied = cells(("fedtiny", "fedavg"), alphas=("iid",), model="lenet5")

    def change(cell: Cell) -> dict[str, Any]:
        return {"method_variant": "loss selection"} if cell in varied and cell.method == "fedtiny" else {}

    def status(cell: Cell) -> str:
        return "failed" if cell.seed == 1 else "ok"

    study = study_of([*published, *varied], status, change=change)
    assert [one.label for one in study.series] == ["FedTiny", "FedTiny (loss selection)", "FedAvg (dense)"]
    named = study.cells[study.cells["series"] == "FedTiny (loss selection)"]
    assert set(named["model"]) == {"lenet5"} and set(named["status"]) == {"ok", "failed"}


# Statistics


@pytest.mark.parametrize(
    ("values", "mean", "half_width"),
    [
        ([1.0, 2.0, 3.0], 2.0, 4.302653 / math.sqrt(3)),  # deviation 1, t(0.975, 2) = 4.302653
        ([0.0, 1.0], 0.5, 12.706205 * 0.5),  # deviation 1 / sqrt 2, t(0.975, 1) = 12.706205
        ([5.0, 5.0, 5.0, 5.0], 5.0, 0.0),
    ],
)
def test_interval_is_students_95_percent(values: list[float], mean: float, half_width: float) -> None:
    found = estimate(values)
    assert (found.mean, found.n) == (mean, len(values))
    assert found.half_width == pytest.approx(half_width, rel=1e-6)


def test_there_is_no_interval_below_two_values() -> None:
    assert math.isnan(estimate([0.5]).half_width) and estimate([0.5]).mean == 0.5
    assert math.isnan(estimate([]).mean) and estimate([]).n == 0
    assert list(np.isnan(half_width(0.0, [0, 1, 2]))) == [True, True, False]


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(-2, 2), st.floats(0.1, 10))
def test_interval_moves_and_scales_with_the_values(values: list[float], shift: float, scale: float) -> None:
    before, after = estimate(values), estimate([shift + scale * value for value in values])
    assert after.mean == pytest.approx(shift + scale * before.mean, abs=1e-9)
    assert after.half_width == pytest.approx(scale * before.half_width, abs=1e-9)


def test_points_count_failures_as_chance_in_accuracies_alone(study_of: MakeStudy) -> None:
    measured = {0: 0.80, 1: 0.90, 2: 0.50}
    study = study_of(
        cells(("fedavg",), alphas=("iid",)),
        lambda cell: "diverged" if cell.seed == 2 else "ok",
        change=lambda cell: {"test_accuracy": measured[cell.seed], "peak_device_bytes": 10 + cell.seed},
    )
    (row,) = records(points(study.cells, ["test_accuracy", "peak_device_bytes"]))
    assert (row["n_ok"], row["n_planned"], row["n_failed"], row["stale"]) == (2, 3, 1, False)
    assert row["test_accuracy"] == pytest.approx((0.8 + 0.9 + 0.1) / 3)
    assert row["peak_device_bytes"] == 10.5


def test_a_metric_missing_in_some_records_is_averaged_over_the_others(study_of: MakeStudy) -> None:
    study = study_of(
        cells(("fedavg",), alphas=("iid",)),
        change=lambda cell: {"device_step_flops": 10 + cell.seed if cell.seed else None},
    )
    (row,) = records(points(study.cells, ["device_step_flops"]))
    assert row["n_ok"] == 3
    assert row["device_step_flops"] == 11.5


# Series


def test_a_series_is_the_method_and_what_tells_its_cells_apart(study_of: MakeStudy) -> None:
    study = study_of(cells(("baffle", "fed_ntk_zo", "fedavg"), num_perturbations=(500, 50)))
    assert [(one.label, one.variant, one.has_sparsity) for one in study.series] == [
        ("Fed-NTK + ZO, K=50", 0, True),
        ("Fed-NTK + ZO, K=500", 1, True),
        ("BAFFLE, K=50", 0, False),
        ("BAFFLE, K=500", 1, False),
        ("FedAvg (dense)", 0, False),
    ]


def test_a_parameter_with_one_value_a_point_does_not_split_a_series(study_of: MakeStudy) -> None:
    tuned = [renamed(cell, lr=0.1 * (1 + cell.sparsity)) for cell in cells(("fedtiny",))]
    study = study_of(tuned)
    assert [one.label for one in study.series] == ["FedTiny"]
    assert len(study.tuned) == 1 and "lr differs" in study.tuned[0] and "0.1, 0.15, 0.18, 0.19" in study.tuned[0]


def test_a_parameter_that_varies_within_a_point_splits_even_where_seeds_do_not_overlap(study_of: MakeStudy) -> None:
    study = study_of([renamed(cell, lr=0.1 if cell.seed else 0.2) for cell in cells(("fedtiny",))])
    assert [one.label for one in study.series] == ["FedTiny, lr=0.1", "FedTiny, lr=0.2"]


def test_a_training_setting_and_the_estimator_split_a_series(study_of: MakeStudy) -> None:
    base = cells(("baffle",), alphas=("iid",))
    others = [replace(cell, train=replace(cell.train, clients=20)) for cell in base]
    others += [replace(cell, estimator="finite_difference") for cell in base]
    study = study_of([*base, *(replace(cell, id=cell_id(cell, {})) for cell in others)])
    assert sorted(one.label for one in study.series) == [
        "BAFFLE, 10 clients, directional",
        "BAFFLE, 10 clients, finite differences",
        "BAFFLE, 20 clients, directional",
    ]


def test_a_series_says_what_differs_from_its_methods_reference_setting_first_and_controls_last(
    study_of: MakeStudy,
) -> None:
    (one, *_) = cells(("baffle",), alphas=("iid",))
    plan = [renamed(one, num_perturbations=count, init_scale=scale) for count in (50, 500) for scale in (0.7, 1.0)]
    exact = renamed(replace(one, estimator="exact"), num_perturbations=500, init_scale=1.0)
    study = study_of([exact, *plan])
    assert [one.label for one in study.series] == [
        "BAFFLE, K=50",
        "BAFFLE, K=50, init \N{MULTIPLICATION SIGN} 0.7",
        "BAFFLE, K=500",
        "BAFFLE, K=500, init \N{MULTIPLICATION SIGN} 0.7",
        "BAFFLE, exact gradient",
    ]


def test_values_whose_names_say_the_same_are_said_in_full(study_of: MakeStudy) -> None:
    plan = cells(("my_method",), alphas=("iid",))
    study = study_of([renamed(one, memory=value) for one in plan for value in (None, "none")])
    assert sorted(one.label for one in study.series) == ["my_method", "my_method, memory=none"]


def test_alphas_go_from_alike_to_different(study_of: MakeStudy) -> None:
    study = study_of(
        cells(
            ("fedavg",),
            alphas=(
                "shards:2",
                0.1,
                "iid",
                "file:b@0123456789ab",
                "natural",
                "0.1,quantity:2",
                "quantity:0.5",
                100.0,
                "shards:10",
                "0.1,quantity:0.5",
                1.0,
                "quantity:10",
                "file:a@0123456789ab",
            ),
        )
    )
    labels = list(study.cells["alpha"].cat.categories)
    assert [label.replace("\N{GREEK SMALL LETTER ALPHA}", "a") for label in labels] == [
        "iid", "quantity 10", "quantity 0.5", "a = 100", "a = 1", "a = 0.1", "a = 0.1 + quantity 2",
        "a = 0.1 + quantity 0.5", "shards: 10", "shards: 2", "natural", "file a", "file b",
    ]  # fmt: skip


def test_two_partition_files_of_one_name_are_two_settings(study_of: MakeStudy) -> None:
    alphas = ("file:a@0123456789ab", "file:a@ba9876543210")
    study = study_of(cells(("fedavg",), alphas=alphas, seeds=(0, 1)))
    assert list(study.cells["alpha"].cat.categories) == ["file a 0123456789ab", "file a ba9876543210"]
    assert study.cells.groupby("alpha", observed=True)["seed"].nunique().tolist() == [2, 2]


def test_the_shown_sparsity_is_the_lower_median_above_zero(study_of: MakeStudy) -> None:
    study = study_of(
        cells(("fedtiny", "baffle"), sparsities=(0.0, 0.5, 0.8, 0.9, 0.95)),
        lambda cell: "failed" if cell.sparsity == 0.5 else "ok",
    )
    assert shown_sparsity(study.cells, study.series) == 0.9
    assert shown_sparsity(study.cells[study.cells["method"] == "baffle"], study.series) is None


# Curves


# Style


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 * 1024**2, "5 MiB"), (123456789, "118 MiB")],
)
def test_bytes_are_written_in_binary_units(value: float, text: str) -> None:
    assert human_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1500, "1.5 k"), (1_303_440, "1.3 M"), (2e12, "2 T")]
)
def test_counts_are_written_with_si_prefixes(value: float, text: str) -> None:
    assert human_count(value) == text


def test_axis_labels_carry_units_and_direction() -> None:
    assert axis_label("test_accuracy") == "Test accuracy (%) ↑"
    assert axis_label("test_loss") == "Test loss (nats) ↓"
    assert axis_label("uplink_bytes", "all clients") == "Uplink bytes (all clients) ↓"
    assert axis_label("label_skew_tv") == METRICS["label_skew_tv"].label


# Figures


# A run in which nothing finished


def test_a_run_without_a_result_is_one_sentence_for_figures_and_a_report_of_reasons(tmp_path: Path) -> None:
    write_run(tmp_path, cells(("fedavg",)), lambda cell: "missing" if cell.seed else "failed")
    with pytest.raises(StoreError, match="None of the 9 planned cells"):
        write_figures(tmp_path)
    html = write_report(tmp_path).read_text()
    assert "No planned cell has finished well" in html and "made up to be failed" in html and "not run yet" in html
    assert all(render(tmp_path, name) for name in FORMATS)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no run directory"):
        write_report(tmp_path)


# Tables


def test_latex_has_no_bare_special_character(run: Path) -> None:
    text = str(render(run, "latex"))
    assert text.isascii() and not re.search(r"(?<!\\)[%_#]", text)


def test_json_has_null_where_a_value_is_missing(run: Path) -> None:
    text = str(render(run, "json"))
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert len(rows) == 84
    failed = next(row for row in rows if row["status"] == "failed")
    assert failed["test_accuracy"] is None and failed["reason"] == "made up to be failed"
    planned = {cell.id: cell for cell in cells(alphas=("iid", 0.1), num_perturbations=(100,))}
    ok = next(row for row in rows if row["status"] == "ok")
    assert ok["test_accuracy"] == accuracy(planned[ok["cell_id"]])


def test_csv_and_parquet_hold_the_same_table(run: Path) -> None:
    parquet = render(run, "parquet")
    assert isinstance(parquet, bytes)
    tables = [pd.read_csv(io.StringIO(str(render(run, "csv")))), pd.read_parquet(io.BytesIO(parquet))]
    assert list(tables[0].columns) == list(tables[1].columns)
    for name in ("cell_id", "alpha", "test_accuracy", "peak_device_bytes", "params.num_perturbations"):
        left, right = (list(table[name].fillna(-1)) for table in tables)
        assert left == (pytest.approx(right) if isinstance(right[0], float) else right)


def test_parquet_without_pyarrow_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match=r"fedfore\[parquet\]"):
        render(run, "parquet")


# Findings


NEAR, FAR = (0.05, 0.05), (0.05, 0.30)


@pytest.mark.parametrize(
    ("errors", "certificate"),
    [
        ((NEAR, NEAR, FAR), "certified"),  # 0.091 at the end, in the geometric mean; 0.133 in the arithmetic one
        ((NEAR, FAR, FAR), "uncertified"),  # 0.165 at the end
        (((0.30, 0.01),) * 3, "uncertified"),  # at every milestone, not on average over them
        ((NEAR, (0.0, 0.0), NEAR), "certified"),
        ((NEAR, NEAR, (0.05, None)), "unknown"),
        ((NEAR, NEAR, ()), "unknown"),
    ],
)
def test_a_point_is_certified_by_all_of_its_seeds_together(
    study_of: MakeStudy, errors: tuple[tuple[float | None, ...], ...], certificate: str
) -> None:
    study = study_of(
        cells(("fedavg", "baffle"), alphas=("iid",)),
        scalar_errors=lambda cell: errors[cell.seed],
    )
    assert list(study.cells["certificate"]) == [certificate if own == "baffle" else "" for own in study.cells["method"]]
    assert list(study.cells["withheld"]) == [mark not in ("", "certified") for mark in study.cells["certificate"]]


@pytest.mark.thorough
def test_points_that_are_not_certified_are_marked_and_compared_with_nothing(study_of: MakeStudy) -> None:
    study = study_of(
        cells(("fedavg", "fed_ntk_zo", "baffle"), sparsities=(0.8,), alphas=("iid",)),
        change=lambda cell: {"test_accuracy": 0.99} if cell.method == "baffle" else {},
        scalar_errors=lambda cell: FAR if cell.method == "baffle" and cell.seed else NEAR,
    )
    best, *others = answer(study)
    assert best.startswith("iid: FedAvg (dense) has the highest") and "BAFFLE" not in best
    assert best.endswith("; 1 of 3 points are not ranked.")
    assert any("Total device FLOPs" in one and "BAFFLE" in one for one in others), "costs need no certificate"
    text = " ".join(sentence for found in findings(study) for sentence in found.sentences)
    assert "iid: not ranked, because its simulation is not certified: BAFFLE." in text
    assert "1 of 2 points with directional or moment" in text and "1 differ by more: marked ‡" in text
    note = "‡ Not certified: at 1 of 2 points computed scalars differ from real finite differences by more than 10%"
    markdown, report = str(render(study.run.path, "markdown")), write_report(study.run.path).read_text()
    assert "| BAFFLE ‡ |" in markdown and note in markdown and note in report
    assert "BAFFLE $^\\ddagger$ &" in str(render(study.run.path, "latex"))

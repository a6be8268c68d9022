"""`fedfore compare`: contrasts of matrices, every series against one over runs and models, cells that two runs have."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.records.packed import MATRIX
from fedfore.records.store import LiveRun, pack
from tests.synthetic import cells, write_run

SEEDS = (0, 1, 2, 3, 4)
LEVELS = {"fedavg": 0.9, "fedtiny": 0.9, "fedmef": 0.85, "baffle": 0.8}
NOISE = {
    "fedavg": (0.0, 0.0, 0.0, 0.0, 0.0),
    "fedtiny": (0.01, -0.012, 0.004, 0.0, -0.003),
    "fedmef": (0.004, -0.003, 0.002, 0.0, 0.001),
    "baffle": (0.002, 0.0, -0.001, 0.003, 0.001),
}
CONTRASTS = """
[[contrast]]
name = "pruned against dense"
of = { method = "fedtiny" }
against = { method = "fedavg" }
margin = 0.01
[[contrast]]
name = "memory"
of = { method = "baffle" }
against = { method = "fedavg" }
metric = "peak_device_bytes"
compare = "ratio"
"""
Compare = Callable[..., tuple[int, str, str]]


def plan(*methods: str, **given: Any) -> list[Cell]:
    return cells(methods, **{"alphas": ("iid", 0.1), "sparsities": (0.8,), "seeds": SEEDS, **given})


def write(folder: Path, planned: Sequence[Cell], matrix: str = "", **given: Any) -> Path:
    def known(cell: Cell) -> dict[str, Any]:
        return {"test_accuracy": LEVELS[cell.method] + NOISE[cell.method][cell.seed % 5], "chance_accuracy": 0.1}

    change = given.pop("change", lambda cell: {})
    write_run(folder, planned, change=lambda cell: {**known(cell), **change(cell)}, **given)
    (folder / MATRIX).write_text(matrix)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three runs: with contrasts, without, and of another model."""
    folder = tmp_path_factory.mktemp("runs")
    write(folder / "asked", plan("fedavg", "fedtiny", "baffle"), CONTRASTS)
    write(folder / "more", plan("fedmef"))
    write(folder / "other", plan("fedmef", alphas=("iid",), model="resnet14:norm=none"))
    return folder


@pytest.fixture
def compare(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Compare:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(runs)
        status = main(["compare", *map(str, arguments)])
        return status, *capsys.readouterr()

    return call


def rows(text: str) -> list[dict[str, str]]:
    """Return the rows of the first table in a Markdown text."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in body]


# The contrasts of matrices


def test_the_contrasts_of_a_run_are_judged_and_its_leaders_told(compare: Compare) -> None:
    status, out, _ = compare("asked")
    assert status == 0 and out.startswith("## asked\n")
    pruned, _, memory, _ = rows(out)
    assert (pruned["contrast"], pruned["setting"], pruned["seeds"]) == ("pruned against dense", "alpha iid", "5")
    assert pruned["difference or ratio"].startswith("-0.0 points [-1.") and pruned["verdict"] == "inconclusive"
    assert (memory["difference or ratio"], memory["verdict"], memory["margin"]) == ("0.42x", "better", "")
    assert "2 comparisons, and 2 metered, were fixed before the cells ran" in out
    assert "iid: FedAvg (dense) has the highest mean test accuracy" in out


def test_a_run_without_contrasts_says_so(compare: Compare) -> None:
    status, out, _ = compare("more")
    assert status == 0 and "The matrix fixed no contrast" in out and "|" not in out


def test_an_axis_becomes_columns(compare: Compare) -> None:
    pruned, memory = rows(compare("asked", "--by", "alpha")[1])
    assert list(pruned) == ["contrast", "alpha iid", "alpha 0.1"] and pruned["alpha 0.1"].endswith(", inconclusive")
    assert memory["alpha iid"] == memory["alpha 0.1"] == "0.42x, better"


def test_one_metric_can_be_asked_for(compare: Compare) -> None:
    assert {row["contrast"] for row in rows(compare("asked", "--metric", "peak_device_bytes")[1])} == {"memory"}


# A baseline


def test_every_series_is_compared_with_a_baseline_over_runs(compare: Compare) -> None:
    status, out, _ = compare("asked", "more", "--baseline", "fedavg")
    found = {(row["contrast"], row["setting"]): row for row in rows(out)}
    assert status == 0 and out.startswith("## Test accuracy, minus FedAvg (dense)\n")
    assert set(found) == {
        (name, f"alpha {alpha}") for name in ("FedTiny", "BAFFLE", "FedMef") for alpha in ("iid", "0.1")
    }
    assert "Exploratory: chosen after looking. Holm's correction is over the 6 comparisons printed here." in out
    assert found["FedMef", "alpha iid"]["verdict"] == "worse", "paired by seed with another run"
    assert found["FedTiny", "alpha iid"]["verdict"] == "inconclusive"


def test_a_baseline_of_one_model_is_compared_with_series_of_others(compare: Compare) -> None:
    out = compare("asked", "other", "--baseline", "FedAvg (dense)")[1]
    (mef,) = (row for row in rows(out) if row["contrast"] == "FedMef")
    assert mef["setting"] == "" or "model" not in mef["setting"]
    assert mef["difference or ratio"].startswith("-4.9 points") and mef["seeds"] == "5"


def test_what_the_baseline_never_meets_is_not_compared_and_said(compare: Compare, runs: Path) -> None:
    write(runs / "elsewhere", plan("fedtiny", alphas=(10.0,)))
    out = compare("asked", "elsewhere", "--baseline", "baffle", "--by", "alpha")[1]
    assert all("alpha 10" not in row for row in rows(out))
    alone = compare("elsewhere", "other", "--baseline", "fedmef")[1]
    assert "Not compared, since no setting of theirs is one of FedMef: FedTiny." in alone


def test_a_margin_is_one_of_equivalence(compare: Compare, runs: Path) -> None:
    twice = {"seeds": range(10), "alphas": ("iid",)}
    write(
        runs / "ten",
        plan("fedavg", "fedmef", **twice),
        change=lambda cell: {"test_accuracy": 0.9 + NOISE[cell.method][cell.seed % 5]},
    )
    assert [row["verdict"] for row in rows(compare("ten", "--baseline", "fedavg", "--margin", "0.01")[1])] == [
        "equivalent"
    ]
    assert [row["verdict"] for row in rows(compare("ten", "--baseline", "fedavg")[1])] == ["inconclusive"]


def test_an_older_study_is_compared_in_the_accuracy_that_it_has(compare: Compare, runs: Path) -> None:
    write(
        runs / "old", plan("fedavg", "baffle"), change=lambda cell: {"test_accuracy": None, "test_accuracy_last5": 0.9}
    )
    assert compare("old", "--baseline", "fedavg")[1].startswith("## Test accuracy, last five, minus FedAvg (dense)\n")


# Cells of two runs


def test_the_same_cells_in_two_runs_are_equal_within_or_different(compare: Compare, runs: Path) -> None:
    shift = {0: {"peak_device_bytes": 5}, 1: {"test_accuracy": 0.851}}
    planned = plan("fedmef", alphas=("iid",))
    write(runs / "again", planned, change=lambda cell: shift.get(cell.seed, {}))
    status, out, _ = compare("more", "again")
    assert status == 0
    head, *_ = out[out.index("## The same cells in more and again") :].split("\n\n")[1:]
    assert head.startswith("5 cells ended well in both: of ") and head.endswith(" are equal, 1 within, 1 different.")
    found = {row["metric"]: row for row in rows(out[out.index("## The same cells") :])}
    assert set(found) == {"peak_device_bytes", "test_accuracy"}
    assert found["test_accuracy"] == {"metric": "test_accuracy", "equal": "4", "within": "1", "different": "0"}
    assert found["peak_device_bytes"] == {"metric": "peak_device_bytes", "equal": "4", "within": "0", "different": "1"}


def test_a_cell_of_two_runs_counts_once(compare: Compare, runs: Path) -> None:
    lost = [replace(cell) for cell in plan("fedavg", "baffle")]
    write(runs / "lost", lost, outcome=lambda cell: "failed" if cell.method == "baffle" else "ok")
    found = rows(compare("lost", "asked", "--baseline", "fedavg", "--by", "alpha")[1])
    (baffle,) = (row for row in found if row["contrast"] == "BAFFLE")
    assert baffle["alpha iid"].endswith(", worse") and "chance" not in baffle["alpha iid"], "the one that ended well"


# Forms and mistakes


def test_published_studies_have_names(compare: Compare, runs: Path) -> None:
    pack(LiveRun(runs / "asked"), runs / "results" / "asked-study", CONTRASTS)
    assert compare("asked-study")[0] == 0
    assert compare("askedstudy")[2] == 'fedfore: There is no run "askedstudy". Did you mean "asked-study"?\n'


@pytest.mark.thorough
def test_programs_get_every_number(compare: Compare) -> None:
    table = pd.read_csv(io.StringIO(compare("asked", "--csv")[1]))
    assert list(table["verdict"]) == ["inconclusive", "inconclusive", "better", "better"]
    found = json.loads(compare("asked", "more", "--baseline", "fedavg", "--json")[1])
    (mef,) = (row for row in found if row["contrast"] == "FedMef" and row["setting"] == "alpha iid")
    assert mef["value"] == pytest.approx(-0.05 + sum(NOISE["fedmef"]) / 5) and mef["low"] < mef["value"] < mef["high"]
    assert mef["exploratory"] is True and mef["margin"] is None and 0.95 <= mef["level"] < 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("askd",), 'There is no run "askd".'),
        (("asked", "--baseline", "fedavgg"), 'There is no series "fedavgg". Did you mean "fedavg"?'),
        (("asked", "--by", "alpah"), 'nothing is called "alpah". Did you mean "alpha"?'),
        (("asked", "--metric", "total_bytes"), "No contrast of these runs is in total_bytes; name a --baseline."),
        (("asked", "--baseline", "fedavg", "--metric", "test_acuracy"), 'Did you mean "test_accuracy"?'),
        (
            ("asked", "--baseline", "fedavg", "--metric", "label_skew_tv"),
            "--metric: label_skew_tv describes, and no side",
        ),
        (("asked", "--baseline", "fedavg", "--metric", "best_test_accuracy"), "is chosen on test data, and no verdict"),
        (("asked", "--baseline", "fedavg", "--metric", "wall_seconds"), "is a time of this machine, not of a device"),
        (("asked", "asked"), "asked is named twice; name each run once."),
        (
            ("asked", "--margin", "0.1"),
            "Margins of contrasts were fixed with their matrix; --margin goes with --baseline.",
        ),
        (("asked", "--csv", "--by", "alpha"), "--by is for Markdown; a table for programs has a row a comparison."),
    ],
)
def test_a_mistake_is_one_sentence_and_status_1(compare: Compare, arguments: tuple[str, ...], sentence: str) -> None:
    status, out, err = compare(*arguments)
    assert status == 1 and out == "" and sentence in err and err.count("\n") == 1


def test_a_name_of_several_series_is_asked_back(compare: Compare, runs: Path) -> None:
    write(runs / "several", plan("baffle", "fedavg", num_perturbations=(50, 100)))
    assert compare("several", "--baseline", "baffle")[2] == (
        'fedfore: "baffle" may be BAFFLE, K=50 or BAFFLE, K=100; write one of them whole.\n'
    )


def test_a_margin_is_a_number_above_0(compare: Compare, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare("asked", "--baseline", "fedavg", "--margin", "0")
    assert "must be a positive number" in capsys.readouterr().err

"""`fedfore compare`: what matrices ask, every series against one, and cells that two runs have."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.records.packed import MATRIX
from tests.synthetic import cells, write_run

SEEDS = range(6)
GAIN = (0.03, 0.02, 0.04, 0.03, 0.025, 0.035)
ASKED = '[[contrast]]\nname = "tiny"\nof = { method = "fedtiny" }\nagainst = { method = "fedavg" }\n'
PLAN = cells(("fedtiny", "fedavg"), sparsities=(0.8,), alphas=("iid", 0.1), seeds=SEEDS)


def learnt(cell: Cell) -> dict[str, Any]:
    return {"test_accuracy": 0.8 + 0.01 * math.sin(cell.seed) + (GAIN[cell.seed] if cell.method == "fedtiny" else 0.0)}


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., str]:
    def make(name: str, change: Callable[[Cell], dict[str, Any]] = learnt, asked: str = ASKED) -> str:
        write_run(tmp_path / name, PLAN, change=change)
        (tmp_path / name / MATRIX).write_text(asked)
        return str(tmp_path / name)

    return make


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["compare", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_run_answers_what_its_matrix_asks(run_of: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, run_of("one"), "--json"))
    assert [(row["contrast"], row["setting"], row["verdict"]) for row in rows] == [
        ("tiny", "alpha iid", "better"), ("tiny", "alpha 0.1", "better"),
    ]  # fmt: skip
    ends = {
        level: stats.t.interval(level, len(GAIN) - 1, loc=sum(GAIN) / len(GAIN), scale=stats.sem(GAIN))
        for level in (0.95, 0.975)
    }
    expected = {
        f"+3.0 points [{100 * low:+.1f}, {100 * high:+.1f}] at {level:.1%}" for level, (low, high) in ends.items()
    }
    assert {row["difference or ratio"] for row in rows} == expected


def test_every_series_is_compared_with_one_and_an_axis_makes_columns(
    run_of: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, run_of("one"), "--baseline", "FedTiny", "--by", "alpha")
    assert "| series minus FedTiny | iid | \N{GREEK SMALL LETTER ALPHA} = 0.1 |" in out
    assert out.count("; worse") == 2 and "chosen after looking" in out
    row, _ = json.loads(printed(capsys, run_of("two"), "--baseline", "FedTiny", "--margin", "0.2", "--json"))
    assert (row["series minus FedTiny"], row["margin"], row["verdict"]) == ("FedAvg (dense)", "20.0 points", "worse")


def test_cells_of_two_runs_are_equal_within_or_different(
    run_of: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    moved = {("fedavg", "iid", 0): 0.002, ("fedavg", "iid", 1): 0.1}

    def change(cell: Cell) -> dict[str, Any]:
        own = learnt(cell)
        return {"test_accuracy": own["test_accuracy"] + moved.get((cell.method, cell.alpha, cell.seed), 0.0)}

    out = printed(capsys, run_of("one"), run_of("two", change))
    assert "24 cells are in one and in two: test_accuracy is 22 equal, 1 within, 1 different." in out
    different = next(cell.id for cell in PLAN if (cell.method, cell.alpha, cell.seed) == ("fedavg", "iid", 1))
    assert f"* {different}: 0.808415 and 0.908415" in out


def test_series_of_several_runs_are_named_by_run(
    run_of: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(capsys, run_of("one"), run_of("two"), "--baseline", "one: FedAvg")
    assert "| one: FedTiny |" in out and "| two: FedAvg (dense) |" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--baseline", "FedTyni"], 'There is no series "FedTyni". Did you mean "FedTiny"'),
        (["--baseline", "FedTiny", "--by", "alhpa"], "--by alhpa"),
        (["--baseline", "FedTiny", "--metric", "test_acuracy"], 'Did you mean "test_accuracy"'),
        (["--by", "alpha"], "--by goes with --baseline"),
    ],
)
def test_what_is_misspelt_is_a_sentence_and_status_1(
    run_of: Callable[..., str], capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["compare", run_of("one"), *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_a_matrix_without_contrasts_asks_for_a_baseline(
    run_of: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", run_of("one", asked="")]) == 1
    assert "No matrix of one states a contrast; name a series to compare with by --baseline." in capsys.readouterr().err

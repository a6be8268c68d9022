"""`fedfore reproduce`: published cells computed again, equal where nothing changed, and told apart where it did."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.execution.reproduction import drawn
from fedfore.judgement.repetition import Comparison
from fedfore.records.store import LiveRun, open_run, pack
from tests.conftest import run_in_this_process

MATRIX = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0, 1, 2]
[train]
clients = 4
rounds = 1
ntk = false
"""
Fedfore = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study of three cells, computed here and packed as a published one is."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(MATRIX)
    with pytest.MonkeyPatch.context() as patch:
        run_in_this_process(patch)
        assert main(["run", str(folder / "tiny.toml"), "--out", str(folder / "live")]) == 0
    pack(LiveRun(folder / "live"), folder / "tiny", MATRIX)
    return folder / "tiny"


@pytest.fixture
def study(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the study in results/ of the working folder."""
    monkeypatch.chdir(tmp_path)
    run_in_this_process(monkeypatch)
    return Path(shutil.copytree(tiny, tmp_path / "results" / "tiny"))


@pytest.fixture
def fedfore(capsys: pytest.CaptureFixture[str]) -> Fedfore:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return call


def change(study: Path, field: str, value: Callable[[float], float]) -> None:
    """Change a number in every record of a study."""
    lines = [json.loads(line) for line in (study / "cells.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**line, field: value(line[field])}) + "\n" for line in lines)
    (study / "cells.jsonl").write_text(text)


@pytest.mark.thorough
def test_published_cells_come_out_equal_and_the_record_lies_where_it_says(study: Path, fedfore: Fedfore) -> None:
    status, out, _ = fedfore("reproduce", "tiny", "--cells", 2, "--seed", 5)
    *lines, last = out.splitlines()
    assert status == 0 and last == "Drawn with --seed 5; the records lie in results/runs/reproduce-tiny-5/cells/."
    assert len(lines) == 2 and all(line.startswith("equal     fedavg-") for line in lines)
    for name in ("test_accuracy", "peak_device_bytes", "train_flops_total", "uplink_bytes"):
        assert all(f" {name}," in line for line in lines)
    ids = [line.split()[1] for line in lines]
    assert sorted(path.parent.name for path in Path("results/runs").glob("*/cells/*/record.json")) == sorted(ids)


def test_an_altered_number_comes_out_different(study: Path, fedfore: Fedfore) -> None:
    change(study, "uplink_bytes", lambda value: value + 1)
    status, out, _ = fedfore("reproduce", study, "--cells", 3, "--seed", 0)
    odd = [line for line in out.splitlines() if "uplink_bytes:" in line]
    assert status == 0 and len(odd) == 3
    assert all(line.startswith("different fedavg-") and " now (over seeds " in line for line in odd)


@pytest.mark.thorough
def test_a_number_within_the_interval_over_the_seeds_of_its_setting_is_told_from_an_equal_one(
    study: Path, fedfore: Fedfore
) -> None:
    shift = iter((0.02, -0.02, 0.0))
    change(study, "final_test_accuracy", lambda value: value + next(shift))
    _, out, _ = fedfore("reproduce", "tiny", "--cells", 3, "--seed", 0)
    about = [line.split()[0] for line in out.splitlines() if "final_test_accuracy:" in line]
    assert about == ["within", "within"]


@pytest.mark.thorough
def test_the_draw_follows_from_its_seed_and_a_fresh_seed_is_printed(study: Path, fedfore: Fedfore) -> None:
    first = fedfore("reproduce", "tiny", "--cells", 1, "--out", "first")[1].splitlines()
    seed = first[-1].split(";")[0].split()[-1]
    second = fedfore("reproduce", "tiny", "--cells", 1, "--out", "second", "--seed", seed)[1].splitlines()
    assert first[0] == second[0] and first[0].startswith("equal")
    assert len({drawn(open_run(study), 1, seed)[0].cell_id for seed in range(9)}) > 1


def test_a_cell_that_fails_ends_with_status_1(study: Path, fedfore: Fedfore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("there is a bug")

    monkeypatch.setattr("fedfore.federation.loop.Federation.advance", broken)
    status, out, _ = fedfore("reproduce", "tiny", "--cells", 1)
    assert status == 1 and "1 of 1 cells did not finish:" in out and "there is a bug" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tiny", "--cells", 4), "has 3 cells that ended ok; --cells 4 is more than that."),
        (("tinny", "--cells", 1), 'There is no published study "tinny". Did you mean "tiny"?'),
        (("tiny", "--cells", 1, "--out", "results"), "results is there already; choose another --out"),
    ],
)
def test_what_cannot_be_drawn_is_said(study: Path, fedfore: Fedfore, arguments: tuple[object], sentence: str) -> None:
    status, out, err = fedfore("reproduce", *arguments)
    assert (status, out) == (2, "") and sentence in err


def test_a_number_without_peers_or_without_a_repetition_is_equal_or_different() -> None:
    assert Comparison("a", "test_loss", 0.5, 0.5).verdict == "equal"
    assert Comparison("a", "test_loss", 0.5, 0.6).verdict == "different"
    assert Comparison("a", "test_loss", 0.5, None, 0.4, 0.6).verdict == "different"
    assert Comparison("a", "test_loss", 0.5, 0.6, 0.4, 0.6).verdict == "within"

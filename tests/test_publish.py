"""Publishing: what is packed, what is refused in one sentence each, and how an unfinished study is gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.errors import ConfigError, StoreError
from fedfore.execution.command import command_at_root
from fedfore.execution.matrix_file import matrix_text, read_matrix
from fedfore.records.plan_file import write_plan
from fedfore.records.publishing import as_it_stands, publish, study_folder, unpack
from fedfore.records.run_folder import MATRIX, cell_dir, locked, write_matrix, write_record
from fedfore.records.store import LiveRun, load_table, open_run
from tests.conftest import run_in_this_process
from tests.synthetic import cells, record, write_run

PLAN = cells(("fed_ntk_zo", "fedavg"), sparsities=(0.8,), alphas=("iid",), seeds=(0, 1))
TINY = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5:width=0.25"]
seed = [0, 1, 2]
[train]
clients = 2
rounds = 1
ntk = false
"""
Change = Callable[[Path], None]


def live_run(path: Path, outcome: Callable[[Cell], str] = lambda cell: "ok") -> LiveRun:
    write_run(path, PLAN, outcome)
    write_matrix(path, "# what was asked\n")
    return LiveRun(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_a_finished_run_is_published_whole(tmp_path: Path) -> None:
    run = live_run(tmp_path / "run")
    assert publish(run, tmp_path / "study") == (len(PLAN), len(PLAN))
    study = open_run(tmp_path / "study")
    assert study.is_published and study.plan() == PLAN
    assert (study.path / MATRIX).read_text() == "# what was asked\n"
    assert list(load_table(study)["status"]) == ["ok"] * len(PLAN)


def rewritten(run: Path, **changes: Any) -> None:
    write_record(run, replace(record(PLAN[0]), **changes))


REFUSED: dict[str, tuple[Change, str]] = {
    "missing": (lambda run: shutil.rmtree(cell_dir(run, PLAN[0].id)), "1 of its cells have no record, as fed_ntk_zo-"),
    "unreadable": (
        lambda run: (cell_dir(run, PLAN[0].id) / "record.json").write_text("{") and None,
        "record.json is damaged",
    ),
    "orphan": (
        lambda run: write_record(run, record(cells(("baffle",), seeds=(0,))[0])),
        "its plan has no cell baffle-",
    ),
    "lost": (lambda run: rewritten(run, files=["layers.jsonl"]), "has lost its layers.jsonl"),
    "settings": (
        lambda run: rewritten(run, params={**PLAN[0].params, "lr": 7.0}),
        "ran with other settings than planned (params.lr = 7.0, planned 0.05)",
    ),
    "codes": (lambda run: rewritten(run, code_sha256="0" * 64), "cells of fed_ntk_zo ran 2 different codes"),
    "dirty": (lambda run: rewritten(run, git_commit="0" * 40 + "-dirty"), "is of a checkout that differed"),
    "no commit": (lambda run: rewritten(run, git_commit=None), "is of no commit"),
    "no matrix": (lambda run: (run / MATRIX).unlink(), "it has no matrix.toml"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_nobody_could_check_is_refused_in_one_sentence_and_nothing_is_written(kind: str, tmp_path: Path) -> None:
    run = live_run(tmp_path / "run")
    change, words = REFUSED[kind]
    change(run.path)
    assert words in refusal(lambda: publish(run, tmp_path / "study"))
    assert not (tmp_path / "study").exists()
    if kind not in ("missing", "no matrix"):
        assert words in refusal(lambda: publish(run, tmp_path / "study", unfinished=True))


def test_a_published_study_is_not_published_again(tmp_path: Path) -> None:
    publish(live_run(tmp_path / "run"), tmp_path / "study")
    assert "is a published study already" in refusal(lambda: publish(open_run(tmp_path / "study"), tmp_path / "other"))


def test_an_unfinished_study_gives_way_to_the_same_one_with_more_cells_and_to_no_other(tmp_path: Path) -> None:
    study = tmp_path / "study"
    some = live_run(tmp_path / "some", lambda cell: "missing" if cell in PLAN[1:3] else "ok")
    assert publish(some, study, unfinished=True) == (2, 4)
    assert list(load_table(open_run(study))["status"]) == ["ok", "missing", "missing", "ok"]
    assert "has all cells of" in refusal(lambda: publish(some, study, unfinished=True))
    other = live_run(tmp_path / "other")
    rewritten(other.path, test_accuracy=0.123)
    before = contents(study)
    assert "is another study than" in refusal(lambda: publish(other, study))
    fewer = live_run(tmp_path / "fewer")
    for cell in PLAN[1:]:
        shutil.rmtree(cell_dir(fewer.path, cell.id))
    (fewer.path / "plan.json").unlink()
    write_plan(fewer.path, PLAN[:1], "fedfore run", extend=False)
    assert "is another study than" in refusal(lambda: publish(fewer, study))
    assert contents(study) == before
    assert publish(live_run(tmp_path / "all"), study) == (4, 4)
    assert list(load_table(open_run(study))["status"]) == ["ok"] * 4


def test_an_unfinished_run_is_published_as_it_stands_while_another_process_writes_to_it(tmp_path: Path) -> None:
    run = live_run(tmp_path / "run", lambda cell: "missing" if cell in PLAN[1:3] else "ok")
    with locked(run.path):
        assert "Another fedfore process" in refusal(lambda: publish(run, tmp_path / "study", unfinished=True))
        with as_it_stands(run.path) as copy:
            assert copy.path != run.path and publish(copy, tmp_path / "study", unfinished=True) == (2, 4)
        assert not copy.path.exists()
    assert list(load_table(open_run(tmp_path / "study"))["status"]) == ["ok", "missing", "missing", "ok"]
    with as_it_stands(run.path) as same:
        assert same.path == run.path


def test_what_is_unpacked_is_byte_for_byte_what_was_packed(tmp_path: Path) -> None:
    run = live_run(tmp_path / "run", lambda cell: "diverged" if cell == PLAN[1] else "ok")
    publish(run, tmp_path / "study")
    unpack(open_run(tmp_path / "study"), tmp_path / "again")
    before, after = contents(run.path), contents(tmp_path / "again")
    assert {name: text for name, text in after.items() if name != ".lock"} == {
        name: text for name, text in before.items() if name != ".lock"
    }


def test_what_cannot_be_unpacked_is_said(tmp_path: Path) -> None:
    run = live_run(tmp_path / "run")
    assert "is no published study" in refusal(lambda: unpack(run, tmp_path / "again"))
    publish(run, tmp_path / "study")
    assert "holds a run already" in refusal(lambda: unpack(open_run(tmp_path / "study"), run.path))


@pytest.mark.parametrize("overrides", [(), ("seed=[7]", "train.clients=3", 'params.fedavg.weighting="uniform"')])
def test_the_text_of_a_matrix_says_what_was_asked_overrides_included(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    text = matrix_text(path, read_matrix(path, overrides))
    (tmp_path / "stored.toml").write_text(text)
    assert read_matrix(tmp_path / "stored.toml") == read_matrix(path, overrides)
    assert (text == TINY) == (not overrides)


@pytest.mark.thorough
def test_an_unfinished_study_is_published_and_gone_on_with_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_this_process(monkeypatch)
    monkeypatch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    monkeypatch.setattr("fedfore.execution.runner.git_commit", lambda: "0" * 40)
    monkeypatch.setattr("fedfore.cli.verbs.publish.unverifiable", lambda run: ())
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(TINY)
    assert main(["run", "tiny.toml", "--out", "live"]) == 0
    (first, *rest) = sorted(Path("live/cells").iterdir())
    shutil.rmtree(first)
    assert main(["publish", "live", "tiny"]) == 2
    assert "publish it --unfinished" in capsys.readouterr().err
    assert main(["publish", "live", "tiny", "--unfinished"]) == 0
    assert "results/tiny: 2 of 3 cells" in capsys.readouterr().out
    page = Path("results/tiny/README.md")
    assert "| cells | 2 of 3 cells, no verdicts |" in page.read_text(encoding="utf-8")
    assert main(["run", "tiny.toml", "--out", "results/tiny"]) == 2
    assert "is a published study and stays as it is" in capsys.readouterr().err
    assert main(["run", "tiny.toml", "--set", "seed=[7]", "--out", "on", "--from", "results/tiny"]) == 2
    assert "results/tiny holds another plan (3 cells, 0 of them in common" in capsys.readouterr().err
    assert not Path("on").exists()
    assert main(["run", "tiny.toml", "--out", "on", "--from", "results/tiny"]) == 0
    assert "3 cells planned, 2 already there, 1 to run" in capsys.readouterr().err
    for cell in rest:
        assert contents(cell) == contents(Path("on/cells") / cell.name)
    assert main(["publish", "on", "tiny"]) == 0
    assert "results/tiny: 3 of 3 cells, which had 2" in capsys.readouterr().out
    assert "| cells | 3 |" in page.read_text(encoding="utf-8")
    commands = json.loads(Path("results/tiny/commands.json").read_text())
    assert commands == ["fedfore run tiny.toml --out live", "fedfore run tiny.toml --out on --from results/tiny"]
    assert main(["publish", "on", "../tiny"]) == 2
    assert main(["publish", "on", "runs"]) == 2


@pytest.mark.parametrize(
    "name", ["..", "", ".", "../tiny", "a/b", "/tmp/x", ".hidden", "-x", "a b", "a" * 101, "ä", "a\n"]
)
def test_what_is_no_name_of_a_study_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="is no name of a study; give at most 100 letters"):
        study_folder(tmp_path / "results", name)
    assert contents(tmp_path) == before


def test_a_file_that_is_no_study_is_not_the_place_of_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Results\n")
    with pytest.raises(ConfigError, match=r"README.md is there and is no study; choose another name"):
        study_folder(tmp_path, "README.md")
    assert study_folder(tmp_path, "lenet5-masks_2.1") == tmp_path / "lenet5-masks_2.1"


def test_the_stored_command_names_a_matrix_of_the_checkout_from_its_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("fedfore.execution.command.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "mine")
    for typed in ("tiny.toml", "./tiny.toml", "../mine/tiny.toml", str(tmp_path / "mine" / "tiny.toml")):
        told = command_at_root(f"fedfore run {typed} --set 'seed=[1, 2]'", typed, Path(typed))
        assert told == "fedfore run mine/tiny.toml --set 'seed=[1, 2]'"
    for kept in ("/elsewhere/tiny.toml", "quick"):
        assert command_at_root(f"fedfore run {kept}", kept, Path(kept)) == f"fedfore run {kept}"
    assert command_at_root("fedfore run", "quick", Path("quick.toml")) == "fedfore run"

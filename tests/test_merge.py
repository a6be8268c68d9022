"""Runs of several machines, united: whose record is taken, what is refused, and that nothing is written then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.records.plan_file import read_commands, read_plan, read_plugins, write_plan
from fedfore.records.record import Record
from fedfore.records.run_folder import cell_dir, checkpoint_file, locked, write_environment
from fedfore.records.store import LiveRun
from tests.synthetic import cells, write_run

PLANNED = cells(methods=("fedavg", "baffle"), alphas=("iid",), seeds=(0, 1, 2))
Outcome = Callable[[Cell], str]


def of_seeds(*seeds: int, status: str = "ok") -> Outcome:
    return lambda cell: status if cell.seed in seeds else "missing"


def halves(tmp_path: Path, *outcomes: Outcome, **changes: Any) -> list[str]:
    """Write runs of one plan whose cells ended as these say; return their folders."""
    folders = [tmp_path / f"run-{number}" for number in range(len(outcomes))]
    for folder, outcome in zip(folders, outcomes, strict=True):
        write_run(folder, PLANNED, outcome, **changes)
    return [str(folder) for folder in folders]


def found(run: Path) -> dict[str, Record | None]:
    return {cell.id: LiveRun(run).found(cell.id) for cell in PLANNED}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the sentence by which a merge ends that writes nothing."""
    out = Path(arguments[-1])
    before = files(out) if out.is_dir() else None
    assert main(["merge", *arguments[:-1], "--out", str(out)]) == 2
    assert (files(out) if out.is_dir() else None) == before
    return capsys.readouterr().err.strip()


def test_runs_of_one_plan_are_united_with_all_that_belongs_to_their_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = halves(tmp_path, of_seeds(0), of_seeds(1, 2))
    write_environment(Path(other), {"python": "4", "packages": {}})
    plan = Path(other) / "plan.json"
    plan.write_text(
        plan.read_text().replace("--workers 2", "--workers 3").replace('"plugins": {}', '"plugins": {"x": "x.py"}')
    )
    (Path(other) / "matrix.toml").write_text("# asked last")
    checkpoint_file(Path(other), "half").parent.mkdir()
    checkpoint_file(Path(other), "half").write_text("state")
    (cell_dir(Path(other), PLANNED[1].id) / ".heartbeat.json").write_text("{}")
    out = tmp_path / "both"
    assert main(["merge", one, other, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 6 of 6 cells\n"
    whole = tmp_path / "whole"
    write_run(whole, PLANNED)
    assert files(out / "cells") == files(whole / "cells")
    assert read_plan(out) == PLANNED and (out / "matrix.toml").read_text() == "# asked last"
    assert [command.split()[-1] for command in read_commands(out)] == ["2", "3"]
    assert read_plugins(out) == {"x": Path("x.py")}
    assert len(LiveRun(out).environments()) == 2 and not (out / "checkpoints").exists()


def test_what_ended_is_taken_before_what_failed(tmp_path: Path) -> None:
    runs = halves(tmp_path, of_seeds(0, 1, status="failed"), of_seeds(0), of_seeds(0, status="out_of_memory"))
    assert main(["merge", *runs, "--out", str(tmp_path / "all")]) == 0
    ended = {cell.seed: record.status for cell in PLANNED if (record := found(tmp_path / "all")[cell.id]) is not None}
    assert ended == {0: "ok", 1: "failed"}


def test_a_cell_that_ended_twice_may_differ_in_times_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = halves(tmp_path, of_seeds(0), of_seeds(0))
    file = cell_dir(Path(other), PLANNED[0].id) / "record.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "wall_seconds": 7.0, "attempt": 3, "git_commit": None}))
    assert main(["merge", one, other, "--out", str(tmp_path / "agree")]) == 0
    capsys.readouterr()
    file.write_text(json.dumps({**stored, "test_accuracy": 0.5}))
    sentence = refused(capsys, one, other, str(tmp_path / "differ"))
    assert sentence.startswith(f"fedfore: {PLANNED[0].id}: test_accuracy in {other} is not what it is in {one};")
    file.write_text(json.dumps({**stored, "status": "diverged"}))
    assert "status" in refused(capsys, one, other, str(tmp_path / "differ"))


def test_other_plans_are_united_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_run(one, PLANNED[:2])
    write_run(other, PLANNED[1:])
    assert "holds another plan" in refused(capsys, str(one), str(other), str(tmp_path / "both"))
    assert main(["merge", str(one), str(other), "--extend", "--out", str(tmp_path / "both")]) == 0
    assert read_plan(tmp_path / "both") == PLANNED
    assert all(found(tmp_path / "both").values())


def test_a_merged_run_is_gone_on_with_by_the_same_plan(tmp_path: Path) -> None:
    one, other = halves(tmp_path, of_seeds(0), of_seeds(1))
    assert main(["merge", one, other, "--out", str(tmp_path / "both")]) == 0
    write_plan(tmp_path / "both", PLANNED, "fedfore run synthetic.toml", extend=False)


def test_a_cell_that_lost_a_file_gives_way_to_a_whole_one(tmp_path: Path) -> None:
    one, other = halves(tmp_path, of_seeds(0), of_seeds(0), change=lambda cell: {"files": ["rounds.jsonl"]})
    (cell_dir(Path(one), PLANNED[0].id) / "rounds.jsonl").unlink()
    assert main(["merge", one, other, "--out", str(tmp_path / "both")]) == 0
    assert not LiveRun(tmp_path / "both").lost_files(PLANNED[0].id)


def test_what_cannot_be_merged_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = halves(tmp_path, of_seeds(0), of_seeds(1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    assert "is there already and not empty" in refused(capsys, one, other, str(tmp_path / "full"))
    assert f"lies in {one}, a run" in refused(capsys, one, other, f"{one}/both")
    assert f"{one} is named twice" in refused(capsys, one, f"{one}/../run-0/.", str(tmp_path / "both"))
    assert "no run directory" in refused(capsys, one, str(tmp_path / "nowhere"), str(tmp_path / "both"))
    with locked(Path(other)):
        assert f"is writing to {other}" in refused(capsys, one, other, str(tmp_path / "both"))
    shutil.copy(cell_dir(Path(one), PLANNED[0].id) / "record.json", Path(other) / "cells.jsonl")
    assert "is a published study" in refused(capsys, one, other, str(tmp_path / "both"))

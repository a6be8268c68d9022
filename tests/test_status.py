"""`fedfore status`: how far a run has come, while it goes on, after it ended, and after its process died."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.cli.parser import parser
from fedfore.records import heartbeat
from fedfore.records.heartbeat import Heartbeat, write_heartbeat
from fedfore.records.plan_file import write_plan
from fedfore.records.run_folder import checkpoint_file, locked, write_record
from fedfore.records.store import LiveRun, pack
from tests.synthetic import cells, record, write_run

PLANNED = cells(("fedavg", "baffle"), alphas=("iid",))
Status = Callable[..., tuple[int, str]]


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Status:
    """Return the exit status of the verb, and what it prints."""

    def call(run: Path, *more: str) -> tuple[int, str]:
        ended = main(["status", str(run), *more])
        out, err = capsys.readouterr()
        return ended, out + err

    return call


def made(run: Path, *outcomes: str, planned: list[Cell] = PLANNED) -> list[str]:
    """Write a run whose cells ended so, the others not at all; return their ids."""
    ends = dict(zip((cell.id for cell in planned), outcomes, strict=False))
    write_run(run, planned, lambda cell: ends.get(cell.id, "missing"))
    return [cell.id for cell in planned]


def runs(run: Path, cell_id: str, beat: Heartbeat | None) -> None:
    folder = run / "attempts" / "1" / "cells" / cell_id
    folder.mkdir(parents=True)
    if beat is not None:
        write_heartbeat(folder, beat)


def keeps_checkpoint(run: Path, cell_id: str) -> None:
    file = checkpoint_file(run, cell_id)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"state")


def beat(cell_id: str) -> Heartbeat:
    now = heartbeat.seconds_now()
    return Heartbeat(cell_id, "train", 12, 0.4, 0.0, now - 50, 0.0, now - 40, now, 0.8125)


def test_a_complete_run_is_told_by_its_counts_alone(tmp_path: Path, status: Status) -> None:
    made(tmp_path, *["ok"] * 5, "skipped")
    assert status(tmp_path) == (
        0,
        f"{tmp_path}: complete, no process holds it\n6 cells planned: 5 ok, 1 skipped\n",
    )


def test_a_run_that_goes_on_names_its_running_and_its_waiting_cells(
    tmp_path: Path, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = heartbeat.seconds_now()
    monkeypatch.setattr(heartbeat, "seconds_now", lambda: now)
    _, failed, running, starting, waiting, _ = made(tmp_path, "ok", "diverged")
    runs(tmp_path, running, beat(running))
    runs(tmp_path, starting, None)
    for cell_id in (running, waiting):
        keeps_checkpoint(tmp_path, cell_id)
    with locked(tmp_path):
        ended, said = status(tmp_path)
        _, document = status(tmp_path, "--json")
    first, counts, *lines = said.splitlines()
    assert (ended, first) == (0, f"{tmp_path}: going on, a process holds it")
    assert counts == "6 cells planned: 1 ok, 1 diverged, 4 missing"
    at = {heading: lines.index(heading) for heading in lines if ": " in heading and heading[0].isupper()}
    assert list(at) == ["Running now: 2", "Waiting with a checkpoint: 1", "Did not finish: 1"]
    table = [line.split() for line in lines[at["Running now: 2"] + 1 :][:3]]
    assert sorted(row[:5] for row in table[1:]) == sorted(
        [[running, "12", "40%", "0.8125", "0:01:00"], [starting, "starts", *"---"]]
    )
    assert lines[at["Waiting with a checkpoint: 1"] + 1].startswith(f"{waiting}  written ")
    assert lines[-1] == f"diverged: {failed}: made up to be diverged"
    told = json.loads(document)
    assert told["is_held"] and told["goes_on"] is None and told["state"] == "going on"
    (one,) = (one for one in told["running"] if one["phase"])
    assert (one["cell_id"], one["round"], one["accuracy"]) == (running, 12, 0.8125)
    assert one["seconds_left"] == pytest.approx(60) and one["since_utc"] < one["seen_utc"]
    assert list(told["waiting"]) == [waiting] and told["unfinished"] == {failed: "diverged"}


def test_a_run_whose_process_died_says_what_ran_and_how_it_goes_on(tmp_path: Path, status: Status) -> None:
    ids = made(tmp_path, "ok")
    for cell_id in ids[1:3]:
        runs(tmp_path, cell_id, beat(cell_id))
    keeps_checkpoint(tmp_path, ids[1])
    ended, said = status(tmp_path)
    assert ended == 1 and said.startswith(f"{tmp_path}: stopped unfinished, no process holds it\n")
    died, waiting = said.partition("\nWaiting with a checkpoint: 1\n")[::2]
    assert "\nRunning when their process died: 1\n" in died and ids[2] in died
    assert ids[1] in waiting and ids[1] not in died
    assert said.endswith(f"\nIt goes on with: fedfore run synthetic.toml --workers 2 --out {tmp_path}\n")


@pytest.mark.parametrize(
    ("command", "outcome", "expected"),
    [
        ("fedfore run a.toml --out {run}", "missing", "fedfore run a.toml --out {run}"),
        ("fedfore run a.toml --out=elsewhere", "missing", "fedfore run a.toml --out {run}"),
        ("fedfore run a.toml --rerun all --out {run}", "missing", "fedfore run a.toml --out {run}"),
        ("fedfore run --rerun=stale a.toml --out {run}", "missing", "fedfore run a.toml --out {run}"),
        ("fedfore run 'a b.toml' --out {run}", "failed", "fedfore run 'a b.toml' --out {run} --rerun failed"),
        ("fedfore run a --out {run} --rerun failed", "failed", "fedfore run a --out {run} --rerun failed"),
        ("fedfore reproduce quick --cells 2", "failed", None),
    ],
)
def test_the_command_that_goes_on_runs_what_is_left_in_this_folder(
    tmp_path: Path, status: Status, command: str, outcome: str, expected: str | None
) -> None:
    command = command.format(run=tmp_path)
    write_plan(tmp_path, PLANNED, command, extend=False)
    for cell in PLANNED if outcome == "failed" else ():
        write_record(tmp_path, record(cell, "failed"))
    _, said = status(tmp_path)
    if expected is None:
        assert "It goes on with" not in said
        return
    goes_on = said.splitlines()[-1].removeprefix("It goes on with: ")
    assert goes_on == expected.format(run=tmp_path)
    asked = parser().parse_args(shlex.split(goes_on)[1:])
    assert (asked.out, asked.rerun) == (tmp_path, outcome)


def test_an_attempt_that_replaced_nothing_is_told_and_the_run_is_complete(tmp_path: Path, status: Status) -> None:
    made(tmp_path, *["ok"] * 6)
    write_record(tmp_path / "failed", record(PLANNED[0], "timeout"))
    ended, said = status(tmp_path)
    assert ended == 0
    assert said.endswith(f"replaced nothing: 1\ntimeout: {PLANNED[0].id}: made up to be timeout\n")


def test_a_plan_whose_tuning_has_not_chosen_is_not_complete(tmp_path: Path, status: Status) -> None:
    made(tmp_path, *["ok"] * 6)
    path = tmp_path / "plan.json"
    plan = json.loads(path.read_text())
    for choices, expected in ((None, 1), ([], 0)):
        path.write_text(json.dumps({**plan, "tuning": {"table": {}, "asked": ["fedavg-0"], "choices": choices}}))
        ended, said = status(tmp_path)
        assert ended == expected
        assert ("planned once tuning has chosen" in said) == ("It goes on with: " in said) == bool(expected)


def test_many_cells_are_counted_and_some_of_them_named(tmp_path: Path, status: Status) -> None:
    planned = cells(("baffle",), alphas=("iid",), seeds=range(30))
    ids = made(tmp_path, *["failed"] * 25, planned=planned)
    for cell_id in ids:
        keeps_checkpoint(tmp_path, cell_id)
    lines = status(tmp_path)[1].splitlines()
    assert {"Waiting with a checkpoint: 30", "... and 10 more, which --json names"} <= set(lines)
    assert {"Did not finish: 25", "... and 5 more, which --json names"} <= set(lines)
    told = json.loads(status(tmp_path, "--json")[1])
    assert sorted([*told["unfinished"], *told["missing"]]) == sorted(told["waiting"]) == sorted(ids)


def test_a_record_that_cannot_be_read_is_missing(tmp_path: Path, status: Status) -> None:
    ids = made(tmp_path, *["ok"] * 6)
    for damaged in ("{", '{"status": "ok"}'):
        (tmp_path / "cells" / ids[0] / "record.json").write_text(damaged)
        ended, said = status(tmp_path)
        assert ended == 1 and "6 cells planned: 5 ok, 1 missing\n" in said


def test_what_is_no_run_is_one_sentence(tmp_path: Path, status: Status) -> None:
    assert status(tmp_path) == (
        2, f"fedfore: {tmp_path / 'plan.json'} does not exist: {tmp_path} is no run directory of fedfore.\n"
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    made(tmp_path / "run", *["ok"] * 6)
    pack(LiveRun(tmp_path / "run"), tmp_path / "study", "")
    ended, said = status(tmp_path / "study")
    assert ended == 2 and "is a published study, which does not run" in said
    (tmp_path / "run" / "plan.json").write_text('{"schema_version": 3, "cells": [{}], "commands": []}')
    ended, said = status(tmp_path / "run")
    assert (
        ended == 2
        and said == f"fedfore: {tmp_path / 'run' / 'plan.json'} is damaged; move it away and run the matrix again.\n"
    )

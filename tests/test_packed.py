"""Packed studies: what is packed is read as it was in the live run, and damage is one sentence with file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from fedfore.cell import Cell
from fedfore.errors import StoreError
from fedfore.records import packed
from fedfore.records.lines import LAYERS, LINES, ROUNDS
from fedfore.records.packing import pack
from fedfore.records.run_folder import write_notes
from fedfore.records.store import LiveRun, PackedRun, load_table, open_run, remarks
from tests.synthetic import cells, write_run

PLAN = cells(("fed_ntk_zo", "fedavg"), sparsities=(0.8,), alphas=("iid",), seeds=(0, 1))
assert [cell.id for cell in PLAN] != sorted(cell.id for cell in PLAN)
ODD = 0.1 + 0.2
TEXTS = ["{", "[]", '{"cell_id": 3}', '{"cell_id": "fedavg-0", "round": "first"}', '{"cell_id": "x", "round": NaN}']


def outcome(cell: Cell) -> str:
    return "diverged" if cell == PLAN[-1] else "ok"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    run = tmp_path_factory.mktemp("live")
    write_run(run, PLAN, outcome, change=lambda cell: {"test_loss": ODD, "uplink_bytes": 2**60})
    write_notes(run, PLAN[0].id, {"variant": "a", "candidates": [ODD, None, {"cell_id": 1}]})
    return LiveRun(run)


@pytest.fixture
def study(live: LiveRun, tmp_path: Path) -> PackedRun:
    pack(live, tmp_path, "# a matrix\n")
    run = open_run(tmp_path)
    assert isinstance(run, PackedRun)
    return run


def test_a_packed_study_says_what_the_live_run_says(live: LiveRun, study: PackedRun) -> None:
    assert study.plan() == live.plan() and study.recorded() == live.recorded()
    assert study.commands() == live.commands() and study.environments() == live.environments()
    for cell in live.plan():
        assert study.record(cell) == live.record(cell)
        assert study.notes(cell.id) == live.notes(cell.id)
        for name in LINES:
            assert study.lines(cell.id, name) == live.lines(cell.id, name)
    pd.testing.assert_frame_equal(load_table(study), load_table(live))
    assert remarks(study) == []


def test_cells_are_sorted_and_without_nulls_and_files_without_a_line_are_left_out(study: PackedRun) -> None:
    lines = [json.loads(line) for line in (study.path / packed.CELLS).read_text().splitlines()]
    ids = [line["cell_id"] for line in lines]
    assert ids == sorted(ids) and set(ids) == {cell.id for cell in PLAN}
    assert all(value is not None for line in lines for value in line.values())
    assert {"layers.jsonl", "adjustments.jsonl"}.isdisjoint(path.name for path in study.path.iterdir())


def test_cells_that_were_not_run_are_rows_and_orphans_are_left_behind(live: LiveRun, tmp_path: Path) -> None:
    more = cells(("baffle",), alphas=("iid",), seeds=(0,))
    write_run(tmp_path / "run", [*PLAN, *more], lambda cell: "missing" if cell in more else "ok")
    plan = tmp_path / "run" / "plan.json"
    document = json.loads(plan.read_text())
    plan.write_text(json.dumps({**document, "cells": document["cells"][1:]}))
    pack(LiveRun(tmp_path / "run"), tmp_path / "study", "")
    study = open_run(tmp_path / "study")
    assert study.plan() == [*PLAN[1:], *more]
    assert list(load_table(study)["status"]) == [*["ok"] * (len(PLAN) - 1), "missing"]
    assert study.orphans() == []


def test_each_file_is_read_once(study: PackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    read = packed.read_lines
    monkeypatch.setattr(packed, "read_lines", lambda path, mend: seen.append(path.name) or read(path, mend))
    for _ in range(2):
        load_table(study)
        for cell in PLAN:
            study.lines(cell.id, ROUNDS)
    assert sorted(seen) == [packed.CELLS, ROUNDS]


@pytest.mark.parametrize("name", [packed.CELLS, ROUNDS, packed.NOTES])
@pytest.mark.parametrize("text", TEXTS)
def test_damage_is_one_sentence_with_file_and_line(study: PackedRun, name: str, text: str) -> None:
    path = study.path / name
    path.write_text(path.read_text() + text + "\n")
    number = len(path.read_text().splitlines())
    asks: dict[str, Callable[[], object]] = {
        packed.CELLS: study.recorded,
        ROUNDS: lambda: study.lines(PLAN[0].id, ROUNDS),
        packed.NOTES: lambda: study.notes(PLAN[0].id),
    }
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            asks[name]()
        message = str(caught.value)
        assert message.startswith(f"{path} is damaged in line {number} (") and message.endswith(".")
    if name == ROUNDS:
        assert study.damaged_lines() == [message]


def test_a_cell_that_has_two_records_is_damage(study: PackedRun) -> None:
    path = study.path / packed.CELLS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[0]]))
    with pytest.raises(StoreError, match=f"damaged in line {len(lines) + 1}"):
        study.plan()


@pytest.mark.parametrize("name", [packed.PLAN, packed.COMMANDS, packed.ENVIRONMENTS])
@pytest.mark.parametrize("text", ["", "{", "3", "[3]", '{"order": [["x"]], "missing": []}', '{"a": 3}'])
def test_damage_of_the_other_files_is_one_sentence(study: PackedRun, name: str, text: str) -> None:
    (study.path / name).write_text(text)
    ask = {packed.PLAN: study.plan, packed.COMMANDS: study.commands, packed.ENVIRONMENTS: study.environments}[name]
    with pytest.raises(StoreError, match=f"{name} is damaged; it is part of a published study"):
        ask()


PERFECT = {"round": 1, "data_passes": 1, "uplink_bytes": 1, "downlink_bytes": 1, "device_flops": 1, "test_loss": 1}


@pytest.mark.parametrize(
    ("name", "line", "why"),
    [
        (packed.CELLS, {"cell_id": [1]}, r"cell_id cannot be \[1\]"),
        (packed.CELLS, {"cell_id": "x"}, "its record is of record schema None"),
        (ROUNDS, {"cell_id": [1]}, r"cell_id cannot be \[1\]"),
        (ROUNDS, {"cell_id": "x", "round": 1}, "it lacks data_passes"),
        (ROUNDS, {"cell_id": "x", **PERFECT, "test_accuracy": None}, "test_accuracy cannot be None"),
        (ROUNDS, {"cell_id": "x", **PERFECT, "test_accuracy": 0.5, "round": None}, "round cannot be None"),
        (LAYERS, {"cell_id": "x", "layer": "a", "size": 0, "kept": 0, "forward_macs_dense": 1}, "size cannot be 0"),
        (packed.NOTES, {"cell_id": "x", "notes": 3}, "it lacks notes"),
    ],
)
def test_a_damaged_line_says_what_is_wrong_with_it(study: PackedRun, name: str, line: object, why: str) -> None:
    path = study.path / name
    path.write_text((path.read_text() if path.exists() else "") + json.dumps(line) + "\n")
    with pytest.raises(StoreError, match=rf"damaged in line \d+ \({why}"):
        study.recorded() if name == packed.CELLS else study.cells_with_lines(name)


def test_a_file_that_is_not_utf_8_says_in_which_line(study: PackedRun) -> None:
    path = study.path / ROUNDS
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\xff", 2))
    with pytest.raises(StoreError, match=r"rounds.jsonl is damaged in line 2 \(it is not UTF-8\)"):
        study.lines(PLAN[0].id, ROUNDS)


def test_a_planned_cell_without_its_line_is_named(study: PackedRun) -> None:
    path = study.path / packed.CELLS
    (first, *rest) = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rest))
    with pytest.raises(StoreError, match=f"cells.jsonl has no line of {json.loads(first)['cell_id']}, a cell of plan"):
        study.plan()


def test_a_folder_whose_cells_are_gone_is_no_run(study: PackedRun) -> None:
    (study.path / packed.CELLS).unlink()
    with pytest.raises(StoreError):
        open_run(study.path).plan()

"""The hashes of a published study: whatever is changed, removed or added is named, by file and by cell."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.errors import StoreError
from fedfore.records.agreement import relation_problems
from fedfore.records.manifest import CHECKSUMS, manifest_problems
from fedfore.records.packed import is_packed
from fedfore.records.packing import pack
from fedfore.records.publishing import unpack
from fedfore.records.run_folder import write_matrix
from fedfore.records.sources import ROOT
from fedfore.records.store import LiveRun, open_run
from tests.synthetic import cells, write_run

PLAN = cells(("fed_ntk_zo", "fedavg"), sparsities=(0.8,), alphas=("iid",), seeds=(0, 1))
FIRST = min(cell.id for cell in PLAN)
STUDIES = sorted(path for path in (ROOT / "results").iterdir() if is_packed(path))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    run = tmp_path / "live"
    write_run(run, PLAN, lambda cell: "ok", change=lambda cell: {"uplink_bytes_train": 2})
    write_matrix(run, "# what was asked\n")
    pack(LiveRun(run), tmp_path / "study", "# what was asked\n")
    return tmp_path / "study"


def replaced(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(study: Path) -> None:
        text = (study / name).read_text()
        assert old in text
        (study / name).write_text(text.replace(old, new, 1))

    return change


def appended(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "record": (
        replaced("cells.jsonl", '"attempt": 1', '"attempt": 2'),
        f"cells.jsonl is not as it was published in the lines of {FIRST}; ",
    ),
    "line": (replaced("rounds.jsonl", "0.", "1."), f"rounds.jsonl is not as it was published in the lines of {FIRST};"),
    "stranger": (
        lambda study: appended(study / "rounds.jsonl", '{"cell_id": "x-0", "round": 1}\n'),
        "rounds.jsonl is not as it was published in the lines of x-0;",
    ),
    "blank": (lambda study: appended(study / "rounds.jsonl", "\n"), "rounds.jsonl is not as it was published;"),
    "lines": (lambda study: (study / "rounds.jsonl").unlink(), "rounds.jsonl is missing, which checksums.json lists"),
    "command": (replaced("commands.json", '"\n', ' --extend"\n'), "commands.json is not as it was published;"),
    "added": (lambda study: (study / "layers.jsonl").write_text("{}\n"), "layers.jsonl is no file that was published"),
    "manifest": (
        replaced(CHECKSUMS, f'"{FIRST}": "', f'"{FIRST}": "0'),
        f"checksums.json has another hash of {FIRST} than its files give",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_of_the_data_is_named_and_not_gone_on_with(kind: str, study: Path, tmp_path: Path) -> None:
    assert list(manifest_problems(study)) == []
    change, words = CHANGES[kind]
    change(study)
    (found,) = manifest_problems(study)
    assert found.startswith(words)
    with pytest.raises(StoreError, match="is not gone on with: "):
        unpack(open_run(study), tmp_path / "on")
    assert not (tmp_path / "on").exists()


def test_a_study_without_its_hashes_is_said(study: Path) -> None:
    (study / CHECKSUMS).unlink()
    with pytest.raises(StoreError, match=r"has no checksums.json, so nothing tells"):
        list(manifest_problems(study))
    for text in ("[]", "{}", '{"files": 3, "cells": {}}', "{"):
        (study / CHECKSUMS).write_text(text)
        with pytest.raises(StoreError, match=r"checksums.json is damaged"):
            list(manifest_problems(study))


def test_cards_and_figures_are_no_data(study: Path) -> None:
    (study / "README.md").write_text("# A card\n")
    (study / "figures").mkdir()
    assert list(manifest_problems(study)) == []


def test_the_command_names_what_is_lost_also_without_records(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "card.toml").write_text("")
    (study / "cells.jsonl").unlink()
    assert main(["verify", str(study)]) == 1
    assert "differs study  cells.jsonl is missing, which checksums.json lists" in capsys.readouterr().out


def test_damage_of_one_study_does_not_keep_the_next_from_being_checked(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copytree(study, study.parent / "other"))
    appended(study / "cells.jsonl", '{"cell_id": [1]}\n')
    assert main(["verify", str(study), str(other)]) == 1
    out = capsys.readouterr().out
    assert "cells.jsonl is damaged in line 5 (cell_id cannot be [1])" in out
    assert "ok      other  files, those of checksums.json" in out


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"simulated": True}, "simulated is True, but its parts give False"),
        ({"uplink_bytes_setup": 1, "uplink_bytes_train": 2, "uplink_bytes": 4}, "uplink_bytes is 4, but its parts"),
        ({"peak_device_bytes_setup": 1, "peak_device_bytes_train": 2}, ", but its parts give 2;"),
        ({"peak_device_bytes": 3}, "peak_device_bytes is 3, but its parts give "),
    ],
)
def test_a_record_that_contradicts_itself_is_named(study: Path, fields: dict[str, object], said: str) -> None:
    path = study / "cells.jsonl"
    (first, *rest) = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(first), **fields}) + "\n" + "".join(rest))
    (found,) = [line for line in relation_problems(open_run(study)) if said in line]
    assert found.startswith(f"cells.jsonl: {FIRST}: ")


def test_lines_out_of_order_and_of_no_cell_are_named(study: Path) -> None:
    assert [line for line in relation_problems(open_run(study)) if "rounds.jsonl" in line] == []
    path = study / "rounds.jsonl"
    (first, *rest) = path.read_text().splitlines(keepends=True)
    path.write_text("".join([first, first, *rest, first.replace(FIRST, "x-0")]))
    found = [line for line in relation_problems(open_run(study)) if line.startswith("rounds.jsonl: ")]
    assert "comes after round" in found[0] and FIRST in found[0] and "x-0 is no cell of cells.jsonl" in found[1]


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_the_published_studies_are_whole(folder: Path) -> None:
    assert list(manifest_problems(folder)) == list(relation_problems(open_run(folder))) == []

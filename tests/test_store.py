"""Run directories: a file is whole or absent, a plan is never mixed with another, a planned cell has a row."""

from __future__ import annotations

import json
import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.errors import StoreError
from fedfore.records.code_hash import code_sha256
from fedfore.records.derived import DERIVED
from fedfore.records.metrics import FIELDS, MEASURED, METRICS
from fedfore.records.migration import SCHEMA_VERSION
from fedfore.records.packed import CELLS, MATRIX
from fedfore.records.provenance import environment, environment_hash, git_commit
from fedfore.records.sources import ROOT, shipped_method_file
from fedfore.records.store import (
    DIAGNOSTICS,
    LAYERS,
    ROUNDS,
    STATUSES,
    LiveRun,
    Record,
    cell_dir,
    identity,
    is_volatile,
    lines_writer,
    load_table,
    locked,
    open_run,
    pack,
    read_record,
    remarks,
    write_atomically,
    write_environment,
    write_plan,
    write_record,
)
from tests.synthetic import bare_record


def cell(seed: int = 0, method: str = "fedavg", **params: Any) -> Cell:
    plain = Cell(method, "digits", "lenet5", Protocol(rounds=5), alpha=0.1, seed=seed, params={"lr": 0.1, **params})
    return replace(plain, id=cell_id(plain, {}))


def record(of: Cell, **changes: Any) -> Record:
    return bare_record(of, **{"test_accuracy": 0.5, **changes})


def planned(run: Path, *cells: Cell) -> None:
    write_plan(run, cells, "fedfore run", extend=False)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def sentence(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


# Atomic writes


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two" and files(tmp_path) == {"a/b/c.json"}


@pytest.mark.parametrize("broken", ["os.fsync", "pathlib.Path.replace"])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, old: str | None
) -> None:
    path = tmp_path / "record.json"
    if old is not None:
        path.write_text(old)

    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(broken, full)
    with pytest.raises(StoreError, match="No space left"):
        write_atomically(path, "new")
    assert files(tmp_path) == (set() if old is None else {"record.json"})
    assert old is None or path.read_text() == old


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    rename = Path.replace

    def watched_rename(one: Path, other: Path) -> Path:
        seen.append("rename")
        return rename(one, other)

    monkeypatch.setattr("os.fsync", lambda fd: seen.append(f"sync {os.fstat(fd).st_size}"))
    monkeypatch.setattr("pathlib.Path.replace", watched_rename)
    write_atomically(tmp_path / "record.json", "12345")
    assert seen == ["sync 5", "rename"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_with_a_nan_is_refused_and_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path, record(cell(), test_loss=value))
    assert files(tmp_path) == set()


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path, cell().id) is None
    write_record(tmp_path, record(cell(), test_loss=0.1 + 0.2, uplink_bytes=2**60, reason="é\n"))
    assert read_record(tmp_path, cell().id) == record(cell(), test_loss=0.1 + 0.2, uplink_bytes=2**60, reason="é\n")


# Plans


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    cells = [cell(0), cell(1), cell(0, "baffle", sigma=1e-4)]
    assert write_plan(tmp_path, cells, "fedfore run x.toml", extend=False) == cells
    assert LiveRun(tmp_path).plan() == cells
    assert LiveRun(tmp_path).commands() == ["fedfore run x.toml"]
    planned(tmp_path, *reversed(cells))
    assert len(LiveRun(tmp_path).plan()) == 3


def test_another_plan_on_the_same_run_is_refused_unless_they_are_united(tmp_path: Path) -> None:
    planned(tmp_path, cell(0), cell(1))
    for other in ([cell(0)], [cell(1), cell(2)], [cell(0), cell(1), cell(2)]):
        refusal = sentence(partial(planned, tmp_path, *other))
        assert "another plan (2 cells" in refusal and "--extend" in refusal and "--out" in refusal
    assert LiveRun(tmp_path).plan() == [cell(0), cell(1)]
    united = write_plan(tmp_path, [cell(1), cell(2)], "fedfore run --extend", extend=True)
    assert united == LiveRun(tmp_path).plan() == [cell(0), cell(1), cell(2)]


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    assert "no run directory of fedfore" in sentence(lambda: load_table(LiveRun(tmp_path)))


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1, "cells": [', "\udcff"])
def test_a_damaged_plan_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_bytes(text.encode(errors="surrogateescape"))
    assert "plan.json is damaged" in sentence(lambda: LiveRun(tmp_path).plan())


@pytest.mark.parametrize("text", ["[]", '{"schema_version": 1}', '{"schema_version": 1, "cells": [{}]}'])
def test_a_plan_that_is_json_but_no_plan_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    assert str(tmp_path) in sentence(lambda: LiveRun(tmp_path).plan())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 3}, "has id = 3"),
        ({"id": "../../fedavg-0"}, "is damaged"),
        ({"train": {"clientz": 3}}, 'has a field "train.clientz"'),
        ({"size": 3}, 'has a field "size", which this version of fedfore does not know'),
    ],
)
def test_a_plan_of_other_cells_than_can_be_is_one_sentence_that_names_the_field(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    planned(tmp_path, cell())
    document = json.loads((tmp_path / "plan.json").read_text())
    document["cells"][0] |= change
    (tmp_path / "plan.json").write_text(json.dumps(document))
    refusal = sentence(lambda: load_table(LiveRun(tmp_path)))
    assert "plan.json" in refusal and words in refusal


def test_a_plan_of_another_schema_says_which(tmp_path: Path) -> None:
    planned(tmp_path, cell())
    document = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**document, "schema_version": 99}))
    assert f"record schema 99, this is schema {SCHEMA_VERSION}" in sentence(lambda: load_table(LiveRun(tmp_path)))


@pytest.mark.parametrize("text", ["", '{"cell_id": "fedavg-0', "\udcff"])
def test_a_damaged_record_is_one_sentence_with_its_path(tmp_path: Path, text: str) -> None:
    path = cell_dir(tmp_path, cell().id) / "record.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))
    refusal = sentence(lambda: read_record(tmp_path, cell().id))
    assert str(path) in refusal and "damaged" in refusal


# Locks and folders


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fedfore.records.store import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert "Another fedfore process" in sentence(locked(tmp_path).__enter__)
        other.communicate("")
    with locked(tmp_path):
        pass


def test_a_lock_is_released_by_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path):
            raise KeyError
    with locked(tmp_path):
        pass


def test_a_run_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        assert f"Cannot write to {run}" in sentence(locked(run).__enter__)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user can write to every folder")
        assert "Cannot write to" in sentence(locked(tmp_path).__enter__)
        assert "Cannot write to" in sentence(locked(tmp_path / "run").__enter__)
    finally:
        tmp_path.chmod(stat.S_IRWXU)


# The table


def test_the_table_has_a_row_for_every_planned_cell_in_order_and_every_metric_as_numbers(tmp_path: Path) -> None:
    cells = [cell(0), cell(1), cell(2, "baffle", sigma=1e-4), cell(3)]
    planned(tmp_path, *cells)
    write_record(tmp_path, record(cells[1]))
    write_record(tmp_path, record(cells[2], status="failed", reason="boom", test_accuracy=None))
    table = load_table(LiveRun(tmp_path))
    assert list(table["cell_id"]) == [cell.id for cell in cells]
    assert list(table["status"]) == ["missing", "ok", "failed", "missing"]
    assert set(METRICS) <= set(table.columns)
    assert all(pd.api.types.is_numeric_dtype(table[name]) for name in METRICS)
    assert [value == 0.5 for value in table["test_accuracy"]] == [False, True, False, False]
    assert list(table["train.rounds"]) == [5] * 4 and list(table["params.lr"]) == [0.1] * 4
    assert table["params.sigma"].notna().tolist() == [False, False, True, False]
    assert list(table["sparsity_asked"]) == [0.0] * 4 and list(table["alpha"]) == [0.1] * 4
    assert not table["stale"].any()


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_a_table_without_a_measurement_still_has_every_row_and_every_metric_as_numbers(
    tmp_path: Path, status: str
) -> None:
    planned(tmp_path, cell(0), cell(1))
    for one in (cell(0), cell(1)) if status in STATUSES else ():
        write_record(tmp_path, record(one, status=status, test_accuracy=None))
    table = load_table(LiveRun(tmp_path))
    assert list(table["status"]) == [status] * 2
    assert table[list(METRICS)].isna().all(axis=None)
    assert all(pd.api.types.is_numeric_dtype(table[name]) for name in METRICS)


def test_totals_follow_from_their_parts_and_are_not_known_where_a_part_is_not(tmp_path: Path) -> None:
    planned(tmp_path, cell(0), cell(1), cell(2))
    traffic = {"uplink_bytes": 3, "downlink_bytes": 2**40, "setup_flops_total": 5, "train_flops_total": 7}
    write_record(tmp_path, record(cell(0), **traffic))
    write_record(tmp_path, record(cell(1), **{**traffic, "downlink_bytes": None}))
    table = load_table(LiveRun(tmp_path))
    assert table["total_bytes"].fillna(-1).tolist() == [2**40 + 3, -1, -1]
    assert table["device_flops_total"].fillna(-1).tolist() == [12, 12, -1]
    stored = json.loads((tmp_path / "cells" / cell(0).id / "record.json").read_text())
    assert {"uplink_bytes", "train_flops_total"} < set(stored) and not set(DERIVED) & set(stored)


def test_every_derived_metric_is_the_sum_of_measured_ones_of_its_unit_and_says_so() -> None:
    for name, metric in DERIVED.items():
        assert METRICS[name] is metric and set(metric.parts) <= set(MEASURED) and name not in FIELDS
        assert {MEASURED[part].unit for part in metric.parts} == {metric.unit}
        assert metric.description.endswith(f"Derived, not stored: {' + '.join(metric.parts)}.")


def test_a_list_among_the_params_is_one_value_of_the_table(tmp_path: Path) -> None:
    one = cell(0, milestones=[1, 2])
    planned(tmp_path, one)
    write_record(tmp_path, record(one))
    assert list(load_table(LiveRun(tmp_path))["params.milestones"]) == ["[1, 2]"]


def test_a_record_of_other_code_is_stale_and_one_of_unknown_code_is_not(tmp_path: Path) -> None:
    file = shipped_method_file("fedavg")
    assert file is not None
    cells = [cell(0), cell(1), cell(2), cell(3, "of_a_plugin")]
    planned(tmp_path, *cells)
    for one, code in zip(cells, (code_sha256(file), "0" * 64, None, "0" * 64), strict=True):
        write_record(tmp_path, record(one, code_sha256=code, hash_scheme=2))
    table = load_table(LiveRun(tmp_path))
    assert list(table["stale"]) == [False, True, False, False]
    assert list(table["staleness"]) == ["", "other code", "", "unknown"]


def test_the_identity_of_a_record_is_the_cell_with_its_sparsity_called_asked() -> None:
    fields = identity(cell())
    assert fields["cell_id"] == cell().id and fields["sparsity_asked"] == 0.0
    assert fields["train"]["rounds"] == 5 and fields["params"] == {"lr": 0.1}
    assert not {"id", "sparsity"} & set(fields)


def test_only_times_attempts_environments_and_commits_may_differ_between_two_runs() -> None:
    measured = [name for name in METRICS if is_volatile(name)]
    assert measured == [name for name in METRICS if name.endswith("_seconds") or name.startswith("attempt_")]
    assert all(map(is_volatile, ("finished_utc", "attempt", "environment", "git_commit", "wall_seconds")))
    assert not any(map(is_volatile, [*identity(cell()), "status", "reason", "code_sha256"]))


def test_a_commit_is_dirty_where_code_differs_and_not_where_results_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        own = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(own, capture_output=True, text=True, check=True).stdout.strip()

    monkeypatch.setattr("fedfore.records.provenance.ROOT", tmp_path)
    git("init")
    code, result = tmp_path / "code.py", tmp_path / "results" / "plan.json"
    result.parent.mkdir()
    for file in (code, result):
        file.write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    result.write_text("2")
    (tmp_path / "untracked").touch()
    assert git_commit() == commit
    code.write_text("2")
    assert git_commit() == f"{commit}-dirty"


def test_the_commit_of_somebody_elses_repository_around_an_installed_suite_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(tmp_path), *who, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr("fedfore.records.provenance.ROOT", installed)
    assert git_commit() is None
    monkeypatch.setattr("fedfore.records.provenance.ROOT", tmp_path)
    assert git_commit() is not None


def test_processors_of_other_vector_instructions_are_other_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for flags, expected in (("sse avx2", "avx2"), ("sse avx2 avx512f", "avx512f"), ("sse", None)):
        monkeypatch.setattr("fedfore.records.provenance._cpuinfo", lambda *names, flags=flags: flags)
        assert environment()["instruction_set"] == expected
        names.add(environment_hash({**environment(), "processor": "the same"}))
    assert len(names) == 3


# Published studies

PUBLISHED = sorted(path.parent.name for path in (ROOT / "results").glob(f"*/{CELLS}"))


@pytest.mark.parametrize("name", ["scalar-error", "lenet5-masks", "lenet5-masks-tuning"])
def test_a_published_study_has_every_setting_and_is_never_stale(name: str) -> None:
    run = open_run(ROOT / "results" / name)
    table = load_table(run)
    assert not table["stale"].any() and set(table["staleness"]) == {""} and set(table["status"]) <= set(STATUSES)
    plan = {cell.id: cell for cell in run.plan()}
    for row in table.to_dict("records"):
        cell = plan[row["cell_id"]]
        wanted = {f"train.{key}": value for key, value in asdict(cell.train).items()}
        wanted |= {f"params.{key}": value for key, value in cell.params.items()}
        assert {key: None if row[key] != row[key] else row[key] for key in wanted} == wanted
    assert run.orphans() == [] and remarks(run) == []


def test_no_study_is_published_as_a_folder_a_cell() -> None:
    assert len(PUBLISHED) >= 14 and not list((ROOT / "results").glob("*/cells"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_study_that_is_read_and_packed_again_is_the_same_byte_for_byte(name: str, tmp_path: Path) -> None:
    study = ROOT / "results" / name
    pack(open_run(study), tmp_path, (study / MATRIX).read_text(encoding="utf-8"))
    names = {path.name for path in study.iterdir() if path.suffix in (".json", ".jsonl") or path.name == MATRIX}
    assert names == files(tmp_path)
    for file in names:
        assert (study / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_the_same_records_of_a_live_run_are_stale_under_the_scheme_that_they_name(tmp_path: Path) -> None:
    file = shipped_method_file("fedavg")
    assert file is not None
    planned(tmp_path, cell(0), cell(1))
    for one, scheme in ((cell(0), 1), (cell(1), 2)):
        write_record(tmp_path, record(one, code_sha256=code_sha256(file, 1), hash_scheme=scheme))
    assert list(load_table(LiveRun(tmp_path))["stale"]) == [False, True]
    pack(LiveRun(tmp_path), tmp_path / "study", "")
    assert not load_table(open_run(tmp_path / "study"))["stale"].any()


def test_nothing_runs_into_a_published_study(tmp_path: Path) -> None:
    planned(tmp_path / "run", cell())
    pack(LiveRun(tmp_path / "run"), tmp_path / "study", "")
    before = files(tmp_path)
    assert "is a published study and stays as it is" in sentence(locked(tmp_path / "study").__enter__)
    assert files(tmp_path) == before


def test_parameters_that_came_later_are_filled_in_with_what_they_stood_for(tmp_path: Path) -> None:
    older, newer = cell(0, "baffle"), cell(1, "baffle", precision="float32", init_scale=2.0)
    planned(tmp_path, older, newer)
    for one in (older, newer):
        write_record(tmp_path, record(one))
    table = load_table(LiveRun(tmp_path))
    assert list(table["params.precision"]) == ["float32"] * 2 and list(table["params.init_scale"]) == [1.0, 2.0]
    assert not table["stale"].any()


def test_a_plan_that_is_extended_gives_older_cells_the_defaults_of_keys_that_came_later(tmp_path: Path) -> None:
    planned(tmp_path, cell(0))
    united = write_plan(
        tmp_path, [cell(1, momentum=0.0)], "fedfore run --extend", extend=True,
        defaults={"fedavg": {"lr": 5.0, "momentum": 0.0}},
    )  # fmt: skip
    assert [one.params for one in united] == [{"lr": 0.1, "momentum": 0.0}] * 2


# Lines and environments


def line(index: int) -> dict[str, float]:
    """Return an object with what the lines of several files hold."""
    names = ("data_passes", "uplink_bytes", "downlink_bytes", "device_flops", "test_accuracy", "test_loss", "moment")
    return {"round": index, **dict.fromkeys(names, index / 8)}


@pytest.mark.parametrize("name", [ROUNDS, DIAGNOSTICS])
def test_lines_are_read_as_they_were_written_and_start_empty_again(tmp_path: Path, name: str) -> None:
    assert LiveRun(tmp_path).table_of_lines("a-0", name).empty
    for lines in ([line(0)], [line(index) for index in range(3)]):
        with lines_writer(tmp_path, "a-0", name) as write:
            for one in lines:
                write(one)
        assert LiveRun(tmp_path).table_of_lines("a-0", name).to_dict("records") == lines


def test_a_line_is_on_file_as_soon_as_it_is_written_and_a_nan_is_refused(tmp_path: Path) -> None:
    with lines_writer(tmp_path, "a-0", ROUNDS) as write:
        write(line(0))
        assert len(LiveRun(tmp_path).table_of_lines("a-0", ROUNDS)) == 1
        with pytest.raises(ValueError, match="not JSON compliant"):
            write({"round": 1, "test_loss": math.nan})
    assert len(LiveRun(tmp_path).table_of_lines("a-0", ROUNDS)) == 1


def test_lines_cut_short_by_a_crash_are_one_sentence(tmp_path: Path) -> None:
    path = cell_dir(tmp_path, "a-0") / ROUNDS
    write_atomically(path, '{"round": 0}\n{"rou')
    assert str(path) in sentence(lambda: LiveRun(tmp_path).table_of_lines("a-0", ROUNDS))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (ROUNDS, {}), (ROUNDS, {**line(0), "test_accuracy": "high"}), (ROUNDS, {**line(0), "round": 10**400}),
        (DIAGNOSTICS, {"round": 0}), (DIAGNOSTICS, {**line(0), "fd_scalar_error": "low"}),
        (LAYERS, {"layer": "a"}), (LAYERS, {"layer": 3, "size": 1, "kept": 1, "forward_macs_dense": 1}),
    ],
)  # fmt: skip
def test_lines_of_other_content_than_that_of_their_file_are_one_sentence(
    tmp_path: Path, name: str, wrong: dict[str, object]
) -> None:
    path = cell_dir(tmp_path, "a-0") / name
    write_atomically(path, json.dumps(wrong) + "\n")
    assert f"{path} is damaged" in sentence(lambda: LiveRun(tmp_path).table_of_lines("a-0", name))


def test_an_environment_is_stored_once_under_its_hash(tmp_path: Path) -> None:
    values = {"python": "3.12.0", "packages": {"torch": "2.13.0"}}
    name = write_environment(tmp_path, values)
    assert write_environment(tmp_path, dict(reversed(values.items()))) == name
    assert write_environment(tmp_path, {"python": "3.13.0"}) != name
    assert LiveRun(tmp_path).environments()[name] == values and len(LiveRun(tmp_path).environments()) == 2


def test_an_environment_of_other_content_is_one_sentence(tmp_path: Path) -> None:
    name = write_environment(tmp_path, {"packages": [1]})
    assert f"{name}.json is damaged" in sentence(lambda: LiveRun(tmp_path).environments())


@pytest.mark.parametrize("helper", ["helpers.py", "deep/other.py", "__init__.py"])
def test_the_hash_of_an_installed_method_covers_the_modules_of_its_package(tmp_path: Path, helper: str) -> None:
    package = tmp_path / "pkg"
    for name, text in {
        "__init__.py": "",
        "helpers.py": "import numpy\n\nX = 1\n",
        "deep/__init__.py": "",
        "deep/other.py": "from ..helpers import X\n",
        "deep/method.py": "import torch\nfrom fedfore.api import Method\nimport pkg\nfrom .other import X\n",
        "unused.py": "X = 1\n",
    }.items():
        write_atomically(package / name, text)
    method = package / "deep" / "method.py"
    before = code_sha256(method)
    (package / "unused.py").write_text("X = 2\n")
    (package / helper).write_text((package / helper).read_text() + '\n# A remark.\n"""And a text."""\n')
    assert code_sha256(method) == before
    (package / helper).write_text((package / helper).read_text() + "\nX = 2\n")
    assert code_sha256(method) != before

"""Re-runs, staleness and verdicts through the command, with workers in this process: nothing that was good is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fedfore.cli.main import main
from fedfore.execution import worker
from fedfore.execution.executors.executor import Ended
from fedfore.execution.executors.inline import Inline
from fedfore.execution.job import Job
from fedfore.records import files
from fedfore.records.metrics import FIELDS, MEASURED
from fedfore.records.record import record_to_json
from fedfore.records.store import DONE, ROUNDS, LiveRun, load_table, remarks
from tests.conftest import run_in_this_process
from tests.synthetic import cells, record

PLUGIN = '''
"""Ends as the environment says."""
import math, os, shutil, time
from fedfore.api import Method
from _helper import SCALE

class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")

class Fateful(Method):
    """Ends as the environment says."""

    def aggregate(self, model, updates, ctx):
        fate, _, detail = os.environ.get("FATE", "").partition(":")
        if fate == "raises":
            raise RuntimeError("the method has a bug")
        if fate == "memory":
            raise MemoryError("too big")
        if fate == "sleeps":
            time.sleep(600)
        if fate == "unprintable":
            raise Unprintable
        if fate == "surrogate":
            raise ValueError("half of a character \\ud800")
        if fate == "removes":
            shutil.rmtree(detail)
        if fate == "moves":
            os.chdir(detail)
        if fate == "notes":
            ctx.note("x", float("nan"))
            ctx.note("y", [0.5, -math.inf])
        return super().aggregate(model, updates, ctx)
'''
MATRIX = """
[grid]
method = ["fateful"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0, 1]
[train]
clients = 4
rounds = 1
ntk = false
[params.fateful]
local_steps = 1
"""


class Fateful(Inline):
    """Interrupted before a cell writes its record, where the environment says so."""

    def map(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        with pytest.MonkeyPatch.context() as patch:
            if os.environ["FATE"] == "interrupted":
                patch.setattr("fedfore.execution.worker.conclude", Mock(side_effect=KeyboardInterrupt))
            yield from super().map(jobs)


class Run:
    """A folder with plug-ins, a matrix of two cells, and a run of it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str] | None = None) -> None:
        self.plugins, self.matrix, self.path = folder / "plugins", folder / "matrix.toml", folder / "run"
        self._capsys = capsys

    @property
    def arguments(self) -> list[str]:
        return ["run", str(self.matrix), "--plugins", str(self.plugins), "--out", str(self.path)]

    def __call__(self, *more: str, fate: str = "") -> tuple[int, str]:
        os.environ["FATE"] = fate
        worker._code.cache_clear()
        status = main([*self.arguments, *more])
        out, err = self._capsys.readouterr() if self._capsys else ("", "")
        return status, out + err

    def records(self) -> dict[str, dict[str, Any]]:
        paths = sorted(self.path.glob("cells/*/record.json"))
        return {path.parent.name: json.loads(path.read_text()) for path in paths}

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.path.glob("cells/*/*"))}

    def forget(self) -> None:
        """Have nothing run yet."""
        shutil.rmtree(self.path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "fateful.py").write_text(PLUGIN)
    (folder / "plugins" / "_helper.py").write_text("SCALE = 1.0\n")
    (folder / "matrix.toml").write_text(MATRIX)
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, folder)
        assert Run(folder)()[0] == 0
    sys.modules.pop("_helper")
    return folder


def in_this_process(patch: pytest.MonkeyPatch, folder: Path) -> None:
    run_in_this_process(patch, Fateful)
    patch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    patch.setattr("sys.path", [*sys.path, str(folder / "plugins")])
    patch.setenv("FATE", "")


@pytest.fixture
def run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Return a finished run of its own."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    plan = tmp_path / "run" / "plan.json"
    plan.write_text(plan.read_text().replace(str(finished), str(tmp_path)))
    in_this_process(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    yield Run(tmp_path, capsys)
    sys.modules.pop("_helper", None)


# Re-runs


@pytest.mark.parametrize(
    ("fate", "status", "word", "kind"),
    [
        ("raises", 1, "the method has a bug", "failed"),
        ("memory", 1, "too big", "out_of_memory"),
        ("interrupted", 130, "kept", ""),
    ],
)
@pytest.mark.thorough
def test_a_rerun_that_does_not_end_well_leaves_finished_cells_as_they_were_and_is_told(
    run: Run, fate: str, status: int, word: str, kind: str
) -> None:
    before = run.files()
    ended, said = run("--rerun", "all", fate=fate)
    assert ended == status and word in said
    assert run.files() == before
    if status == 1:
        assert "2 attempts failed, and left what was there before as it was" in said
        assert "The last attempt at 2 cells failed and left their records as they were" in remarks(LiveRun(run.path))[0]
        failed = [json.loads(path.read_text()) for path in run.path.glob("failed/cells/*/record.json")]
        assert [record["status"] for record in failed] == [kind, kind]
        assert ("traceback: " in said) == (fate in ("raises", "memory"))
    ended, said = run("--rerun", "failed")
    assert ended == 0 and f"{2 if status == 1 else 0} to run" in said
    assert not list(run.path.glob("failed/cells/*")) and not (run.path / "attempts").exists()


@pytest.mark.thorough
def test_a_killed_rerun_leaves_every_file_of_a_finished_cell_as_it_was(run: Run) -> None:
    before = run.files()
    command = [sys.executable, "-m", "fedfore.cli.main", *run.arguments, "--rerun", "all", "--workers", "1"]
    environment = {**os.environ, "FATE": "sleeps", "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, env=environment) as process:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in run.path.glob(f"attempts/*/cells/*/{ROUNDS}")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert run.files() == before
    status, said = run()
    assert status == 0 and "2 already there, 0 to run" in said
    assert run.files() == before and not (run.path / "attempts").exists()


def test_an_attempt_begins_with_an_empty_folder_and_replaces_one_that_failed(run: Run) -> None:
    run.forget()
    assert run(fate="raises")[0] == 1
    assert all("traceback.txt" in found["files"] for found in run.records().values())
    assert run("--rerun", "failed")[0] == 0
    assert {found["status"] for found in run.records().values()} == {"ok"}
    assert not list(run.path.glob("cells/*/traceback.txt"))
    assert {found["attempt"] for found in run.records().values()} == {2}


@pytest.mark.parametrize("crash", range(2))
def test_a_crash_between_two_steps_of_a_replacement_loses_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, crash: int
) -> None:
    before, rename, calls = run.records(), Path.rename, [0]

    def crashing(path: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] > crash:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", crashing)
        assert run("--rerun", "all")[0] == 130
    assert len(run.records()) == 2 - crash
    assert run()[0] == 0
    after = run.records()
    assert after.keys() == before.keys() and {found["status"] for found in after.values()} == {"ok"}
    assert sorted(found["attempt"] for found in after.values()) == [1, 2]


def test_a_linked_file_is_replaced_and_not_written_through(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    for path in run.path.glob(f"cells/*/{ROUNDS}"):
        path.unlink()
        path.symlink_to(target)
    target.write_text("mine")
    assert run("--rerun", "all")[0] == 0
    assert target.read_text() == "mine"


# Staleness


def test_a_record_of_other_settings_under_the_same_id_is_stale_and_named(run: Run) -> None:
    path = next(run.path.glob("cells/*/record.json"))
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "params": {**stored["params"], "lr": 0.025}}))
    status, said = run()
    assert status == 0 and "2 already there, 1 of them stale, 0 to run" in said
    assert f"{path.parent.name} (params.lr = 0.025, planned {stored['params']['lr']})" in said
    assert load_table(LiveRun(run.path))["stale"].sum() == 1
    status, said = run("--rerun", "stale")
    assert status == 0 and "1 to run" in said and "other settings" not in said


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("fateful.py", '"""Ends as the environment says."""\nimport', '"""Other words."""\n\n# A remark.\nimport', ""),
        ("fateful.py", '"the method has a bug"', '"the method has two bugs"', "other code"),
        ("_helper.py", "1.0", "1.0  # as it is", ""),
        ("_helper.py", "1.0", "0.0", "other code"),
    ],
)
def test_a_changed_plug_in_or_helper_is_stale_and_changed_words_are_not(
    run: Run, capsys: pytest.CaptureFixture[str], file: str, old: str, new: str, expected: str
) -> None:
    path = run.plugins / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert set(load_table(LiveRun(run.path))["staleness"]) == {expected}
    assert main(["show", str(run.path)]) == 0
    assert ("2 records were computed with other code" in capsys.readouterr().err) == bool(expected)
    assert f"{2 if expected else 0} to run" in run("--rerun", "stale")[1]
    path.unlink()
    (run.plugins / "fateful.py").unlink(missing_ok=True)
    assert "Whether 2 records are stale is not known: the method files of fateful" in remarks(LiveRun(run.path))[0]


def test_a_worker_with_other_code_than_that_of_the_start_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    present = worker.code_sha256
    monkeypatch.setattr("fedfore.execution.worker._code", lambda file: present(file)[::-1])
    monkeypatch.setattr("fedfore.execution.worker._code.cache_clear", lambda: None, raising=False)
    run.forget()
    assert main(run.arguments) == 1
    assert all(
        "the code here is not that with which the run began" in found["reason"] for found in run.records().values()
    )


# Verdicts


@pytest.mark.parametrize(
    ("fate", "status", "there"),
    [("", 0, 2), ("removes:run/cells", 1, 1), ("removes:run/attempts", 1, 0), ("moves:/", 1, 2)],
)
@pytest.mark.thorough
def test_the_exit_status_is_of_what_lies_on_disk_in_the_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fate: str, status: int, there: int
) -> None:
    run.forget()
    run.path = Path("run")
    kind, _, place = fate.partition(":")
    ended, said = run(fate=f"{kind}:{tmp_path / place}")
    os.chdir(tmp_path)
    assert len(run.records()) == there
    assert ended == status
    assert (f"{2 - there} of 2 planned cells have no record" in said) == (there < 2)


@pytest.mark.thorough
def test_cells_of_an_earlier_plan_count_and_commands_are_all_kept(run: Run) -> None:
    run.forget()
    run("--set", "seed=[5]", fate="raises")
    status, said = run("--extend")
    assert status == 1 and "1 of 3 cells did not finish" in said
    document = json.loads((run.path / "plan.json").read_text())
    assert ["seed=[5]" in command for command in document["commands"]] == [True, False]
    for path in run.path.glob("cells/*/record.json"):
        if json.loads(path.read_text())["seed"] == 5:
            path.unlink()
    status, said = run("--extend")
    assert status == 1 and "1 of 3 planned cells have no record" in said


# Failures while a failure is told


@pytest.mark.parametrize(("fate", "word"), [("unprintable", "Unprintable"), ("surrogate", "half of a character")])
def test_an_error_that_cannot_be_told_is_told_in_other_words(run: Run, fate: str, word: str) -> None:
    run.forget()
    status, said = run(fate=fate)
    assert status == 1 and "2 of 2 cells did not finish" in said
    assert all(word in found["reason"] for found in run.records().values())


@pytest.mark.thorough
def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        if "record.json" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(28, "No space left on device")

    run.forget()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        status, said = run()
    assert status == 1 and "record.json: No space left on device." in said and not run.records()
    assert "2 of 2 planned cells have no record" in said
    assert run()[0] == 0 and len(run.records()) == 2


def test_notes_that_are_no_json_lose_no_measurement(run: Run) -> None:
    run.forget()
    status, said = run("--set", "seed=[0]", fate="notes")
    assert status == 0, said
    (found,) = run.records().values()
    assert found["status"] == "ok" and found["test_accuracy"] > 0 and "notes.json" in found["files"]
    stored = json.loads(next(run.path.glob("cells/*/notes.json")).read_text())
    assert stored == {"x": "nan", "y": [0.5, "-inf"]}


# Damage


@pytest.mark.thorough
def test_a_record_that_is_none_counts_as_missing_is_named_and_runs_again(run: Run) -> None:
    path = next(run.path.glob("cells/*/record.json"))
    good = json.loads(path.read_text())
    contents = [
        "", "{}", "[]", "{", json.dumps({**good, "schema_version": 99}), json.dumps({**good, "cell_id": "fateful-0"}),
        json.dumps({**good, "test_accuracy": float("inf")}), json.dumps({**good, "test_accuracy": "high"}),
        json.dumps({**good, "test_accuracy": 10**400}), f'{{"seed": {"9" * 5000}}}',
        json.dumps({**good, "files": [1]}), json.dumps({**good, "simulated": "yes"}),
        json.dumps({**good, "environment": ["x"]}), path.read_text().replace('"ok"', '"fine"'),
        json.dumps({**good, "params": 3}), "\udcff", None,
    ]  # fmt: skip
    for content in contents:
        path.unlink()
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content.encode(errors="surrogateescape"))
        table = load_table(LiveRun(run.path))
        assert sorted(table["status"]) == ["missing", "ok"], content
        assert str(path) in table.loc[table["status"] == "missing", "reason"].item()
        assert "1 records count as missing" in remarks(LiveRun(run.path))[0]
    assert "1 to run" in run()[1]
    assert all(found["status"] in DONE for found in run.records().values())


def test_a_cell_whose_lines_were_moved_away_runs_again(run: Run) -> None:
    next(run.path.glob(f"cells/*/{ROUNDS}")).unlink()
    assert "1 cells have lost files" in remarks(LiveRun(run.path))[0]
    assert "1 to run" in run()[1]
    assert remarks(LiveRun(run.path)) == []


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(files.StoreError, match="damaged"):
        files.read_lines(tmp_path / "x")


# The record


def test_the_fields_of_a_record_are_exactly_those_that_have_a_row_and_made_up_records_have_the_same(run: Run) -> None:
    found, _ = run.records().values()
    assert found.keys() == FIELDS.keys() > MEASURED.keys()
    made = record_to_json(record(cells(("fedavg",), alphas=("iid",), seeds=(0,))[0]))
    assert found.keys() == made.keys()
    assert found["started_utc"] <= found["finished_utc"] and found["hash_scheme"] == 2


def test_a_cell_that_diverged_says_what_a_step_cost_and_nothing_of_what_it_learnt(run: Run) -> None:
    good = next(iter(run.records().values()))
    run.forget()
    assert run("--set", "params.fateful.lr=1e12", "--set", "seed=0")[0] == 1
    (bad,) = run.records().values()
    assert bad["status"] == "diverged" and bad["test_accuracy"] is None and bad["budget_used"] is None
    costs = ("peak_device_bytes", "device_step_flops", "forward_macs_masked", "uplink_bytes_per_client_round")
    assert {name: bad[name] for name in costs} == {name: good[name] for name in costs}
    assert bad["uplink_bytes"] == good["uplink_bytes"] > 0, "one round of one"

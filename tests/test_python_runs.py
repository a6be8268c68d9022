"""`fedfore.run`: a matrix run from Python is the one that the command runs, and leaves the caller as it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fedfore
from fedfore.cli.main import main
from fedfore.errors import ConfigError, PluginError
from fedfore.execution.command import command_of
from fedfore.execution.request import Request
from fedfore.records.plan_file import read_commands
from tests.conftest import run_in_this_process
from tests.test_progress import PLUGIN

MATRIX: dict[str, Any] = {
    "grid": {"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5"], "seed": [0]},
    "train": {"clients": 4, "rounds": 1, "ntk": False},
    "params": {"fedavg": {"local_steps": 1}},
}
TOML = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0]
[train]
clients = 4
rounds = 1
ntk = false
[params.fedavg]
local_steps = 1
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run_in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(TOML)
    return tmp_path


@pytest.mark.thorough
def test_a_dict_a_file_and_the_command_run_the_same_cells(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_dict = fedfore.run(MATRIX, out="dict", set={"seed": range(2)})
    by_file = fedfore.run(Path("mine.toml"), set={"seed": (0, 1)})
    said = capsys.readouterr()
    assert main(["run", "mine.toml", "--set", "seed=[0, 1]", "--out", "command"]) == 0
    by_command = fedfore.load("command")
    numbers = [one.cells[["cell_id", "status", "test_accuracy", "uplink_bytes"]] for one in (by_dict, by_file)]
    assert all(one.equals(by_command.cells[list(one)]) for one in numbers)
    assert by_file.runs[0].path == here / "results" / "runs" / "mine"
    assert said.out == "" and "2 cells planned, 0 already there, 2 to run in dict" in said.err


def test_what_is_there_is_not_run_again_and_the_command_of_a_run_goes_on_with_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fedfore.run(MATRIX, out="mine", progress=False)
    assert capsys.readouterr() == ("", "")
    fedfore.run(MATRIX, out="mine")
    assert "1 already there, 0 to run" in capsys.readouterr().err
    (command,) = read_commands(here / "mine")
    assert command == "fedfore run mine/matrix.toml --out mine"
    assert main(command.split()[1:]) == 0
    assert "1 already there, 0 to run" in capsys.readouterr().err


def test_a_command_says_what_was_asked(tmp_path: Path) -> None:
    asked = Request(out="o", workers=2, rerun="failed", only=("a", "1/2"), save_model=True, study="results/s")
    said = command_of("quick", asked, set=["seed=[0, 1]"], plugins=["p"])
    assert said == (
        "fedfore run quick --set 'seed=[0, 1]' --plugins p --out o --workers 2 --rerun failed --only a --only 1/2 "
        "--save-model --from results/s"
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"matrix": MATRIX}, "given as a dict has no name"),
        ({"matrix": "quik"}, 'Did you mean "quick"'),
        ({"workers": -1}, r"^run\.workers = -1: input should be greater than or equal to 0"),
        ({"rerun": "stail"}, r"^run\.rerun = 'stail'"),
        ({"worker": 2}, r'\[run\] has no key "worker"\. Did you mean "workers"'),
        ({"set": {"sed": [0]}}, 'there is no key "sed"'),
        ({"executor": "cloud"}, 'no executor "cloud"'),
    ],
)
def test_what_cannot_run_is_one_sentence_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr("fedfore.execution.executors.warm_server.warm_up", lambda: None)
    with pytest.raises(ConfigError, match=message):
        fedfore.run(**{"matrix": "mine.toml", **asked})
    with pytest.raises(PluginError, match="is no folder"):
        fedfore.run("mine.toml", plugins=["nowhere"])
    assert not (here / "results").exists()


def test_a_cell_that_fails_is_a_row_and_the_caller_is_as_before(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAUSE", "0")
    (here / "own").mkdir()
    (here / "own" / "slow.py").write_text(PLUGIN)
    signals = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = (signals, sys.path[:], signal.pthread_sigmask(signal.SIG_BLOCK, ()), sys.breakpointhook)
    slow = MATRIX | {"params": {"slow": {"local_steps": 1}}}
    results = fedfore.run(slow, out="slow", set={"method": ["slow"], "seed": [0, 1]}, plugins=["own"])
    assert sorted(results.cells["status"]) == ["failed", "ok"]
    assert "1 of 2 cells did not finish:\nfailed: slow-" in capsys.readouterr().err
    now = {one: signal.getsignal(one) for one in signals}
    assert (now, sys.path, signal.pthread_sigmask(signal.SIG_BLOCK, ()), sys.breakpointhook) == before


SCRIPT = """
import fedfore, methods, plots, bench
results = fedfore.run({matrix!r}, out="run", set={{"seed": [0, 1]}}, workers=2)
print(list(results.cells["status"]), fedfore.plot(results, "accuracy-digits") is not None)
print(bench.OWN, plots.OWN, methods.OWN)
"""


@pytest.mark.thorough
def test_a_script_without_a_guard_runs_beside_files_that_are_called_as_the_suites_folders(tmp_path: Path) -> None:
    for name in ("plots.py", "bench.py", "methods/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"OWN = {name!r}\n")
    (tmp_path / "mine.py").write_text(SCRIPT.format(matrix=MATRIX))
    done = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("['ok', 'ok'] True\nbench.py plots.py methods/__init__.py\n", 0)
    assert done.stderr.splitlines()[0] == "2 cells planned, 0 already there, 2 to run in run"
    assert sorted(line.split()[:2] for line in done.stderr.splitlines()[1:]) == [["1/2", "ok:"], ["2/2", "ok:"]]

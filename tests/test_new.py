"""`fedfore new`: every kind of file that it writes passes `check` as written and runs, and it overwrites nothing."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.templates import CLASS, FUNCTION, FUNCTIONS, KINDS
from tests.conftest import run_in_this_process

OWN = {
    "method": ["local_steps=1"],
    "bp_free": ["num_perturbations=2"],
    "pruning": ["iterations=1"],
    "dynamic": ["local_steps=1"],
    "dataset": [],
    "model": [],
}
"""What makes a kind's run short."""
SHORT = ("train.data_passes=0.2", "train.eval_every=0.1", "train.ntk=false", "seed=[0]", 'alpha=["iid"]')


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


SLOW = ("method", "bp_free", "pruning")
"""Methods of which no more rules are tried than of `dynamic`, or that are costly to try."""


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else ()) for kind in KINDS])
@pytest.mark.thorough
def test_a_new_file_keeps_the_contract_and_runs_by_the_commands_that_are_printed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"my_{kind}"
    assert main(["new", name, "--kind", kind]) == 0
    path, _, _, *commands = capsys.readouterr().out.splitlines()
    check, run = (shlex.split(command)[1:] for command in commands)
    text = Path(path).read_text(encoding="utf-8")
    assert CLASS not in text and FUNCTION not in text
    assert check[0] == "check" and main(check) == 0
    odd = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok")]
    assert not odd
    run_in_this_process(monkeypatch)
    cuts = [*SHORT, *OWN[kind]]
    if kind not in FUNCTIONS:
        cuts = [*SHORT, f'method=["{name}"]', "sparsity=[0.8]", *(f"params.{name}.{own}" for own in OWN[kind])]
    assert main([*run, *(word for cut in cuts for word in ("--set", cut))]) == 0
    assert (tmp_path / "results" / "runs" / name / "report.html").is_file()


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("kept", encoding="utf-8")
    assert main(["new", "mine"]) == 2
    assert capsys.readouterr().err == (
        "fedfore: mine.py is there already, and stays as it is; choose another name, or move it.\n"
    )
    assert (tmp_path / "mine.py").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["../mine"], '"../mine" is no name: use letters'),
        (["mine.py"], '"mine.py" is no name: use letters'),
        (["_mine"], '"_mine" is no name: use letters'),
        (["fedavg"], 'There is a "fedavg" already'),
        (["digits", "--kind", "dataset"], 'There is a "digits" already'),
        (["lenet5", "--kind", "model"], 'There is a "lenet5" already'),
        (["my-data", "--kind", "dataset"], '"my-data" is no name of a function'),
        (["class", "--kind", "model"], '"class" is no name of a function'),
        (["json"], '"json" is a module that is installed'),
        (["mine", "--dir", "nowhere"], "--dir nowhere is no folder"),
    ],
)
def test_a_name_or_a_folder_that_cannot_be_used_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.py"))


def test_a_class_is_called_after_its_file(tmp_path: Path) -> None:
    for name, called in {"fed-top_k": "FedTopK", "3sfc": "Method3sfc", "SCAFFOLD": "SCAFFOLD"}.items():
        assert main(["new", name]) == 0
        assert f"\nclass {called}(Method):\n" in (tmp_path / f"{name}.py").read_text(encoding="utf-8")

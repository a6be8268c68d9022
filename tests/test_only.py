"""Some cells of a plan: by id, by the beginning of one, and every N-th for the tasks of an array."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.execution.only import Only
from fedfore.records.plan_file import read_plan
from fedfore.records.store import LiveRun
from tests.conftest import run_in_this_process
from tests.test_stages import Instant, instant, run

__all__ = ["instant"]
IDS = [f"fedavg-a{number}" for number in range(5)] + ["baffle-b1", "baffle-b10"]
MATRIX = """
[grid]
method = ["fedavg", "baffle"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0, 1]
[train]
clients = 4
ntk = false
meter_only = true
"""


def chosen(*texts: str, more_to_come: bool = False) -> list[str]:
    return sorted(Only.parsed(texts).chosen(IDS, more_to_come=more_to_come))


def test_a_cell_is_named_by_its_id_or_by_the_beginning_of_it() -> None:
    assert chosen("fedavg-a3") == ["fedavg-a3"]
    assert chosen("baffle-b1", "fedavg-a0") == ["baffle-b1", "fedavg-a0"]
    assert chosen("baffle-b10") == ["baffle-b10"]


def test_shares_are_disjoint_and_together_the_plan() -> None:
    shares = [chosen(f"{k}/3") for k in (1, 2, 3)]
    assert shares[0] == sorted(IDS[0::3])
    assert sorted(one for share in shares for one in share) == sorted(IDS)
    assert chosen("9/9") == [], "more tasks than cells"
    assert chosen("1/7", "fedavg-a4") == ["fedavg-a0", "fedavg-a4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0/3", "0/3 is no share"), ("4/3", "K from 1 to N"), ("0/0", "no share"),
        ("baffle", "begins the ids of 2 cells"),
               ("fedavg-", "begins the ids of 5 cells"), ("fedavg-a9", 'Did you mean "fedavg-a'), ("-1/3", "no cell"),
    ],
)  # fmt: skip
def test_what_is_not_one_cell_is_a_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen(text)


def test_a_plan_that_grows_says_so() -> None:
    with pytest.raises(ConfigError, match=r"no cell .* later stage are known once"):
        chosen("report-1", more_to_come=True)


@pytest.mark.thorough
def test_a_command_runs_its_share_and_its_exit_status_is_that_of_the_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_this_process(monkeypatch)
    monkeypatch.setattr("fedfore.plots.report.page.write_report", lambda run: run.path / "report.html")
    (tmp_path / "small.toml").write_text(MATRIX)
    runs = [str(tmp_path / f"run-{k}") for k in (1, 2)]
    for k, folder in enumerate(runs, 1):
        assert main(["run", str(tmp_path / "small.toml"), "--only", f"{k}/2", "--out", folder]) == 0
        said = capsys.readouterr()
        assert "4 cells planned, 0 already there, 2 to run" in said.err and "have no record" not in said.out
        plan = [cell.id for cell in read_plan(Path(folder))]
        assert LiveRun(Path(folder)).recorded() == sorted(plan[k - 1 :: 2])
    assert main(["merge", *runs, "--out", str(tmp_path / "both")]) == 0
    assert main(["run", str(tmp_path / "small.toml"), "--out", str(tmp_path / "both")]) == 0
    assert "4 already there, 0 to run" in capsys.readouterr().err
    unknown = ["--only", "nothing", "--out", str(tmp_path / "none")]
    assert main(["run", str(tmp_path / "small.toml"), *unknown]) == 2
    assert not (tmp_path / "none").exists()


def test_shares_of_a_stage_are_merged_before_the_next_one_is_planned(tmp_path: Path, instant: Instant) -> None:
    shares = [tmp_path / "share-1", tmp_path / "share-2"]
    for k, folder in enumerate(shares, 1):
        assert run(folder, instant, only=Only.parsed([f"{k}/2"])).is_complete
    assert set(instant.stages) == {"tune1"}
    assert max(instant.ran.values()) == 1, "no trial ran twice"
    assert main(["merge", *map(str, shares), "--out", str(tmp_path / "both")]) == 0
    assert run(tmp_path / "both", instant).is_complete
    assert max(instant.ran.values()) == 1 and instant.stages["report"] == 4
    whole = run(tmp_path / "whole", instant)
    assert {one.cell_id for one in whole.records} == set(LiveRun(tmp_path / "both").recorded())

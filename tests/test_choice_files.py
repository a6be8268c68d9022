"""Choices of a published study in a file beside the matrices that take them: made, inlined, used and verified."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.execution.choice_files import choices_text, inlined, refresh_choices, taken
from fedfore.execution.executors.inline import Inline
from fedfore.execution.matrix_file import matrix_text, read_matrix
from fedfore.execution.runner import RunOptions
from fedfore.execution.stages import run_stages
from fedfore.execution.subject import Asked, Subject
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.execution.verification import matrix_problems
from fedfore.judgement.judging import evidence, judged_of
from fedfore.matrices import named_matrices
from fedfore.records.publishing import publish
from fedfore.records.store import open_run
from tests.test_stages import instantly, run, small
from tests.test_tuning import METHODS, best_at

TAKING = """# A cheap matrix.
[grid]
method = ["fedavg", "baffle", "fedavg_erk"]
dataset = ["digits"]
model = ["lenet5"]
sparsity = [0.5]
seed = [0, 1]
[train]
rounds = 3
estimator = "finite_difference"
[params.baffle]
num_perturbations = 100
[tune]
from = "tuned"
"""
K = "params.baffle.num_perturbations"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a published study with a choice for FedAvg and one for each K of BAFFLE."""
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        instant = instantly(patch)
        instant.accuracy = lambda cell: best_at({"fedavg": 10.0}.get(cell.method, 0.03))(cell)
        run(folder / "live", instant, small(grid={K: [10, 100], "seed": [0]}))
    publish(open_run(folder / "live"), folder / "tuned")
    return folder / "tuned"


@pytest.fixture
def tuned(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "results" / "tuned"))


@pytest.fixture
def taking(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a matrix that takes the study's choices, the one that ships."""
    path = tmp_path / "matrices" / "cheap.toml"
    path.parent.mkdir()
    path.write_text(TAKING)
    monkeypatch.setattr("fedfore.execution.choice_files.named_matrices", lambda: {"cheap": path})
    assert refresh_choices(tuned.parent) == [path.parent / "tuned.choices.toml"]
    return path


def reported(plan: StagedPlan) -> set[tuple[str, float]]:
    return {(item.cell.method, item.cell.params["lr"]) for item in plan.cells}


def test_what_a_study_chose_is_a_file_and_a_matrix_takes_it(taking: Path, tuned: Path) -> None:
    stored = tomllib.loads((taking.parent / "tuned.choices.toml").read_text())
    assert stored == {
        "study": "tuned",
        "choice": [
            {"where": {"method": "fedavg"}, "values": {"lr": 3.0}, "at_edge": True},
            {"where": {"method": "baffle", "num_perturbations": 10}, "values": {"lr": 0.03}, "at_edge": False},
            {"where": {"method": "baffle", "num_perturbations": 100}, "values": {"lr": 0.03}, "at_edge": False},
        ],
    }
    assert refresh_choices(tuned.parent) == [] and [file for file, _ in taken(tuned.parent, ["other"])] == []
    plan = staged_plan(read_matrix(taking), METHODS, {})
    default = METHODS["fedavg_erk"].method.Config().lr  # type: ignore[union-attr]
    assert reported(plan) == {("fedavg", 3.0), ("baffle", 0.03), ("fedavg_erk", default)}
    assert plan.untuned == ("fedavg_erk",) and {item.cell.stage for item in plan.cells} == {"report"}
    other = staged_plan(read_matrix(taking, ("params.baffle.num_perturbations=7",), METHODS), METHODS, {})
    assert other.untuned == ("baffle", "fedavg_erk")


def test_the_matrix_that_a_run_stores_holds_the_choices(taking: Path, tmp_path: Path) -> None:
    text = matrix_text(taking, read_matrix(taking))
    (tmp_path / "elsewhere.toml").write_text(text)
    assert read_matrix(tmp_path / "elsewhere.toml") == read_matrix(taking) != tomllib.loads(TAKING)
    untuned = {key: value for key, value in tomllib.loads(TAKING).items() if key != "tune"}
    assert matrix_text(taking, read_matrix(taking, ("tune=",))) == f"# A cheap matrix.\n\n{tomli_w.dumps(untuned)}"


def test_a_series_without_a_choice_gets_no_verdict(
    taking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrast = {"name": "sparse", "of": {"method": "fedavg_erk"}, "against": {"method": "baffle"}}
    edge = {"name": "edge", "of": {"method": "fedavg"}, "against": {"method": "baffle"}}
    document = read_matrix(taking) | {"contrast": [contrast, edge]}
    instantly(monkeypatch).accuracy = lambda cell: 0.5 + 0.1 * cell.seed
    options = RunOptions(tmp_path / "cheap", "fedfore run cheap", Inline(), matrix=tomli_w.dumps(document))
    assert run_stages(document, METHODS, options).is_complete
    found = judged_of(open_run(options.run))
    assert [one.reason for one in found] == [
        "no tuned choice (fedavg_erk)",
        "the tuned values lie at an edge of their grid (fedavg)",
    ]
    table = evidence(open_run(options.run))
    assert set(table.loc[table["lacks_choice"], "method"]) == {"fedavg_erk"}


def test_a_typed_change_of_the_file_is_found(
    taking: Path, tuned: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = taking.parent / "tuned.choices.toml"
    monkeypatch.chdir(tuned.parent.parent)
    line = "tuned.choices.toml, of results/tuned"
    main(["verify", "results/tuned"])
    assert f"ok      results  {line}" in capsys.readouterr().out
    file.write_text(file.read_text().replace("lr = 0.03", "lr = 0.3", 1))
    assert main(["verify", "results/tuned"]) == 1
    said = "differs results  tuned.choices.toml is not what results/tuned gives; run `fedfore refresh`."
    assert said in capsys.readouterr().out
    assert [path.name for path in refresh_choices(tuned.parent)] == [file.name]


def test_what_a_study_took_is_compared_with_the_file_at_its_commit(taking: Path, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=A", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "matrices")
    git("commit", "--quiet", "--message", "a matrix")

    class Told(Subject):
        commit = "HEAD"

    study = tmp_path / "study"
    study.mkdir()
    (study / "matrix.toml").write_text(matrix_text(taking, read_matrix(taking)))
    subject = Told(open_run(study), Asked("matrices/cheap.toml"), METHODS, tmp_path)
    assert list(matrix_problems(subject)) == []
    (study / "matrix.toml").write_text(matrix_text(taking, read_matrix(taking)).replace("lr = 3.0", "lr = 1.0"))
    (wrong,) = matrix_problems(Told(open_run(study), Asked("matrices/cheap.toml"), METHODS, tmp_path))
    assert wrong.startswith("matrix.toml: tune.choice[0].values.lr is not as in commit HEAD")


CHOICE = {"where": {"method": "baffle"}, "values": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("tune", "changes", "said"),
    [
        ({"keep": 3}, {}, '[tune] takes its choices from "tuned"; leave keep out, or from'),
        ({"choice": [{}]}, {}, "[[tune.choice]] 1 needs where and values"),
        (
            {"choice": [CHOICE | {"where": {}}]},
            {},
            "[[tune.choice]] 1: where and values are tables, where names a method",
        ),
        ({"choice": 3}, {}, "tune.choice is a list of tables"),
        ({"choice": [CHOICE, CHOICE]}, {}, "[[tune.choice]]: baffle and baffle both fit baffle-"),
        ({"choice": [CHOICE]}, {"params": {"lr": 0.1}}, "[params] sets lr of baffle, which [tune] chooses"),
        (
            {"choice": [{**CHOICE, "where": {"method": "baffle", "kk": 1}}]},
            {},
            '[[tune.choice]]: nothing is called "kk"',
        ),
        ({"choice": [{**CHOICE, "values": {"kk": 1}}]}, {}, '[params.baffle] has no key "kk"'),
    ],
)
def test_choices_that_cannot_be_taken_are_one_sentence(
    tune: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    document = {**tomllib.loads(TAKING), **changes, "tune": {"from": "tuned", "choice": [], **tune}}
    with pytest.raises(ConfigError) as error:
        staged_plan(document, METHODS, {})
    assert said in str(error.value)


def test_a_file_that_is_not_there_or_of_another_study_is_one_sentence(tuned: Path, tmp_path: Path) -> None:
    path = tmp_path / "cheap.toml"
    path.write_text(TAKING)
    with pytest.raises(
        ConfigError, match=r"there is no tuned.choices.toml beside the matrix; publish that study and run"
    ):
        read_matrix(path)
    assert "tune" not in read_matrix(path, ("tune=",))
    (tmp_path / "tuned.choices.toml").write_text('study = "other"\n')
    with pytest.raises(ConfigError, match=r'tuned.choices.toml is of study "other"; run `fedfore refresh`'):
        read_matrix(path)
    with pytest.raises(ConfigError, match="x has no choices of tuning; take them from a finished study that tunes"):
        publish_untuned(tmp_path, tuned)


def publish_untuned(tmp_path: Path, tuned: Path) -> None:
    (tmp_path / "x").symlink_to(tuned)
    plan = (tuned / "plan.json").read_text()
    (tuned / "plan.json").write_text(plan.replace('"tuning"', '"tuned"'))
    choices_text(tmp_path / "x")


def test_files_of_choices_are_no_matrices() -> None:
    assert not [name for name in named_matrices() if "." in name]
    assert inlined({"tune": {"from": "x", "choice": []}}, lambda name: None) == {"tune": {"from": "x", "choice": []}}

"""Runs of matrices that tune: stage after stage, interrupted, with trials run again, verified, published and judged."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedfore.cell import Cell
from fedfore.errors import StoreError
from fedfore.execution.executors.inline import Inline
from fedfore.execution.id_rules import NOTHING, problems
from fedfore.execution.job import Job
from fedfore.execution.runner import Outcome, RunOptions
from fedfore.execution.stages import StageProgress, run_stages
from fedfore.execution.subject import Asked, Subject
from fedfore.execution.trials import ended_trials
from fedfore.execution.tuning import staged_plan
from fedfore.execution.worker import conclude
from fedfore.judgement.judging import evidence, judged_of
from fedfore.plots.cards.facts import cells_text
from fedfore.plots.cards.pages import refresh
from fedfore.plots.cards.template import write_card
from fedfore.plots.study import load_study
from fedfore.records.plan_file import read_plan
from fedfore.records.publishing import publish, unpack
from fedfore.records.record import Moment, Record
from fedfore.records.run_folder import cell_dir
from fedfore.records.store import load_table, open_run, remarks
from tests.test_tuning import METHODS, RATES, Accuracy, best_at, matrix

Run = Callable[..., Outcome]


class Instant:
    """Runs a cell in no time: `accuracy` says what comes of it; `ran` counts the cells that did."""

    def __init__(self, accuracy: Accuracy) -> None:
        self.accuracy = accuracy
        self.ran: Counter[str] = Counter()
        self.said: list[str] = []

    def __call__(self, job: Job) -> Record:
        result = self.accuracy(job.cell)
        self.ran[f"{job.cell.stage} {job.cell.id}"] += 1
        if not isinstance(result, float):
            return conclude(job, "failed", str(result), {}, Moment.now())
        name = "test_accuracy" if job.cell.stage == "report" else "validation_accuracy"
        return conclude(job, "ok", None, {name: result}, Moment.now())

    @property
    def stages(self) -> Counter[str]:
        return Counter(name.split()[0] for name in self.ran.elements())


def instantly(patch: pytest.MonkeyPatch) -> Instant:
    """Let every cell of a run end at once."""
    job = Instant(best_at(0.03))
    patch.setattr("fedfore.execution.worker.run_job", job)
    patch.setattr("fedfore.execution.runner.git_commit", lambda: "0" * 40)
    return job


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> Instant:
    return instantly(monkeypatch)


def small(**changes: Any) -> dict[str, Any]:
    """Return a matrix of one series a method, tuned on one seed, and two reported cells of each."""
    changes.setdefault("tune", {})
    if changes["tune"] is not None:
        changes["tune"] = {"seed": [100], **changes["tune"]}
    return matrix(**{**changes, "grid": {"alpha": ["iid"], **changes.get("grid", {})}})


def run(folder: Path, instant: Instant, document: dict[str, Any] | None = None, **options: Any) -> Outcome:
    document = document or small()
    settings = RunOptions(folder, "fedfore run small.toml", Inline(), matrix=tomli_w.dumps(document), **options)
    return run_stages(document, METHODS, settings, StageProgress(said=instant.said.append))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has come to its end."""
    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        run(folder, instantly(patch))
    return folder


@pytest.fixture
def copied(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended, tmp_path / "copied"))


def subject(folder: Path) -> Subject:
    return Subject(open_run(folder), Asked("small"), METHODS, folder)


def plan_file(folder: Path, change: Callable[[Any], None]) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    change(plan["tuning"])
    (folder / "plan.json").write_text(json.dumps(plan))


def test_a_run_goes_through_its_stages_and_keeps_what_was_chosen(tmp_path: Path, instant: Instant) -> None:
    outcome = run(tmp_path, instant)
    assert outcome.is_complete and len(outcome.records) == 8 + 4 + 4
    assert instant.stages == {"tune1": 8, "tune2": 4, "report": 4} and max(instant.ran.values()) == 1
    stored = open_run(tmp_path)
    tuning = stored.tuning()
    assert tuning is not None and [choice.values for choice in tuning.choices or ()] == [{"lr": 0.03}] * 2
    assert {record.params["lr"] for record in outcome.records if record.stage == "report"} == {0.03}
    assert problems(subject(tmp_path)) == NOTHING and not stored.is_unfinished() and remarks(stored) == []
    again = run(tmp_path, instant)
    assert again.is_complete and sum(instant.ran.values()) == 16 and instant.said == []


@pytest.mark.parametrize("stage", ["tune1", "tune2"])
def test_a_run_that_stops_between_stages_goes_on_where_it_was(tmp_path: Path, instant: Instant, stage: str) -> None:
    def stopping(cell: Cell) -> float | str:
        if cell.stage == stage and any(name.startswith(stage) for name in instant.ran):
            raise KeyboardInterrupt
        return best_at(0.03)(cell)

    instant.accuracy = stopping
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, instant)
    assert open_run(tmp_path).is_unfinished()
    instant.accuracy = best_at(0.03)
    assert run(tmp_path, instant).is_complete
    assert instant.stages == {"tune1": 8, "tune2": 4, "report": 4} and max(instant.ran.values()) == 1
    assert problems(subject(tmp_path)) == NOTHING


def test_a_trial_that_runs_again_and_changes_the_choice_is_heeded(tmp_path: Path, instant: Instant) -> None:
    def first(cell: Cell) -> float | str:
        return "no luck" if cell.params["lr"] == 0.1 and cell.method == "baffle" else best_at(0.03)(cell)

    instant.accuracy = first
    assert not run(tmp_path, instant).is_complete
    before = {record.cell_id for record in run(tmp_path, instant).records if record.stage == "report"}
    instant.ran.clear()
    instant.accuracy = lambda cell: 0.95
    outcome = run(tmp_path, instant, rerun="failed")
    assert instant.said == [
        "baffle: its trials choose lr 0.1 now, and chose lr 0.03 before; its cells are planned anew, and the records "
        "of the earlier choice are left out."
    ]
    assert outcome.is_complete and instant.stages == {"tune1": 1, "tune2": 1, "report": 2}
    planned = {cell.id for cell in read_plan(tmp_path)}
    (orphans,) = remarks(open_run(tmp_path))
    assert "records are of cells that the plan does not hold" in orphans and len(before - planned) == 2
    assert problems(subject(tmp_path)).choices == ()
    for record in outcome.records:
        if record.stage == "tune2" and record.params["lr"] == 0.1 and record.method == "baffle":
            shutil.rmtree(cell_dir(tmp_path, record.cell_id))
    instant.ran.clear()
    instant.accuracy = lambda cell: 0.0
    back = run(tmp_path, instant)
    assert instant.stages == {"tune2": 1} and "choose lr 0.03 now, and chose lr 0.1 before" in instant.said[-1]
    assert {record.cell_id for record in back.records if record.stage == "report"} == before
    assert before <= {cell.id for cell in read_plan(tmp_path)}


def test_a_run_of_everything_again_runs_every_cell_once_and_its_plan_stays_whole(
    copied: Path, instant: Instant
) -> None:
    def stopping(cell: Cell) -> float | str:
        raise KeyboardInterrupt

    instant.accuracy = stopping
    with pytest.raises(KeyboardInterrupt):
        run(copied, instant, rerun="all")
    assert len(read_plan(copied)) == 16 and not open_run(copied).is_unfinished()
    instant.accuracy = best_at(0.03)
    assert run(copied, instant, rerun="all").is_complete
    assert list(dict.fromkeys(name.split()[0] for name in instant.ran)) == ["tune1", "tune2", "report"]
    assert instant.stages == {"tune1": 8, "tune2": 4, "report": 4} and max(instant.ran.values()) == 1


@pytest.mark.parametrize(
    "changes",
    [{"tune": {"keep": 1}}, {"tune": {"seed": [102]}}, {"grid": {"seed": [0, 1, 2]}}, {"tune": None}],
)
def test_another_table_of_tuning_is_another_plan(copied: Path, instant: Instant, changes: dict[str, Any]) -> None:
    for extend in (False, True):
        with pytest.raises(StoreError, match=r"holds another plan, whose \[tune\], \[grid\] or \[params\] are not"):
            run(copied, instant, small(**changes), extend=extend)


def altered(path: tuple[Any, ...], value: Any) -> Callable[[Any], None]:
    def change(tuning: Any) -> None:
        place = tuning["choices"][0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        altered(("values", "lr"), 0.1),
        altered(("at_edge",), True),
        altered(("trials", 0, "mean"), 0.99),
        altered(("trials", 0, "accuracies", 0), 0.99),
        altered(("grid", "lr"), RATES[1:]),
        lambda tuning: tuning["choices"].pop(),
        lambda tuning: tuning.update(choices=None),
    ],
)
def test_a_choice_that_was_altered_by_hand_is_found(copied: Path, change: Callable[[Any], None]) -> None:
    plan_file(copied, change)
    found = problems(subject(copied))
    assert found.choices and all(line.startswith('plan.json: of the choice for {"method": ') for line in found.choices)
    assert found.ids == found.completeness == ()


def test_a_plan_that_was_tuned_by_another_table_is_found(copied: Path) -> None:
    plan_file(copied, lambda tuning: tuning["table"].update(keep=9))
    (found,) = problems(subject(copied)).choices
    assert found == "plan.json: it was tuned by another table than [tune] of matrix.toml; restore one of the two."


def test_cells_that_the_trials_do_not_ask_for_are_found(copied: Path) -> None:
    for path in copied.glob("cells/*/record.json"):
        record = json.loads(path.read_text())
        if record["stage"] == "tune2" and record["params"]["lr"] == 0.03:
            path.write_text(json.dumps({**record, "validation_accuracy": 0.0}))
    found = problems(subject(copied))
    assert len(found.choices) == 2
    asked_no_more = [line for line in found.completeness if "is no cell of" in line]
    beyond_the_edge = [line for line in found.completeness if "the plan lacks" in line]
    assert len(asked_no_more) == 4 and len(beyond_the_edge) == 2


def test_a_plan_that_lost_its_tuning_is_found(copied: Path) -> None:
    plan = json.loads((copied / "plan.json").read_text())
    del plan["tuning"]
    (copied / "plan.json").write_text(json.dumps(plan))
    (lost,) = problems(subject(copied)).completeness
    assert lost == "plan.json: the plan lacks what the tuning of matrix.toml chose; restore one of the two."


def test_a_tuning_that_is_no_such_thing_is_a_damaged_plan(copied: Path) -> None:
    plan_file(copied, lambda tuning: tuning.update(choices=[{"where": 3}]))
    with pytest.raises(StoreError, match=r"plan.json is damaged \(its tuning is none: .*move it away"):
        open_run(copied).tuning()


def test_a_study_is_published_between_its_stages_and_gone_on_with(tmp_path: Path, instant: Instant) -> None:
    document = small()
    live, study, on = tmp_path / "live", tmp_path / "results" / "study", tmp_path / "on"

    def stopping(cell: Cell) -> float | str:
        if cell.stage == "tune2":
            raise KeyboardInterrupt
        return best_at(0.03)(cell)

    instant.accuracy = stopping
    with pytest.raises(KeyboardInterrupt):
        run(live, instant, document)
    with pytest.raises(
        StoreError, match="its tuning has not chosen yet; run the matrix to its end, or publish it --unf"
    ):
        publish(open_run(live), study)
    assert publish(open_run(live), study, unfinished=True) == (8, 12)
    packed = open_run(study)
    assert packed.is_unfinished() and problems(subject(study)) == NOTHING
    assert cells_text(load_table(packed)) == "none yet, no verdicts; trials of tuning: 8 of 12 cells, no verdicts"
    assert write_card(study) and refresh(study.parent, [study.name])
    page = (study / "README.md").read_text(encoding="utf-8")
    assert "| cells | none yet, no verdicts; trials of tuning: 8 of 12 cells, no verdicts |" in page
    assert "trials of tuning have not all ended" in page and "](figures/" not in page
    other = staged_plan(small(tune={"keep": 1}), METHODS, ended_trials(packed)).asks_for
    with pytest.raises(StoreError, match="study holds another plan"):
        unpack(packed, on, other)
    unpack(packed, on, staged_plan(document, METHODS, ended_trials(packed)).asks_for)
    instant.accuracy = best_at(0.03)
    assert run(on, instant, document).is_complete and max(instant.ran.values()) == 1
    assert publish(open_run(on), study) == (16, 16)
    done = open_run(study)
    assert done.tuning() == open_run(on).tuning() and not done.is_unfinished()
    assert cells_text(load_table(done)) == "4; trials of tuning: 12"
    assert problems(subject(study)) == NOTHING


def test_trials_are_in_no_comparison_and_chosen_values_are_no_setting_of_one(tmp_path: Path, instant: Instant) -> None:
    contrast = {"name": "rates", "of": {"method": "fedavg_erk"}, "against": {"method": "fedavg"}}
    tune = {"at": {}, "horizon": 1.0, "grid": {"lr": RATES[:3]}}
    grid = {"method": ["fedavg", "fedavg_erk"], "alpha": ["iid", 0.5]}

    def accuracy(cell: Cell) -> float:
        if cell.stage == "report":
            return 0.5 + 0.01 * cell.seed
        if cell.method == "fedavg" and cell.alpha == 0.5:
            return float(cell.params["lr"])
        return float(cell.params["lr"] == 0.03)

    instant.accuracy = accuracy
    run(tmp_path, instant, small(grid=grid, tune=tune, contrast=[contrast]))
    inside, edge = judged_of(open_run(tmp_path))
    assert [one.pairing.setting for one in (inside, edge)] == [{"alpha": "iid"}, {"alpha": 0.5}]
    assert len(inside.of.cells) == len(inside.against.cells) == 2 and inside.verdict == "too few seeds"
    assert edge.verdict == "not tested" and edge.reason == "the tuned values lie at an edge of their grid (fedavg)"
    table = evidence(open_run(tmp_path))
    at_edge = table[table["choice_at_edge"]]
    assert set(zip(at_edge["method"], at_edge["alpha"], strict=True)) == {("fedavg", 0.5)}
    assert not table["lacks_choice"].any()


def test_chosen_values_name_no_series(tmp_path: Path, instant: Instant) -> None:
    grid = {"method": ["fedavg"], "params.fedavg.momentum": [0.0, 0.9]}
    tune = {"horizon": 1.0, "grid": {"local_steps": [1, 2, 4, 8]}}
    instant.accuracy = lambda cell: float(cell.params["local_steps"] == (4 if cell.params["momentum"] else 2))
    run(tmp_path, instant, small(grid=grid, tune=tune))
    study = load_study(tmp_path)
    assert {one.label.rpartition(", ")[2] for one in study.series} == {"momentum=0", "momentum=0.9"}

"""A matrix run through the stages of its tuning: plan, run, and plan again until that says nothing new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from fedfore.cell import Stage
from fedfore.contract.registry import MethodEntry
from fedfore.execution.plugged import code_files
from fedfore.execution.runner import Outcome, Progress, RunOptions, run_plan, selected
from fedfore.execution.trials import ended_trials
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.records.choices import Tuning, values_text
from fedfore.records.plan_file import set_damaged_plan_aside
from fedfore.records.reader import Reader
from fedfore.records.record import Record
from fedfore.records.store import open_run
from fedfore.records.table import present_code

STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class StageProgress(Progress):
    """Called by `run_stages` too: `planned(plan)` before each stage."""

    planned: Callable[[StagedPlan], None] = lambda plan: None


def run_stages(
    document: Mapping[str, Any],
    methods: Mapping[str, MethodEntry],
    options: RunOptions,
    progress: StageProgress = StageProgress(),
    plan: StagedPlan | None = None,
) -> Outcome:
    """Run a matrix stage by stage, as far as its trials end, and return what then lies in the run folder.

    Each time the earliest stage runs in which `rerun` selects a cell that has not run yet, and what follows from its
    trials is planned anew. `plan` is the matrix's before any trial has ended, for who has it already. With `only`
    nothing runs but cells of the first plan, and the outcome is of those. Raises as `run_plan` does, and ConfigError
    where `only` names what the plan has not.
    """
    lost = set_damaged_plan_aside(options.run)
    if lost is not None:
        progress.said(lost)
    run, there = open_run(options.run), (options.run / "plan.json").exists()
    before = run.tuning() if there else None
    failures: list[Record] = []
    ran: Outcome | None = None
    planned: list[str] = []
    reader = Reader(options.run)
    plan = plan or staged_plan(document, methods, {})
    present = present_code(code_files(methods, [item.cell for item in plan.cells]))
    chosen: frozenset[str] | None = None
    while True:
        if plan.tuning is not None and plan.tuning.is_by_trials:
            plan = staged_plan(document, methods, ended_trials(open_run(options.run)))
        if options.only is not None:
            if chosen is None:
                grows = plan.tuning is not None and plan.tuning.choices is None
                chosen = options.only.chosen(plan.ids, more_to_come=grows)
            options = replace(options, settled=options.settled | (set(plan.ids) - chosen))
        waiting = {item.cell.stage for item in plan.cells if selected(item, options, present, reader)}
        if ran is not None and not waiting and plan.ids == planned:
            ran = replace(ran, failures=failures)
            return ran if chosen is None else ran.of(chosen)
        progress.planned(plan)
        if plan.tuning is not None and plan.tuning.choices is not None:
            for sentence in changed_choices(before, plan.tuning):
                progress.said(sentence)
            before = plan.tuning
        stage = next((one for one in STAGES if one in waiting), None)
        others = frozenset(item.cell.id for item in plan.cells if item.cell.stage != stage)
        ran = run_plan(
            plan.cells,
            methods,
            replace(options, tuning=plan.tuning, settled=options.settled | others),
            progress,
            reader,
        )
        failures += ran.failures
        planned = plan.ids
        options = replace(options, settled=options.settled | (set(planned) - others))


def changed_choices(before: Tuning | None, now: Tuning) -> Iterator[str]:
    """Yield a sentence on each series whose stored choice is not that of the trials any more."""
    if before is None or before.choices is None or not now.asks_as(before):
        return
    stored = {choice.name: choice for choice in before.choices}
    for choice in now.choices or ():
        old = stored.get(choice.name)
        if old is not None and old.values != choice.values:
            yield (
                f"{choice.name}: its trials choose {values_text(choice)} now, and chose {values_text(old)} before; its "
                "cells are planned anew, and the records of the earlier choice are left out."
            )

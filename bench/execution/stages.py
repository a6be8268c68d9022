"""A matrix run through the stages of its tuning: plan, run, and plan again until that says nothing new."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedfore.contract.registry import MethodEntry
from fedfore.execution.runner import Outcome, Progress, RunOptions, run_plan, selected
from fedfore.execution.trials import ended_trials
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.records.choices import Tuning, values_text
from fedfore.records.record import Record
from fedfore.records.store import open_run
from fedfore.records.table import present_code


@dataclass(frozen=True)
class StageProgress(Progress):
    """Called by `run_stages` too: `planned(plan)` before each stage, `said(sentence)` for what is to be known."""

    planned: Callable[[StagedPlan], None] = lambda plan: None
    said: Callable[[str], None] = lambda sentence: None


def run_stages(
    document: Mapping[str, Any],
    methods: Mapping[str, MethodEntry],
    options: RunOptions,
    progress: StageProgress = StageProgress(),
) -> Outcome:
    """Run a matrix stage by stage, as far as its trials end, and return what then lies in the run folder.

    Trials that `rerun` selects count as not ended, so that what follows from them is planned after them. Raises as
    `run_plan` does.
    """
    there = (options.run / "plan.json").exists()
    before = open_run(options.run).tuning() if there else None
    plan = _present_plan(document, methods, options)
    failures: list[Record] = []
    while True:
        progress.planned(plan)
        if plan.tuning is not None and plan.tuning.choices is not None:
            for sentence in changed_choices(before, plan.tuning):
                progress.said(sentence)
            before = plan.tuning
        outcome = run_plan(plan.cells, methods, replace(options, tuning=plan.tuning), progress)
        failures += outcome.failures
        options = replace(options, settled=options.settled | frozenset(plan.ids))
        ran, plan = plan.ids, _present_plan(document, methods, options)
        if plan.ids == ran:
            return replace(outcome, failures=failures)


def _present_plan(document: Mapping[str, Any], methods: Mapping[str, MethodEntry], options: RunOptions) -> StagedPlan:
    """Return the plan by the trials in the run folder, without those that are to run again."""
    ended = ended_trials(open_run(options.run))
    plan = staged_plan(document, methods, ended)
    present = present_code({name: entry.file for name, entry in methods.items()})
    trials = [item for item in plan.cells if item.cell.id in ended]
    again = {item.cell.id for item in trials if selected(item, options, present)}
    if not again:
        return plan
    return staged_plan(document, methods, {name: ended[name] for name in ended.keys() - again})


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

"""By which rules a study's settings have the ids that they have: the present ones, or those of its own commit.

An id leaves out what a method's parameters have by default. Where a default has moved since, the same settings have
another id, and the commit that the records name is asked for its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedfore.cell import cell_id
from fedfore.contract.instance import default_params
from fedfore.contract.registry import lookup
from fedfore.errors import ConfigError, HistoryError, PluginError
from fedfore.execution import past_plan
from fedfore.execution.document import TUNE
from fedfore.execution.subject import Subject
from fedfore.execution.trials import ended_trials
from fedfore.execution.tuning import staged_plan
from fedfore.records.choices import Tuning, tuning_to_json
from fedfore.records.history import answer_of
from fedfore.records.packed import CELLS, MATRIX, PLAN
from fedfore.records.record import cell_of


@dataclass(frozen=True)
class Rules:
    """What a study's matrix and the trials of its tuning give, at some time, as JSON has it.

    `ids` are those of its cells, `choices` what its tuning chose, None where it did not; `defaults` are those of its
    methods' parameters.
    """

    ids: Sequence[str]
    defaults: Mapping[str, Mapping[str, Any]]
    choices: Sequence[Mapping[str, Any]] | None = None


def present_rules(subject: Subject) -> Rules:
    """Return the rules of the present code. Raises ConfigError or PluginError where it has no such matrix or method."""
    names = sorted({record["method"] for record in subject.records})
    defaults = {name: default_params(lookup(subject.methods, name).Config) for name in names}
    plan = staged_plan(subject.document, subject.methods, ended_trials(subject.run))
    return Rules(plan.ids, defaults, _choices(plan.tuning))


def _choices(tuning: Tuning | None) -> Sequence[Mapping[str, Any]] | None:
    return None if tuning is None else tuning_to_json(tuning)["choices"]


def rules_at(subject: Subject, commit: str) -> Rules:
    """Return the rules of a commit. Raises HistoryError where the history does not tell."""
    with TemporaryDirectory(prefix="fedfore-") as folder:
        asked = Path(folder) / "asked.json"
        question = {"matrix": subject.document, "trials": ended_trials(subject.run)}
        asked.write_text(json.dumps(question), encoding="utf-8")
        return Rules(**answer_of(subject.checkout, commit, Path(past_plan.__file__), asked, bare=False))


@dataclass(frozen=True)
class Problems:
    """What is wrong with the ids of a study's records, with which cells it has, and with its choices of tuning."""

    ids: Sequence[str]
    completeness: Sequence[str]
    choices: Sequence[str]


NOTHING = Problems((), (), ())


def problems(subject: Subject) -> Problems:
    """Return what is wrong by the present rules, and nothing where all is right by those of the study's own commit.

    Raises ConfigError or PluginError where neither the present code nor the commit's has such a matrix.
    """
    try:
        present = _problems(subject, present_rules(subject))
    except (ConfigError, PluginError) as error:
        try:
            return _problems(subject, rules_at(subject, subject.commit))
        except HistoryError:
            raise error from None
    if present == NOTHING:
        return present
    with suppress(HistoryError):
        if _problems(subject, rules_at(subject, subject.commit)) == NOTHING:
            return NOTHING
    return present


def _problems(subject: Subject, rules: Rules) -> Problems:
    found = (kind(subject, rules) for kind in (id_problems, completeness_problems, choice_problems))
    return Problems(*map(tuple, found))


def id_problems(subject: Subject, rules: Rules) -> Iterator[str]:
    """Yield a sentence for each record whose id does not follow from the settings that it stores."""
    found = [record for name in subject.run.recorded() if (record := subject.run.found(name)) is not None]
    for cell in map(cell_of, found):
        right = cell_id(cell, rules.defaults.get(cell.method, {}))
        if right != cell.id:
            yield f"{CELLS}: {cell.id} has the settings of {right}; restore the line."


def completeness_problems(subject: Subject, rules: Rules) -> Iterator[str]:
    """Yield a sentence for each cell that the matrix, the plan and the records do not have in common.

    An extended study may have cells of earlier matrices; a planned cell without a record makes a study unfinished.
    """
    plan, matrix = {cell.id for cell in subject.run.plan()}, set(rules.ids)
    if rules.choices is not None and subject.run.tuning() is None:
        yield f"{PLAN}: the plan lacks what the tuning of {MATRIX} chose; restore one of the two."
    for name in subject.run.orphans():
        yield f"{CELLS}: {name} is no cell of the plan; remove the line."
    for name in sorted(matrix - plan):
        yield f"{PLAN}: the plan lacks {name}, which is a cell of {MATRIX}; restore one of the two."
    for name in sorted(plan - matrix) if not subject.asked.extends else ():
        yield f"{PLAN}: {name} is no cell of {MATRIX}; restore one of the two."


def choice_problems(subject: Subject, rules: Rules) -> Iterator[str]:
    """Yield a sentence on each series whose stored choice, or a trial of it, is not what the records give.

    So it does where the plan was tuned by another table than the matrix has.
    """
    tuning = subject.run.tuning()
    if tuning is not None and tuning.is_by_trials and tuning.table != subject.document.get(TUNE):
        yield f"{PLAN}: it was tuned by another table than [{TUNE}] of {MATRIX}; restore one of the two."
    stored, given = (
        {json.dumps(one["where"], sort_keys=True): one for one in choices or ()}
        for choices in (_choices(tuning), rules.choices)
    )
    for series in {**given, **stored}:
        old, right = stored.get(series), given.get(series)
        if old != right:
            yield f"{PLAN}: of the choice for {series}, {_differing(old, right)}; restore it."


def _differing(old: Mapping[str, Any] | None, right: Mapping[str, Any] | None) -> str:
    """Return in which a stored choice is not the one that the trials give."""
    if old and right and old["values"] == right["values"]:
        names = [name for name in right if old.get(name) != right[name]]
        return f"its {' and '.join(names)} {'are' if len(names) > 1 else 'is'} not what the trials give"
    return " and ".join(
        f"{whose} {'none' if one is None else 'nothing' if one['values'] is None else one['values']}"
        for whose, one in (("it stores", old), ("the trials give", right))
    )

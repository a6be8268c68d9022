"""What a matrix plans, stage by stage: the trials of its tuning, and the cells that are reported with their choices.

`tune1` tries each series' whole grid for a share of the budget, `tune2` its best points again at the whole budget, then
come the cells of `[grid]` with the chosen values. What is planned follows from the matrix and the trials that have
ended, and from nothing else: so a run goes on, a study is verified, and a trial that ran again is heeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedfore.cell import Stage
from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError
from fedfore.execution.document import CHOICE, FROM, TUNE
from fedfore.execution.matrix import PlannedCell, changed, resolve
from fedfore.execution.planning import Planning
from fedfore.execution.series import series_of, wheres
from fedfore.execution.trials import Ended, Trials
from fedfore.execution.tune_table import choices_in, parsed_tune, require_free
from fedfore.judgement.choices import choice, fits
from fedfore.records.choices import Choice, Tuning, series_name
from fedfore.records.plan_file import Asked
from fedfore.records.table import settings_table


@dataclass(frozen=True)
class StagedPlan:
    """The cells that are known by now, those of trials first, and what tuning made of the trials; None without any.

    `asked` are the cells that `[grid]` asks for, every tuned key at its default. `expected` counts the cells of each
    stage, of later ones as far as it can be told. `untuned` names the series that have nothing to tune, or none of the
    choices that are taken from a study.
    """

    asked: tuple[PlannedCell, ...]
    cells: tuple[PlannedCell, ...]
    tuning: Tuning | None
    expected: Mapping[Stage, int]
    untuned: tuple[str, ...] = ()

    @property
    def asks_for(self) -> Asked:
        """What the plan asks for, by which it is known again."""
        return Asked(set(self.ids), self.tuning)

    @property
    def ids(self) -> list[str]:
        """The ids of the cells."""
        return [item.cell.id for item in self.cells]


def staged_plan(document: Mapping[str, Any], methods: Mapping[str, MethodEntry], ended: Ended) -> StagedPlan:
    """Return what a matrix plans once these trials have ended. Raises ConfigError for a matrix that cannot be run."""
    reported = tuple(resolve(document, methods))
    table = document.get(TUNE)
    if table is None:
        return StagedPlan(reported, reported, None, {"report": len(reported)})
    if isinstance(table, Mapping) and FROM in table:
        return _from_study(document, methods, reported)
    return _by_trials(document, methods, reported, ended)


def _by_trials(
    document: Mapping[str, Any], methods: Mapping[str, MethodEntry], reported: tuple[PlannedCell, ...], ended: Ended
) -> StagedPlan:
    table, planning = document[TUNE], Planning(methods)
    tune = parsed_tune(table, methods)
    found, places = series_of(document, methods, tune, reported)
    trials = Trials(tune, methods, planning, ended)
    first, second = trials.stages(found)
    cells = [*first.cells, *second.cells]
    expected: dict[Stage, int] = {
        "tune1": len(first.cells),
        "tune2": max(len(second.cells), trials.expected_second(found, first.grids)),
        "report": len(reported),
    }
    choices = None
    if first.trials is not None and second.trials is not None:
        both = zip(found, first.grids, first.trials, second.trials, strict=True)
        choices = tuple(choice(one.where, grid, tune.seed, [*early, *late]) for one, grid, early, late in both)
        cells += [_reported(item, choices, places, methods, planning) for item in reported]
    untuned = tuple(series_name(one.where) for one in found if not one.grid)
    asked = tuple(item.cell.id for item in reported)
    return StagedPlan(reported, tuple(cells), Tuning(dict(table), asked, choices), expected, untuned)


def _reported(
    item: PlannedCell,
    choices: Sequence[Choice],
    places: Mapping[str, int],
    methods: Mapping[str, MethodEntry],
    planning: Planning,
) -> PlannedCell:
    """Return a cell to be reported with the values that its series' choice has."""
    if item.skip is not None:
        return item
    own = choices[places[item.cell.id]]
    if own.values is None:
        return PlannedCell(item.cell, own.reason)
    return _with_values(item, own.values, methods, planning)


def _with_values(
    item: PlannedCell, values: Mapping[str, Any], methods: Mapping[str, MethodEntry], planning: Planning
) -> PlannedCell:
    if not values:
        return item
    cell = changed(item.cell, {f"params.{item.cell.method}.{key}": value for key, value in values.items()}, methods)
    return PlannedCell(cell, planning.skip_reason(cell))


def _from_study(
    document: Mapping[str, Any], methods: Mapping[str, MethodEntry], reported: tuple[PlannedCell, ...]
) -> StagedPlan:
    """Return the plan of a matrix that takes its choices from a published study."""
    table, planning = document[TUNE], Planning(methods)
    choices = choices_in(table)
    used: dict[str, dict[str, None]] = {}
    for one in choices:
        used.setdefault(one.where["method"], {}).update(dict.fromkeys(one.values or {}))
    require_free(document, methods, used)
    settings = settings_table([item.cell for item in reported])
    try:
        masks = [fits(settings, one) for one in choices]
    except ConfigError as error:
        raise ConfigError(f"[[tune.{CHOICE}]]: {error}; run `fedfore refresh`, or write the matrix anew.") from None
    cells, lacking = [], []
    for row, item in enumerate(reported):
        own = [one for one, mask in zip(choices, masks, strict=True) if mask.iloc[row]]
        if len(own) > 1:
            raise ConfigError(f"[[tune.{CHOICE}]]: {own[0].name} and {own[1].name} both fit {item.cell.id}.")
        if not own:
            lacking.append(item.cell)
        values = (own[0].values or {}) if own and item.skip is None else {}
        cells.append(_with_values(item, values, methods, planning))
    tuning = Tuning({FROM: table[FROM]}, (), choices)
    names = dict.fromkeys(series_name(where) for where in wheres(lacking))
    return StagedPlan(reported, tuple(cells), tuning, {"report": len(cells)}, tuple(names))

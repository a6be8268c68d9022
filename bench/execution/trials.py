"""The trials of a matrix that tunes, in two stages: their cells, and what came of those that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError, StoreError
from fedfore.execution.matrix import PlannedCell
from fedfore.execution.planning import Planning
from fedfore.execution.series import Series, changed_while_tuning
from fedfore.execution.tune_table import Tune
from fedfore.judgement.choices import Edge, Grid, edges, extended, is_ordered, points, ranked, trial
from fedfore.records.choices import TRIALS, Trial
from fedfore.records.run import Run

EXTENSIONS = 2
"""How often values are added where a series' best point lies at an edge."""
Ended = Mapping[str, Mapping[str, Any]]
"""Of each trial that has ended, by its cell's id: `status`, `validation_accuracy` and `chance_accuracy`."""
Point = Mapping[str, Any]
_KNOWN = ("status", "validation_accuracy", "chance_accuracy")


def ended_trials(run: Run) -> dict[str, Mapping[str, Any]]:
    """Return what is known of each trial of a run that has ended, by its cell's id; what cannot be read has not."""
    known: dict[str, Mapping[str, Any]] = {}
    for name in run.recorded():
        with suppress(StoreError):
            record = run.found(name)
            if record is not None and record.stage in TRIALS:
                known[name] = {field: getattr(record, field) for field in _KNOWN}
    return known


@dataclass(frozen=True)
class StageTrials:
    """The cells of a stage, the grids that it tries, and the trials of each series, None until all have ended."""

    cells: Sequence[PlannedCell]
    trials: Sequence[Sequence[Trial]] | None
    grids: Sequence[Grid]


@dataclass(frozen=True)
class Trials:
    """Plans the trials of series, each once, and reads those that have ended."""

    tune: Tune
    methods: Mapping[str, MethodEntry]
    planning: Planning
    ended: Ended
    _known: dict[str, list[PlannedCell]] = field(default_factory=dict)

    def stages(self, series: Sequence[Series]) -> tuple[StageTrials, StageTrials]:
        """Return both stages as far as trials have ended; the second has no cells before the first one has.

        Where a best point lies at an edge, in the second stage too, every series tries a value more there, and the best
        of what came again at the whole budget. A series whose first stage has that budget has no second one.
        """
        grids: list[Grid] = [one.grid for one in series]
        covered: list[Grid] = [{} for _ in series]
        again: list[list[Point]] = [[] for _ in series]
        additions = 0
        while True:
            first = self._stage("tune1", series, grids, [points(grid) for grid in grids])
            second = self._stage("tune2", series, grids, again)
            if first.trials is None or second.trials is None:
                return first, second
            last = [late or early for early, late in zip(first.trials, second.trials, strict=True)]
            longer = self._extended(series, grids, last) if additions < EXTENSIONS else grids
            if longer != grids:
                grids, additions = longer, additions + 1
            elif grids != covered:
                new = zip(series, first.trials, grids, covered, strict=True)
                again = [[*old, *self._best(*own)] for old, own in zip(again, new, strict=True)]
                covered = grids
            else:
                return first, second

    def _best(self, series: Series, trials: Sequence[Trial], grid: Grid, covered: Grid) -> list[Point]:
        """Return the best `keep` points of a series' first stage that lie outside a grid; none that had the budget."""
        if not self._shortens(series):
            return []
        known = points(covered)
        return [one.values for one in ranked(trials, grid) if one.values not in known][: self.tune.keep]

    def expected_second(self, series: Sequence[Series], grids: Sequence[Grid]) -> int:
        """Return how many cells the second stage will have, if nothing fails."""
        kept = (min(self.tune.keep, len(points(g))) for s, g in zip(series, grids, strict=True) if self._shortens(s))
        return len(self.tune.seed) * sum(kept)

    def _stage(
        self,
        stage: Literal["tune1", "tune2"],
        series: Sequence[Series],
        grids: Sequence[Grid],
        tried: Sequence[Sequence[Point]],
    ) -> StageTrials:
        cells: list[PlannedCell] = []
        trials: list[list[Trial]] = []
        for one, own in zip(series, tried, strict=True):
            trials.append([])
            for values in own:
                seeds = self._cells(one, stage, values)
                cells += seeds
                if all(item.cell.id in self.ended for item in seeds):
                    trials[-1].append(trial(stage, values, [self.ended[item.cell.id] for item in seeds]))
        is_whole = all(len(found) == len(own) for found, own in zip(trials, tried, strict=True))
        return StageTrials(cells, trials if is_whole else None, grids)

    def _cells(self, series: Series, stage: str, values: Point) -> list[PlannedCell]:
        """Return the cells of a point, one a seed."""
        place = f"{series.base.id} {stage} {values}"
        if place not in self._known:
            own = {f"params.{series.base.method}.{key}": value for key, value in values.items()}
            budget = self._short_budget(series) if stage == "tune1" else {}
            points = ({**own, **budget, "stage": stage, "seed": seed} for seed in self.tune.seed)
            cells = [changed_while_tuning(series.base, point, self.methods) for point in points]
            self._known[place] = [PlannedCell(cell, self.planning.skip_reason(cell)) for cell in cells]
        return self._known[place]

    def _short_budget(self, series: Series) -> dict[str, Any]:
        train = series.base.train
        if train.rounds is not None:
            return {"train.rounds": max(1, round(train.rounds * self.tune.horizon))}
        return {"train.data_passes": train.budget * self.tune.horizon}

    def _shortens(self, series: Series) -> bool:
        (budget,) = self._short_budget(series).values()
        return bool(budget != series.base.train.budget)

    def _extended(
        self, series: Sequence[Series], grids: Sequence[Grid], trials: Sequence[Sequence[Trial]]
    ) -> list[Grid]:
        """Return the grids with a value more at every edge at which the best point of some series lies."""
        best = (next(iter(ranked(own, grid)), None) for own, grid in zip(trials, grids, strict=True))
        found = (edges(one.values, grid) for one, grid in zip(best, grids, strict=True) if one is not None)
        longer = list(grids)
        for key, edge in dict.fromkeys(place for places in found for place in places):
            if self._is_possible(series, longer, key, edge):
                longer = [_longer(grid, key, edge) for grid in longer]
        return longer

    def _is_possible(self, series: Sequence[Series], grids: Iterable[Grid], key: str, edge: Edge) -> bool:
        """Return whether every method that tries a key could have the value beyond its edge."""
        try:
            for one, grid in zip(series, grids, strict=True):
                for value in set(_longer(grid, key, edge).get(key, ())) - set(grid.get(key, ())):
                    changed_while_tuning(one.base, {f"params.{one.base.method}.{key}": value}, self.methods)
        except ConfigError:
            return False
        return True


def _longer(grid: Grid, key: str, edge: Edge) -> Grid:
    """Return a grid with the value beyond an edge of a key that it tries in order; else itself."""
    if not is_ordered(grid.get(key, ())):
        return grid
    return {**grid, key: extended(grid[key], edge)}

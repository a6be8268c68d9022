"""How tuning chooses: by the mean validation accuracy over the tuning seeds, by rules that are fixed beforehand.

A trial that failed counts as chance, ties go to the smaller values, `lr` first. Where a series' best point lies at an
edge of a key's list, the list goes on there by its own ratio.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from fedfore.judgement.selection import fitting
from fedfore.records.choices import Choice, Trial
from fedfore.records.run import Run

Edge = Literal["low", "high"]
Grid = Mapping[str, tuple[Any, ...]]
FIRST_KEY = "lr"
"""The key whose smaller value wins a tie before all others."""
_DIGITS = 2


def trial(stage: Literal["tune1", "tune2"], values: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Trial:
    """Return a point's trial from the fields of its records, one a tuning seed.

    A record that did not end ok, or knows no validation accuracy, counts as `chance_accuracy`.
    """
    ended = [_has_ended(record) for record in records]
    accuracies = tuple(
        float(record["validation_accuracy"] if ok else record.get("chance_accuracy") or 0.0)
        for record, ok in zip(records, ended, strict=True)
    )
    return Trial(stage, dict(values), accuracies, math.fsum(accuracies) / len(accuracies), ended.count(False))


def _has_ended(record: Mapping[str, Any]) -> bool:
    return record["status"] == "ok" and record.get("validation_accuracy") is not None


def ranked(trials: Sequence[Trial], grid: Grid) -> list[Trial]:
    """Return the trials of which a seed ended ok, the best first."""
    keys = sorted(grid, key=lambda key: (key != FIRST_KEY, key))
    ended = [one for one in trials if one.failed < len(one.accuracies)]
    return sorted(ended, key=lambda one: (-one.mean, *(grid[key].index(one.values[key]) for key in keys)))


def points(grid: Grid) -> list[dict[str, Any]]:
    """Return every combination of a grid's values; of an empty grid none."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())] if grid else []


def is_ordered(values: Sequence[Any]) -> bool:
    """Return whether a list of values has edges: at least two numbers, all above 0."""
    numbers = (isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values)
    return len(values) > 1 and all(numbers)


def edges(values: Mapping[str, Any], grid: Grid) -> Iterator[tuple[str, Edge]]:
    """Yield each key of a point, and the side, at which the point lies at an edge of the grid's sorted values."""
    for key, tried in grid.items():
        if is_ordered(tried):
            if values[key] == tried[0]:
                yield key, "low"
            if values[key] == tried[-1]:
                yield key, "high"


def next_value(values: Sequence[float], edge: Edge) -> float:
    """Return the value beyond an edge of sorted values, to two significant digits.

    It repeats the ratio before the last one, so that 1, 3, 10 goes on with 30 and 3, 10, 30 with 100; two values repeat
    the one ratio that they have. Whole numbers go on with whole numbers.
    """
    ordered = list(values) if edge == "high" else list(values)[::-1]
    before = -3 if len(ordered) > 2 else -2
    following = ordered[-1] * ordered[before + 1] / ordered[before]
    rounded = float(f"{following:.{_DIGITS - 1}e}")
    return max(1, round(rounded)) if all(isinstance(value, int) for value in values) else rounded


def extended(values: tuple[Any, ...], edge: Edge) -> tuple[Any, ...]:
    """Return sorted values with the one beyond an edge; themselves where whole numbers have none there."""
    new = next_value(values, edge)
    return values if new in values else (*values, new) if edge == "high" else (new, *values)


def choice(where: Mapping[str, Any], grid: Grid, seeds: Sequence[int], trials: Sequence[Trial]) -> Choice:
    """Return a series' choice by all of its trials: the best of the last stage that it has trials of."""
    if not trials:
        return Choice(where, {}, grid={})
    last = [one for one in trials if one.stage == trials[-1].stage]
    best = next(iter(ranked(last, grid)), None)
    reason = None if best else f"none of its {len(trials) * len(seeds)} trials of tuning ended ok"
    at_edge = best is not None and any(edges(best.values, grid))
    values = dict(best.values) if best else None
    return Choice(where, values, at_edge, reason, dict(grid), tuple(seeds), tuple(trials))


def fits(cells: pd.DataFrame, one: Choice) -> pd.Series[bool]:
    """Return which rows of a table are of a choice's series."""
    own = cells[cells["method"] == one.where["method"]]
    return pd.Series(fitting(own, one.where), own.index).reindex(cells.index, fill_value=False)


def with_choices(run: Run, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a run's table with what tuning says of its rows, where it tuned.

    `choice_at_edge`: the series' values lie at an edge of their grid; `lacks_choice`: tuning chose nothing for it.
    Raises StoreError for a run that cannot be read.
    """
    tuning = run.tuning()
    if tuning is None or tuning.choices is None:
        return cells.assign(choice_at_edge=False, lacks_choice=False)
    at_edge, lacking = pd.Series(False, cells.index), pd.Series(True, cells.index)
    for one in tuning.choices:
        own = fits(cells, one)
        at_edge |= own & one.at_edge
        lacking &= ~own | (one.values is None)
    return cells.assign(choice_at_edge=at_edge, lacks_choice=lacking)


def tuned_columns(run: Run) -> list[str]:
    """Return the columns of keys that a run's tuning chose: they differ between series, and name none."""
    tuning = run.tuning()
    return [f"params.{key}" for key in tuning.keys] if tuning else []

"""What was tuned in a study: by the trials of its matrix, or by cells that differ in nothing but what is tuned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.choices import choice, fits, trial
from fedfore.plots.fields import INIT_SCALE, LEARNING_RATE
from fedfore.plots.naming import settings
from fedfore.plots.points import records
from fedfore.plots.study import Study
from fedfore.records.choices import Choice

_KEYS = (LEARNING_RATE, INIT_SCALE)
"""The columns in which cells of a run may differ that tunes without `[tune]`."""
_GROUP = ("dataset", "model", "alpha", "sparsity")


@dataclass(frozen=True)
class Tuned:
    """A series that was tuned, by its name in figures: what was tried, and what that chooses."""

    label: str
    choice: Choice


def tuned_series(study: Study) -> list[Tuned]:
    """Return the series of a study that were tuned, maybe none. Raises StoreError for a run that cannot be read."""
    tuning = study.run.tuning()
    if tuning is not None and tuning.is_by_trials:
        return [Tuned(_label(study, one), one) for one in tuning.choices or () if one.trials]
    return list(_of_cells(study))


def _label(study: Study, one: Choice) -> str:
    names = study.cells.loc[fits(study.cells, one), "series"].unique()
    if len(names) != 1:
        return one.name
    return ", ".join([str(names[0]), *(str(one.where[name]) for name in _GROUP if name in one.where)])


def _of_cells(study: Study) -> Iterator[Tuned]:
    """Yield the groups of trained cells that were tried at several learning rates, on validation data."""
    cells = study.cells[study.cells["trained"]]
    if cells.empty or not cells.loc[cells["ok"], "validation_accuracy"].notna().any():
        return
    keys = [name for name in _KEYS if name in cells]
    labelled = cells.assign(label=settings(cells, leave_out=keys))
    counts = labelled.groupby("label", observed=True)[list(_GROUP)].nunique()
    varied = [name for name in _GROUP if (counts[name] > 1).any()]
    for key, own in labelled.groupby(["label", *_GROUP], observed=True):
        grid = {name.split(".", 1)[1]: tuple(sorted(own[name].dropna().unique())) for name in keys}
        grid = {name: values for name, values in grid.items() if len(values) > 1}
        if "lr" in grid:
            named = dict(zip(("label", *_GROUP), key, strict=True))
            label = ", ".join(str(named[name]) for name in ("label", *varied))
            yield Tuned(label, _choice(own, grid))


def _choice(cells: pd.DataFrame, grid: dict[str, tuple[float, ...]]) -> Choice:
    columns = [f"params.{name}" for name in grid]
    known = cells.astype({"validation_accuracy": object})
    known["validation_accuracy"] = known["validation_accuracy"].where(known["validation_accuracy"].notna(), None)
    trials = [
        trial("tune2", dict(zip(grid, values, strict=True)), records(own)) for values, own in known.groupby(columns)
    ]
    return choice({"method": cells["method"].iloc[0]}, grid, sorted(cells["seed"].unique()), trials)

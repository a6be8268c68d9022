"""The points that a table shows: which cells are one, and what is to be known of them whatever is averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedfore.judgement.selection import places_of
from fedfore.plots.fields import dataset_label, field_label, model_label, value_label
from fedfore.plots.naming import settings
from fedfore.plots.points import POINT, points
from fedfore.plots.study import Study

SERIES = "series"
BLOCK = ("dataset", "model", "alpha")
"""The axes in which points have to agree if one of them is to be called best."""
DENSE = "dense"


@dataclass(frozen=True)
class PointTable:
    """The points of a table in the order of its rows.

    `axes` are the columns that tell points apart, `by` the one whose values are columns. `numbers` has one row a point:
    the axes, the counts and flags of `fedfore.plots.points.points`, `control`, and `trained`: whether its cells go on
    to training. `cells` are rows of a study's table, `places` those of each point among them.
    """

    axes: tuple[str, ...]
    by: str | None
    numbers: pd.DataFrame
    cells: pd.DataFrame
    places: tuple[NDArray[np.intp], ...]

    @property
    def rivals(self) -> list[str]:
        """The axes in which points agree that compete: those of a column, or of a row where series are columns."""
        choices = {SERIES} if self.by == SERIES else {SERIES, "sparsity"} - {self.by}
        return [axis for axis in self.axes if axis not in choices]


def point_table(cells: pd.DataFrame, by: str | None, line: str | None = None) -> PointTable:
    """Return the points of a study's cells (see `labelled`), or of their lines that differ in the column `line`.

    Each value of an axis or key `by` makes points of its own.
    """
    key = by if by not in (None, line, *POINT) else None
    axes = [*POINT, *([line] if line else []), *([key] if key else [])]
    if key:
        cells = _with_every_value(cells, key)
    as_met = [name for name in ("dataset", "model", line) if name and cells[name].dtype.kind not in "if"]
    cells = cells.assign(**{name: pd.Categorical(cells[name], cells[name].unique()) for name in as_met})
    groups = cells.groupby(axes, observed=True)
    flags = groups.agg(control=("control", "all"), trained=("trained", "any")).reset_index(drop=True)
    numbers = points(cells, [], axes).join(flags)
    own = places_of(groups)
    order = [*BLOCK, "control", *(axis for axis in axes if axis not in BLOCK)]
    if by == SERIES:
        order = [*(axis for axis in order if axis not in ("control", SERIES)), SERIES]
    ordered = numbers.sort_values(order, kind="stable")
    return PointTable(
        tuple(axes), by, ordered.reset_index(drop=True), cells, tuple(own[point] for point in ordered.index)
    )


def labelled(study: Study, cells: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Return cells of a study with `control`, and their series named as if these columns of keys did not differ."""
    cells = cells.assign(control=cells[SERIES].isin([one.label for one in study.series if one.control]))
    own = [name for name in keys if name not in POINT and name in cells]
    if not own:
        return cells
    counts = cells.groupby("method")[own].transform("nunique", dropna=False)
    renamed = cells[(counts > 1).any(axis=1)]
    labels = cells[SERIES].astype(str)
    if len(renamed):
        labels.update(settings(renamed, leave_out=own).astype(str))
    order = labels[cells[SERIES].cat.codes.sort_values(kind="stable").index].unique()
    return cells.assign(series=pd.Categorical(labels, order, ordered=True))


def axis_text(axis: str, value: object) -> str:
    """Return a value of an axis as it stands in a table that says elsewhere which axis it is of."""
    if axis == "sparsity":
        return value_label(value) if value else DENSE
    if axis == "model":
        return model_label(str(value))
    if axis == "dataset":
        return dataset_label(str(value))
    return value if isinstance(value, str) else value_label(value)


def _with_every_value(cells: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the cells with a key's values as ordered labels; a cell that has no such key stands for each of them."""
    values = sorted(cells[key].dropna().unique(), key=lambda value: (isinstance(value, str), value))
    labels = [field_label(key, value) or value_label(value) for value in values]
    known = cells[key].map(dict(zip(values, labels, strict=True)))
    parts = [cells.assign(**{key: known})[known.notna()]]
    parts += [cells[known.isna()].assign(**{key: label}) for label in labels]
    united = pd.concat([part for part in parts if len(part)])
    return united.assign(**{key: pd.Categorical(united[key], list(dict.fromkeys(labels)), ordered=True)})

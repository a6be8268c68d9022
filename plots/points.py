"""Points: what cells that differ in nothing but the seed say together, and how two points differ.

What failed counts as `fedfore.judgement.sides` says: an accuracy as chance, and no other metric at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedfore.judgement.selection import places_of
from fedfore.judgement.sides import FAILED, means_of

POINT = ("dataset", "model", "alpha", "series", "sparsity")
"""The columns that say which cells differ in nothing but the seed."""


def points(cells: pd.DataFrame, metrics: Sequence[str], by: Sequence[str] = POINT) -> pd.DataFrame:
    """Return one row a point: `n_ok`, `n_planned`, `n_failed`, `stale`, `overspent`, `withheld`, each metric's mean.

    Means keep the metric's unit. `stale` and `overspent` say that some averaged record is, `withheld` that the point
    is.
    """
    keys = list(by)
    marked = cells.assign(
        failed=cells["status"].isin(FAILED), **{name: cells[name] & cells["ok"] for name in ("stale", "overspent")}
    )
    groups = marked.groupby(keys, observed=True)
    frame = groups.agg(
        n_ok=("ok", "sum"),
        n_planned=("ok", "size"),
        n_failed=("failed", "sum"),
        stale=("stale", "any"),
        overspent=("overspent", "any"),
        withheld=("withheld", "any"),
    )
    places = places_of(groups) if metrics else []
    means = {metric: [one.mean for one in means_of(cells, metric, places)] for metric in metrics}
    return frame.assign(**means).reset_index()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def select(cells: pd.DataFrame, point: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have the point's values."""
    chosen = np.logical_and.reduce([cells[name] == value for name, value in point.items()])
    return cells[chosen]


def twins(cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return one row a simulated ok cell with an ok twin, which differs from it in its `finite_difference` alone.

    A description: that a twin is near says nothing for its cell, since two seeds may be.
    Columns: those of the simulated cell, `real` (the twin's value of the metric) and `difference` to it.
    """
    same = ["method", "dataset", "model", "alpha", "sparsity", "seed"]
    same += [name for name in map(str, cells) if name.startswith(("params.", "train."))]
    ok = cells[cells["ok"] & cells["estimator"].notna()]
    is_real = ok["estimator"] == "finite_difference"
    keys = pd.Series(["|".join(map(str, row)) for row in ok[same].itertuples(index=False)], index=ok.index, dtype=str)
    real = pd.Series(ok.loc[is_real, metric].to_numpy(), index=keys[is_real].to_numpy(), dtype=float)
    found = ok[~is_real].assign(real=[real.get(key, float("nan")) for key in keys[~is_real]])
    return found.assign(difference=found[metric] - found["real"]).dropna(subset="real")

"""The statistics of figures and tables: cells grouped into series, means and intervals over seeds.

A series is a method and whatever parameters tell its cells apart. Intervals are 95% Student-t half-widths over seeds,
NaN at fewer than two. Only cells with status `ok` enter a mean; the others stay in the count of planned cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bench.errors import StoreError
from bench.store import ROUNDS, load_lines, load_table
from plots.style import ALPHA, SHIPPED, field_label, look, value_label

POINT = ("dataset", "model", "alpha", "series", "sparsity")
"""The columns that say which cells differ in nothing but the seed."""


@dataclass(frozen=True)
class Series:
    """One line of a figure. `variant` counts the series of its method; `label` names method and varying parameters.

    `control`: all its cells replace the estimate by the exact gradient.
    """

    method: str
    label: str
    variant: int
    has_sparsity: bool
    control: bool = False


@dataclass(frozen=True)
class Study:
    """A run as figures and tables see it.

    `cells` has one row a planned cell: the columns of `bench.store.load_table`, with `alpha` and `series` as ordered
    categories of labels, `sparsity` as asked, and `ok`. `tuned` says which parameters take one value a point, such as
    a learning rate chosen for each sparsity, and so do not split a series.
    """

    run: Path
    cells: pd.DataFrame
    series: tuple[Series, ...]
    tuned: tuple[str, ...]

    @property
    def ok(self) -> pd.DataFrame:
        """The cells that ended well."""
        return self.cells[self.cells["ok"]]

    def series_of(self, cells: pd.DataFrame) -> list[Series]:
        """Return the series that have an ok cell among these cells."""
        finished = set(cells.loc[cells["ok"], "series"])
        return [one for one in self.series if one.label in finished]

    def by_setting(self) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
        """Yield the planned cells of each (dataset, model), in the plan's order."""
        for (dataset, model), cells in self.cells.groupby(["dataset", "model"], sort=False):
            yield (str(dataset), str(model)), cells


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds and the half-width of its 95% Student-t interval, NaN at n < 2; in the values' unit."""

    mean: float
    half_width: float
    n: int

    @property
    def includes_zero(self) -> bool:
        """Whether the interval, if there is one, includes 0."""
        return not abs(self.mean) > self.half_width


def half_width(deviation: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Return the half-width of the 95% Student-t interval of a mean of `n` values with that sample deviation."""
    count = np.asarray(n, dtype=float)
    enough = np.where(count > 1, count, np.nan)
    return np.asarray(stats.t.ppf(0.975, enough - 1) * np.asarray(deviation, dtype=float) / np.sqrt(enough))


def estimate(values: ArrayLike) -> Estimate:
    """Return the mean of the values over seeds with its interval."""
    array = np.asarray(values, dtype=float)
    if not array.size:
        return Estimate(float("nan"), float("nan"), 0)
    deviation = array.std(ddof=1) if array.size > 1 else float("nan")
    return Estimate(float(array.mean()), float(half_width(deviation, array.size)), array.size)


def alpha_label(alpha: object) -> str:
    """Return heterogeneity as a label: "iid", "shards: 2", or Dirichlet's alpha and its value."""
    if isinstance(alpha, str):
        return alpha.replace(":", ": ")
    return f"{ALPHA} = {value_label(alpha)}"


def _alpha_order(alpha: Any) -> tuple[int, float, str]:
    if isinstance(alpha, str):
        digits = re.sub(r"\D", "", alpha)
        return (0, 0.0, "") if alpha == "iid" else (2, -float(digits or 0), alpha)
    return (1, -float(alpha), "")


def _telling_apart(cells: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return a method's varying columns: those that name its series, and those that its points and series determine."""
    columns = [name for name in map(str, cells) if name.startswith(("params.", "train."))] + ["estimator"]
    varying = [name for name in columns if cells[name].nunique(dropna=False) > 1]
    point = [name for name in POINT if name != "series"]
    naming = sorted(varying, key=lambda name: (name != "params.num_perturbations", name == "params.lr"))
    for name in reversed(list(naming)):
        fewer = [other for other in naming if other != name]
        values = cells.groupby([*point, *fewer], dropna=False, observed=True)[varying].nunique(dropna=False)
        if bool((values <= 1).to_numpy().all()):
            naming = fewer
    return naming, [name for name in varying if name not in naming]


def _value_order(value: Any) -> tuple[float, str]:
    is_number = isinstance(value, int | float) and value == value
    return (float(value), "") if is_number else (float("inf"), value_label(value))


def _method_series(cells: pd.DataFrame, method: str) -> tuple[list[Series], pd.Series[str], list[str]]:
    """Return a method's series, the series of each of its cells, and sentences on its tuned parameters."""
    naming, tuned = _telling_apart(cells)
    uses = cells["uses"] if "uses" in cells else pd.Series([], dtype=object)
    has_sparsity = any(isinstance(axes, list) and "sparsity" in axes for axes in uses)
    names = {
        values: ", ".join([look(method).label, *map(field_label, naming, values)])
        for values in sorted(
            set(cells[naming].itertuples(index=False, name=None)), key=lambda values: [*map(_value_order, values)]
        )
    }
    rows = [names[values] for values in cells[naming].itertuples(index=False, name=None)]
    labels = list(dict.fromkeys(names.values()))
    notes = [
        f"{look(method).label}: {name.split('.', 1)[-1]} differs between points (dataset, model, alpha, sparsity) of a "
        f"series: {', '.join(map(value_label, sorted(set(cells[name]), key=_value_order)))}."
        for name in tuned
    ]
    own = pd.Series(rows, index=cells.index)
    controls = {label for label in labels if cells.loc[own == label, "estimator"].eq("exact").all()}
    series = [Series(method, label, variant, has_sparsity, label in controls) for variant, label in enumerate(labels)]
    return series, own, notes


def load_study(run: Path) -> Study:
    """Read a run and group its cells into series. Raises StoreError for a run that cannot be read or plans nothing."""
    cells = load_table(run)
    if cells.empty:
        raise StoreError(f"The plan of {run} holds no cell; run a matrix into it.")
    alphas = {alpha_label(alpha): None for alpha in sorted(cells["alpha"].unique(), key=_alpha_order)}
    cells["alpha"] = pd.Categorical(cells["alpha"].map(alpha_label), list(alphas), ordered=True)
    cells["sparsity"] = cells["sparsity_asked"].astype(float)
    cells["ok"] = cells["status"] == "ok"
    order = [*SHIPPED, *sorted(set(cells["method"]) - SHIPPED.keys())]
    found = [_method_series(cells[cells["method"] == name], name) for name in order if name in set(cells["method"])]
    series = tuple(one for group, _, _ in found for one in group)
    names = pd.concat([labels for _, labels, _ in found])
    cells["series"] = pd.Categorical(names.reindex(cells.index), [one.label for one in series], ordered=True)
    return Study(run, cells, series, tuple(note for _, _, notes in found for note in notes))


def points(cells: pd.DataFrame, metrics: Sequence[str], by: Sequence[str] = POINT) -> pd.DataFrame:
    """Return one row a point: `n_ok`, `n_planned`, `stale`, and each metric's mean and `<metric>_half_width`.

    Values keep the metric's unit. `stale` says that some averaged record is stale.
    """
    keys = list(by)
    marked = cells.assign(stale=cells["stale"] & cells["ok"])
    frame = marked.groupby(keys, observed=True).agg(
        n_ok=("ok", "sum"), n_planned=("ok", "size"), stale=("stale", "any")
    )
    groups = cells[cells["ok"]].groupby(keys, observed=True)
    for metric in metrics:
        values = groups[metric]
        frame[metric] = values.mean()
        frame[f"{metric}_half_width"] = pd.Series(half_width(values.std(), values.count()), index=values.mean().index)
    return frame.reset_index()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def select(cells: pd.DataFrame, point: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows whose columns have the point's values."""
    chosen = np.logical_and.reduce([cells[name] == value for name, value in point.items()])
    return cells[chosen]


def paired_difference(
    cells: pd.DataFrame, first: Mapping[str, Any], second: Mapping[str, Any], metric: str
) -> Estimate:
    """Return the mean of first minus second over the seeds that both points finished, in the metric's unit."""
    ok = cells[cells["ok"]]
    sides = [select(ok, point).set_index("seed")[metric] for point in (first, second)]
    return estimate((sides[0] - sides[1]).dropna())


def twins(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a simulated ok cell with an ok twin, which differs from it in its `finite_difference` alone.

    Columns: those of the simulated cell, `real` (the twin's headline accuracy, a fraction) and `difference` to it.
    """
    same = ["method", "dataset", "model", "alpha", "sparsity", "seed"]
    same += [name for name in map(str, cells) if name.startswith(("params.", "train."))]
    ok = cells[cells["ok"] & cells["estimator"].notna()]
    is_real = ok["estimator"] == "finite_difference"
    keys = pd.Series(["|".join(map(str, row)) for row in ok[same].itertuples(index=False)], index=ok.index, dtype=str)
    real = pd.Series(ok.loc[is_real, "test_accuracy"].to_numpy(), index=keys[is_real].to_numpy(), dtype=float)
    found = ok[~is_real].assign(real=[real.get(key, float("nan")) for key in keys[~is_real]])
    return found.assign(difference=found["test_accuracy"] - found["real"]).dropna(subset="real")


def shown_sparsity(cells: pd.DataFrame, series: Sequence[Series]) -> float | None:
    """Return the sparsity level that stands for a series in a curve: the lower median of the levels above 0.

    None where no series with a sparsity axis has finished a cell above 0.
    """
    sparse = (
        cells["ok"] & (cells["sparsity"] > 0) & cells["series"].isin([one.label for one in series if one.has_sparsity])
    )
    levels = sorted(cells.loc[sparse, "sparsity"].unique())
    return float(levels[(len(levels) - 1) // 2]) if levels else None


def curve(run: Path, cell_ids: Sequence[str], x: str, *, log: bool) -> pd.DataFrame:
    """Return the mean test accuracy over cells along `x`: columns x, mean, half_width (fractions).

    Where the cells were evaluated at different x, each is interpolated linearly (in log x if `log`, which drops x = 0)
    onto the union of the points inside the range that all cover.
    """
    lines = []
    for cell_id in cell_ids:
        rounds = load_lines(run, cell_id, ROUNDS)
        if rounds.empty:
            continue
        line = rounds[[x, "test_accuracy"]].dropna().astype(float).to_numpy()
        line = line[line[:, 0] > 0] if log else line
        if len(line):
            lines.append(line)
    if not lines:
        return pd.DataFrame({"x": [], "mean": [], "half_width": []})
    if all(np.array_equal(line[:, 0], lines[0][:, 0]) for line in lines):
        grid, values = lines[0][:, 0], np.array([line[:, 1] for line in lines])
    else:
        low, high = max(line[0, 0] for line in lines), min(line[-1, 0] for line in lines)
        union = np.unique(np.concatenate([line[:, 0] for line in lines]))
        grid = union[(union >= low) & (union <= high)]
        scale = np.log if log else np.asarray
        values = np.array([np.interp(scale(grid), scale(line[:, 0]), line[:, 1]) for line in lines])
    deviation = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(len(grid), np.nan)
    return pd.DataFrame({"x": grid, "mean": values.mean(axis=0), "half_width": half_width(deviation, len(values))})

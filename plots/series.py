"""The statistics of figures and tables: cells grouped into series, means and intervals over seeds.

A series is a method, or a saliency in a run of one method, and whatever parameters tell its cells apart. Intervals are
95% Student-t half-widths over seeds, NaN at fewer than two. Only cells with status `ok` enter a mean; the others stay
in the count of planned cells.
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

from fedfore.errors import StoreError
from fedfore.plots.budget import TOLERANCE, budget_used
from fedfore.plots.certification import WITHHELD, certificates
from fedfore.plots.lines import readable_lines
from fedfore.plots.style import ALPHA, MINUS, SALIENCIES, SHIPPED, UNKNOWN, Look, field_label, look, looks, value_label
from fedfore.records.store import ROUNDS, load_table

POINT = ("dataset", "model", "alpha", "series", "sparsity")
"""The columns that say which cells differ in nothing but the seed."""
_SALIENCY = "params.saliency"
_SWITCHES = ("train.ntk", "train.ntk_seeds", "train.compare_masks")
"""Settings that choose what is measured: they name a series only where nothing else tells its cells apart."""


@dataclass(frozen=True)
class Series:
    """One line of a figure. `variant` counts the series of its look; `label` names method and varying parameters.

    `look` is the method's, or in a run of one method what tells its series apart; `control`: all its cells replace the
    estimate by the exact gradient.
    """

    method: str
    label: str
    look: Look
    variant: int
    has_sparsity: bool
    control: bool = False


@dataclass(frozen=True)
class Study:
    """A run as figures and tables see it.

    `cells` has one row a planned cell: the columns of `fedfore.records.store.load_table`, with `alpha` and `series` as
    ordered categories of labels, `sparsity` as asked, `ok`, `trained`: whether the cell is to go on to training and be
    evaluated, `metered`: whether it runs nothing but the meters, `overspent`: whether it trained past its budget,
    `certificate` (see `fedfore.plots.certification`), and `withheld`: whether that keeps its point out of comparisons
    of what was trained. `tuned` says which parameters take one value a point, such as a learning rate chosen for each
    sparsity, and so do not split a series; `left_out` what else differs between series than their labels say.
    """

    run: Path
    cells: pd.DataFrame
    series: tuple[Series, ...]
    tuned: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def ok(self) -> pd.DataFrame:
        """The cells that ended well."""
        return self.cells[self.cells["ok"]]

    @property
    def compared(self) -> pd.DataFrame:
        """The cells, as if those of points that are withheld had not ended well."""
        return self.cells.assign(ok=self.cells["ok"] & ~self.cells["withheld"])

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


def difference_text(difference: Estimate) -> str:
    """Return a difference of two accuracies, given as fractions, in points: "-1.2 ± 0.4"."""
    if difference.n < 2:
        return UNKNOWN
    return f"{100 * difference.mean:+.1f} ± {100 * difference.half_width:.1f}".replace("-", MINUS)


def verdict(difference: Estimate) -> str:
    """Return a paired difference in words, with an honest note where it does not settle the order."""
    if difference.n < 2:
        return "not compared (fewer than two shared seeds)"
    zero = ", interval includes 0" if difference.includes_zero else ""
    return f"{difference_text(difference)} points (paired over {difference.n} seeds{zero})"


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


def _varying(cells: pd.DataFrame) -> list[str]:
    """Return the columns of settings in which a method's cells differ."""
    columns = [name for name in map(str, cells) if name.startswith(("params.", "train."))] + ["estimator"]
    return [name for name in columns if cells[name].nunique(dropna=False) > 1]


def _naming(cells: pd.DataFrame) -> list[str]:
    """Return the varying columns that name a method's series; their points and series determine the others."""
    varying = _varying(cells)
    point = [name for name in POINT if name != "series"]
    naming = sorted(
        varying, key=lambda name: (name != "params.num_perturbations", name in _SWITCHES, name == "params.lr")
    )
    for name in reversed(list(naming)):
        fewer = [other for other in naming if other != name]
        values = cells.groupby([*point, *fewer], dropna=False, observed=True)[varying].nunique(dropna=False)
        if bool((values <= 1).to_numpy().all()):
            naming = fewer
    return naming


def _value_order(value: Any) -> tuple[float, str]:
    is_number = isinstance(value, int | float) and value == value
    return (float(value), "") if is_number else (float("inf"), value_label(value))


def _labels(cells: pd.DataFrame, naming: Sequence[str], base: str, method: str) -> pd.Series[str]:
    """Return an ordered category of labels, `base` and the named values or else the method, in the values' order."""
    levels = {name: list(cells[name].cat.categories) for name in naming if cells[name].dtype == "category"}
    named = cells[list(naming)].astype(object)
    named = named.where(named.notna(), None)  # one NaN is not the next one
    values = pd.Series(list(named.itertuples(index=False, name=None)), index=cells.index, dtype=object)

    def rank(name: str, value: Any) -> tuple[float, str]:
        return (levels[name].index(value), "") if name in levels else _value_order(value)

    def text(name: str, value: Any) -> str:
        return str(value) if name in levels else field_label(name, value)

    names = {
        own: ", ".join(part for part in (base, *map(text, naming, own)) if part) or look(method).label
        for own in sorted(set(values), key=lambda own: [*map(rank, naming, own)])
    }
    return pd.Series(pd.Categorical(values.map(names), list(dict.fromkeys(names.values())), ordered=True), cells.index)


@dataclass(frozen=True)
class _Family:
    """Cells of a method whose series are named among themselves, after `label`, and drawn alike or by turns."""

    label: str
    looks: tuple[Look, ...]
    cells: pd.DataFrame


def _families(cells: pd.DataFrame, own: Look, *, alone: bool) -> Iterator[_Family]:
    """Yield a method's families, one a saliency if all are known, or one a variant.

    The only method of a run leaves name and look to its saliencies; where it has but one and trains nothing, to its
    settings.
    """
    used = set(cells[_SALIENCY]) if _SALIENCY in cells else set()
    if len(used) > 1 and used <= SALIENCIES.keys():
        for saliency, one in SALIENCIES.items():
            if saliency in used:
                label, drawn = (one.label, one) if alone else (f"{own.label}, {one.label}", own)
                yield _Family(label, (drawn,), cells[cells[_SALIENCY] == saliency])
    elif alone and not cells["trained"].any():
        yield _Family("", tuple(SALIENCIES.values()), cells)
    else:
        variants = _variants(cells)
        for variant in dict.fromkeys(variants):
            yield _Family(f"{own.label} ({variant})" if variant else own.label, (own,), cells[variants == variant])


def _variants(cells: pd.DataFrame) -> pd.Series[str]:
    """Return what stands behind the method's name, by model, so that a cell that failed has it too; or nothing."""
    if "method_variant" not in cells:
        return pd.Series("", cells.index)
    return cells.groupby("model")["method_variant"].transform("first").astype(object).fillna("").astype(str)


def _method_series(
    cells: pd.DataFrame, method: str, method_look: Look, *, alone: bool
) -> tuple[list[Series], pd.Series[str], list[str], list[str]]:
    """Return a method's series, the series of each of its cells, and the sentences of `Study.tuned` and `left_out`."""
    uses = cells["uses"] if "uses" in cells else pd.Series([], dtype=object)
    has_sparsity = any(isinstance(axes, list) and "sparsity" in axes for axes in uses)
    series: list[Series] = []
    rows: list[pd.Series[str]] = []
    named: dict[str, list[str]] = {}
    for family in _families(cells, method_look, alone=alone):
        naming = _naming(family.cells)
        labels = _labels(family.cells, naming, family.label, method)
        for place, label in enumerate(labels.cat.categories):
            own_look = family.looks[place % len(family.looks)]
            variant = sum(one.look == own_look for one in series)
            control = bool(family.cells.loc[labels == label, "estimator"].eq("exact").all())
            series.append(Series(method, label, own_look, variant, has_sparsity, control))
            named[label] = [*naming, _SALIENCY, *_SWITCHES]
        rows.append(labels.astype(str))
    own = pd.concat(rows).reindex(cells.index)
    return series, own, list(_tuned(cells, own, method)), list(_left_out(cells, own, named, method))


def _tuned(cells: pd.DataFrame, own: pd.Series[str], method: str) -> Iterator[str]:
    """Yield a sentence on each setting that takes several values within a series."""
    for name in _varying(cells):
        several = cells.groupby(own)[name].transform("nunique", dropna=False) > 1
        if name not in _SWITCHES and several.any():
            values = sorted(set(cells.loc[several, name]), key=_value_order)
            yield (
                f"{look(method).label}: {name.split('.', 1)[-1]} differs between points (dataset, model, alpha, "
                f"sparsity) of a series: {', '.join(map(value_label, values))}."
            )


def _left_out(
    cells: pd.DataFrame, own: pd.Series[str], named: Mapping[str, Sequence[str]], method: str
) -> Iterator[str]:
    """Yield a sentence on the settings that take one value in a series, and another elsewhere, and are not `named`."""
    alike: dict[str, list[str]] = {}
    for label, names in named.items():
        shown = cells[own == label]
        fields = [
            field_label(name, shown[name].iloc[0])
            for name in _varying(cells)
            if name not in names and shown[name].nunique(dropna=False) == 1
        ]
        alike.setdefault(", ".join(filter(None, fields)), []).append(label)
    said = [f"{' / '.join(labels)} ({fields})" for fields, labels in alike.items() if fields]
    if said:
        yield f"How series of {look(method).label} are configured, beside what their names say: {'; '.join(said)}."


def settings(cells: pd.DataFrame, leave_out: Sequence[str] = (), also: Sequence[str] = ()) -> pd.Series[str]:
    """Return an ordered category that names what varies among these cells; the method alone where nothing does.

    `leave_out` are settings not to name, `also` the columns of points (sparsity, alpha) to name where they vary.
    """
    methods = cells["method"].unique()
    beside = [name for name in also if cells[name].nunique() > 1]
    parts = []
    for method in methods:
        own = cells[cells["method"] == method]
        naming = [name for name in _naming(own) if name not in leave_out] + beside
        parts.append(_labels(own, naming, look(method).label if len(methods) > 1 else "", method))
    order = [label for part in parts for label in part.cat.categories]
    labels = pd.concat([part.astype(str) for part in parts]).reindex(cells.index)
    return pd.Series(pd.Categorical(labels, order, ordered=True), cells.index)


def load_study(run: Path) -> Study:
    """Read a run and group its cells into series. Raises StoreError for a run that cannot be read or plans nothing."""
    cells = load_table(run).copy()  # one block of memory a type, where that table has one a column
    if cells.empty:
        raise StoreError(f"The plan of {run} holds no cell; run a matrix into it.")
    alphas = {alpha_label(alpha): None for alpha in sorted(cells["alpha"].unique(), key=_alpha_order)}
    cells = cells.assign(
        alpha=pd.Categorical(cells["alpha"].map(alpha_label), list(alphas), ordered=True),
        sparsity=cells["sparsity_asked"].astype(float),
        ok=cells["status"] == "ok",
        trained=~(_is_set(cells, "train.setup_only") | _is_set(cells, "train.meter_only")),
        metered=_is_set(cells, "train.meter_only"),
        budget_used=budget_used(cells),
    )
    cells = cells.assign(overspent=cells["budget_used"] > TOLERANCE)
    order = [*SHIPPED, *sorted(set(cells["method"]) - SHIPPED.keys())]
    present = [name for name in order if name in set(cells["method"])]
    dealt, alone = looks(present), len(present) == 1
    found = [_method_series(cells[cells["method"] == name], name, dealt[name], alone=alone) for name in present]
    series = tuple(one for own, *_ in found for one in own)
    names = pd.concat([labels for _, labels, *_ in found]).reindex(cells.index)
    cells = cells.assign(series=pd.Categorical(names, [one.label for one in series], ordered=True))
    cells = cells.assign(certificate=certificates(run, cells, POINT))
    cells = cells.assign(withheld=cells["certificate"].isin(WITHHELD))
    tuned = tuple(note for *_, notes, _ in found for note in notes)
    left_out = tuple(note for *_, notes in found for note in notes)
    return Study(run, cells, series, tuned, left_out)


def _is_set(cells: pd.DataFrame, switch: str) -> pd.Series[bool]:
    return cells[switch].eq(True) if switch in cells else pd.Series(False, cells.index)


def points(cells: pd.DataFrame, metrics: Sequence[str], by: Sequence[str] = POINT) -> pd.DataFrame:
    """Return one row a point: `n_ok`, `n_planned`, `stale`, `overspent`, `withheld`, each metric's mean and half-width.

    The columns are `<metric>` and `<metric>_half_width`. Values keep the metric's unit. `stale` and `overspent` say
    that some averaged record is, `withheld` that the point is.
    """
    keys = list(by)
    marked = cells.assign(**{name: cells[name] & cells["ok"] for name in ("stale", "overspent")})
    frame = marked.groupby(keys, observed=True).agg(
        n_ok=("ok", "sum"),
        n_planned=("ok", "size"),
        stale=("stale", "any"),
        overspent=("overspent", "any"),
        withheld=("withheld", "any"),
    )
    groups = cells[cells["ok"]].groupby(keys, observed=True)
    columns = {}
    for metric in metrics:
        values = groups[metric]
        columns[metric] = values.mean()
        columns[f"{metric}_half_width"] = pd.Series(half_width(values.std(), values.count()), index=values.mean().index)
    return frame.join(pd.DataFrame(columns, index=frame.index)).reset_index()


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

    A description: that a twin is near says nothing for its cell, since two seeds may be.
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
        rounds = readable_lines(run, cell_id, ROUNDS)
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

"""Numbers that follow from the records of published studies: which rows, what is compared, and the statistic of it.

A `Quantity` says which rows (`where`, `of`, `against`), which `metric` of them, and what becomes of its values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pandas as pd
from scipy import stats

from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive, Sample
from fedfore.judgement.documents import Document
from fedfore.judgement.estimates import Difference, Estimate, estimate, paired
from fedfore.judgement.selection import column, fitting, has_column, several
from fedfore.judgement.sides import FAILED, chance_accuracies, counted, estimate_of, is_accuracy
from fedfore.judgement.verdicts import holm

Filters = Mapping[str, Any]
Reduction = Literal["mean", "geometric_mean", "min", "max", "sum", "first", "last"]
_NAME = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*")
_REDUCED: Mapping[Reduction, Callable[[Any], Any]] = {
    "mean": lambda group: group.mean(),
    "geometric_mean": lambda group: group.agg(lambda values: float(stats.gmean(values))),
    "min": lambda group: group.min(),
    "max": lambda group: group.max(),
    "sum": lambda group: group.sum(),
    "first": lambda group: group.first(),
    "last": lambda group: group.last(),
}


class Quantity(Document):
    """A number that follows from records.

    `where` holds for both sides and for `values`, `of` for the one side, `against` for the other. Filters name an axis
    (method, dataset, model, sparsity, alpha, seed, estimator), a parameter of the method, a key of `train`, a field of
    the record or of the line, or `study`; a list means any of its values, "none" also null. `of` and `against` may be
    the name of a series of the card. `metric` is a field or an expression of fields and of `values`, which are
    quantities themselves.

    Rows are cells, or lines of the cells' file `lines`. Rows that agree in `by` are reduced by `within`, and without it
    may not be several. The sides are compared where they agree in `by`. Then what agrees in `per` is reduced by `each`,
    and the `statistic` is taken over the rest. A cell that failed has the accuracy of chance where an accuracy is the
    metric, and no value else.
    """

    where: Mapping[str, Any] = {}
    of: Mapping[str, Any] | str = {}
    against: Mapping[str, Any] | str = {}
    metric: str = ""
    lines: Literal["rounds", "diagnostics", "layers", "adjustments"] | None = None
    by: tuple[str, ...] = ("seed",)
    within: Reduction | None = None
    compare: Literal["difference", "ratio", "change", "saving"] = "difference"
    per: tuple[str, ...] = ()
    each: Reduction = "mean"
    statistic: Literal[
        "interval", "mean", "geometric_mean", "min", "max", "sum", "range", "count", "list", "value", "nonzero"
    ] = "interval"
    values: Mapping[str, Quantity] = {}
    scale: float | Literal["MiB", "KiB"] = 1.0
    decimals: int | None = None
    significant: int | None = None
    sign: bool = False
    unit: str = ""
    optional: bool = False


def fields_of(quantity: Quantity) -> list[str]:
    """Return the names of the fields that a quantity's metric is made of, those of its `values` among them."""
    own = [name for name in _NAME.findall(quantity.metric) if name not in quantity.values]
    return own + [name for value in quantity.values.values() for name in fields_of(value)]


def sample(archive: Archive, study: str, quantity: Quantity) -> Sample:
    """Return the values of a quantity, of records of `study` where its filters name no other.

    Raises ConfigError where it cannot be: an unknown study or name, nothing chosen, or several rows where one is meant.
    """
    if not fields_of(quantity):
        raise ConfigError(f'"{quantity.metric}" names no field' if quantity.metric else "no metric is named")
    key = f"{study} {quantity.model_dump_json()}"
    if key not in archive.samples:
        archive.samples[key] = _sample(archive, study, quantity)
    return archive.samples[key]


def _sample(archive: Archive, study: str, quantity: Quantity) -> Sample:
    sides = [_side(archive, study, quantity, {**quantity.where, **filters_of(quantity.of)})]
    if quantity.against:
        sides.append(_side(archive, study, quantity, {**quantity.where, **filters_of(quantity.against)}))
    unfinished = sum((Counter(side.unfinished) for side in sides), Counter[str]())
    values = _compared([side.values for side in sides], quantity.compare)
    failed = sum((Counter(side.failed) for side in sides), Counter[str]())
    return Sample(values, unfinished, failed)


def filters_of(given: Filters | str) -> Filters:
    """Return the filters of a side. Raises ConfigError for the name of a series, which only a card can know."""
    if isinstance(given, str):
        raise ConfigError(f'the series "{given}" is named where there are no series')
    return given


def _compared(sides: list[pd.Series[Any]], how: str) -> pd.Series[Any]:
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    if first.empty or second.empty:
        return pd.Series(dtype=float)
    ratio = first / second
    found = {"difference": first - second, "ratio": ratio, "change": ratio - 1, "saving": 1 - ratio}[how]
    return found.dropna()


def _side(archive: Archive, study: str, quantity: Quantity, filters: Mapping[str, Any]) -> Sample:
    own = {name: value for name, value in filters.items() if name != "study"}
    study = filters.get("study", study)
    said = f"{study} with {', '.join(f'{name} = {value}' for name, value in own.items()) or 'any settings'}"
    cells = archive.table(study)
    if "stage" in cells:
        own = {"stage": "report", **own}
    of_cells = {name: value for name, value in own.items() if not quantity.lines or has_column(cells, name)}
    planned = cells["status"][fitting(cells, of_cells)]
    if planned.empty and not quantity.optional:
        raise ConfigError(f"there is no cell of {said}")
    table, has_value = cells, planned == "ok"
    if is_accuracy(quantity.metric) and not quantity.lines and quantity.metric in cells:
        table = cells.assign(chance_accuracy=chance_accuracies(cells))
        has_failed = planned.isin(FAILED)
        if table.loc[planned.index[has_failed], "chance_accuracy"].isna().any():
            return Sample(pd.Series(dtype=float), Counter(planned[~has_value]))
        has_value |= has_failed
    unfinished, failed = Counter(planned[~has_value]), Counter(planned[has_value & (planned != "ok")])
    chosen = planned.index[has_value]
    if quantity.lines and len(chosen):
        table = archive.lines(study, quantity.lines)
        chosen = table.index[fitting(table, own)]
    if chosen.empty:
        if planned.empty or unfinished or quantity.optional:
            return Sample(pd.Series(dtype=float), unfinished)
        raise ConfigError(f"there is no line of {said}")
    values = _metric(archive, study, quantity, table, chosen)
    if values.isna().all() and not quantity.optional:
        raise ConfigError(f"no record of {said} knows {quantity.metric}")
    keys = pd.DataFrame({name: table.loc[chosen, column(table, name)] for name in quantity.by})
    indexed = values.set_axis(pd.MultiIndex.from_frame(keys)).dropna()
    if quantity.within:
        groups = indexed.groupby(level=list(quantity.by), dropna=False)
        return Sample(_REDUCED[quantity.within](groups), unfinished, failed)
    differing = several(table, keys)
    if differing:
        raise ConfigError(f"several rows of {said} have one {' and '.join(quantity.by)}; they differ in {differing}")
    return Sample(indexed, unfinished, failed)


def _metric(
    archive: Archive, study: str, quantity: Quantity, table: pd.DataFrame, chosen: pd.Index[Any]
) -> pd.Series[Any]:
    """Return the metric of each chosen row: a field, or an expression of fields and of the quantity's `values`."""
    if _NAME.fullmatch(quantity.metric) and quantity.metric not in quantity.values:
        name = column(table, quantity.metric)
        return counted(table.loc[chosen], name) if is_accuracy(name) else table.loc[chosen, name]
    known = {
        name: _constant(archive, study, name, value.model_copy(update={"where": {**quantity.where, **value.where}}))
        for name, value in quantity.values.items()
    }
    fields = [name for name in _NAME.findall(quantity.metric) if name not in known]
    rows = pd.DataFrame({**{name: table.loc[chosen, column(table, name)] for name in fields}, **known}, index=chosen)
    rows.columns = rows.columns.str.replace(".", "_")
    expression = _NAME.sub(lambda found: found.group().replace(".", "_"), quantity.metric)
    try:
        return pd.Series(rows.eval(expression), index=chosen)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ConfigError(f'the metric "{quantity.metric}" cannot be computed ({error})') from None


def _constant(archive: Archive, study: str, name: str, quantity: Quantity) -> float:
    numbers = statistic(sample(archive, study, quantity), quantity)
    if len(numbers) != 1:
        raise ConfigError(f'the value "{name}" is not one number; give it a statistic such as "mean"')
    return float(numbers[0])


def no_effect(values: pd.Series[float]) -> Difference:
    """Return the difference of values to 0, as a test of no effect has it."""
    return paired(values, values * 0.0)


def interval(found: Sample, quantity: Quantity) -> Estimate:
    """Return the mean of a quantity with its interval: of one metric alone on its scale, of all else on the linear one.

    In the metric's own unit.
    """
    values = _values(found, quantity)
    return estimate(values) if quantity.against else estimate_of(quantity.metric, values)


def _values(found: Sample, quantity: Quantity) -> pd.Series[Any]:
    """Return what the statistic is taken over: the values, or those of what agrees in `per`, reduced."""
    values = found.values.astype(float) if found.values.dtype.kind == "b" else found.values
    if not quantity.per:
        return values
    return _REDUCED[quantity.each](values.groupby(level=list(quantity.per), dropna=False))


def statistic(found: Sample, quantity: Quantity) -> tuple[Any, ...]:
    """Return the numbers of a quantity's statistic, in the metric's own unit.

    One number, or several: mean and both ends of `interval`, least and greatest of `range`, how many groups' means
    differ from 0 after Holm's correction and how many groups there are of `nonzero`. `list` gives all by key, `value`
    those that differ.
    """
    if quantity.statistic == "nonzero":
        groups = found.values.groupby(level=list(quantity.per), dropna=False)
        steps = holm([no_effect(own).p for _, own in groups])
        return (sum(step.rejected for step in steps), len(steps))
    values = _values(found, quantity)
    match quantity.statistic:
        case "interval":
            one = interval(found, quantity)
            return (one.mean, one.low, one.high) if one.n > 1 else (one.mean,)
        case "range":
            return (values.min(), values.max())
        case "count":
            return (len(values),)
        case "list":
            return tuple(values.sort_index())
        case "value":
            return tuple(dict.fromkeys(values.sort_values()))
        case "geometric_mean":
            return (float(stats.gmean(values)),)
        case name:
            return (getattr(values, name)(),)

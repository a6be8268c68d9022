"""Metrics at every point of a table: means with their intervals, in one unit a column, the best of them known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pandas as pd

from fedfore.judgement.estimates import Estimate, estimate, scale_of_fractions
from fedfore.judgement.sides import is_metered
from fedfore.plots.points import records
from fedfore.plots.tables.grid import Entry, Shown
from fedfore.plots.tables.lines import LINE_METRICS
from fedfore.plots.tables.point_table import PointTable
from fedfore.plots.units import Unit, one_unit
from fedfore.plots.wording import is_percent
from fedfore.records.metrics import METRICS
from fedfore.records.rows import Metric

NOT_APPLICABLE = "n/a"
_COSTS = ("bytes", "FLOPs", "MACs", "operations")
"""Units of what is counted, and shown without an interval."""
_UNNAMED = ("", "fraction", "ratio", "cosine")
_PERCENT, _PERCENT_DECIMALS = 0.01, 1
_ARROWS = {"higher": " ↑", "lower": " ↓", "descriptive": ""}


@dataclass(frozen=True)
class Quantity:
    """A metric at every point of a table: its estimates in the unit it is stored in, and the unit it is written in."""

    metric: str
    estimates: tuple[Estimate, ...]
    unit: Unit

    @property
    def is_known(self) -> bool:
        """Whether some point knows it."""
        return any(one.n for one in self.estimates)


def described(metric: str) -> Metric:
    """Return what is known of a metric; a number of lines that has no row is called by its name."""
    row = METRICS.get(metric) or LINE_METRICS.get(metric)
    return row or Metric(metric, "", "descriptive", metric.replace("_", " ").capitalize(), "")


def quantity(table: PointTable, metric: str, decimals: int | None) -> Quantity:
    """Return the mean of a metric over the seeds of each point that ended well, with its 95% interval.

    Accuracies near 0 or 1 have the interval of the logit scale. What is counted has none, nor what no seed changes.
    """
    values = [pd.to_numeric(own.loc[own["ok"], metric]).dropna() for own in table.cells]
    scales = [scale_of_fractions(one) if _is_percent(metric) else "linear" for one in values]
    found = [estimate(one, scale) for one, scale in zip(values, scales, strict=True)]
    unit = unit_of(metric, (one.mean for one in found), decimals)
    made = Quantity(metric, tuple(found), unit)
    varies = described(metric).unit not in _COSTS and any(one.half_width > 0 for one in found)
    return made if varies or _is_percent(metric) else without_intervals(made)


def without_intervals(own: Quantity) -> Quantity:
    """Return a quantity of which the means alone are shown."""
    return replace(own, estimates=tuple(replace(one, low=math.nan, high=math.nan) for one in own.estimates))


def unit_of(metric: str, values: Iterable[float], decimals: int | None) -> Unit:
    """Return the unit in which these values of a metric are written: percent of accuracies, else one that suits."""
    if _is_percent(metric):
        return Unit("%", _PERCENT, _PERCENT_DECIMALS if decimals is None else decimals)
    return one_unit(values, described(metric).unit, decimals)


def shown(table: PointTable, own: Quantity) -> Shown:
    """Return a quantity as a table shows it."""
    lacking = [_lacks(own, place, point) for place, point in enumerate(records(table.numbers))]
    best = _best(table, own, lacking)
    both_ends = any(is_skewed(one) for one in own.estimates)
    entries = [estimate_entry(one, own.unit, both_ends=both_ends) for one in own.estimates]
    return Shown(
        title(own),
        tuple(
            Entry(NOT_APPLICABLE) if lacks else replace(entry, best=place in best)
            for place, (entry, lacks) in enumerate(zip(entries, lacking, strict=True))
        ),
    )


def title(own: Quantity) -> str:
    """Return a quantity's title with its unit in the place of the stored one, and an arrow to the better end.

    "Peak device bytes" in MiB is "Peak device MiB ↓".
    """
    row = described(own.metric)
    return with_unit(row.label, row.unit, own.unit) + _ARROWS[row.direction]


def with_unit(label: str, stored: str, unit: Unit) -> str:
    """Return a label of what is stored in one unit and written in another."""
    named = re.compile(rf"\b{re.escape(stored)}\b", re.IGNORECASE)
    if named.search(label) or (stored in _UNNAMED and unit.size == 1):
        return label if unit.size == 1 else named.sub(unit.name, label, count=1)
    return f"{label} ({unit.name})"


def estimate_entry(one: Estimate, unit: Unit, *, both_ends: bool) -> Entry:
    """Return a mean in a unit, with half of its interval behind ±, or with both ends where some interval is skewed."""
    if one.half_width != one.half_width:
        return Entry(unit.text(one.mean))
    ends = f"[{unit.text(one.low)}, {unit.text(one.high)}]"
    return Entry(unit.text(one.mean), ends if both_ends else f"± {unit.text(one.half_width)}")


def is_skewed(one: Estimate) -> bool:
    """Return whether an interval is longer on one side of the mean."""
    return one.half_width == one.half_width and not math.isclose(one.high - one.mean, one.mean - one.low, abs_tol=1e-9)


def seeds(table: PointTable) -> Shown:
    """Return how many seeds each point has; where some did not end well, of how many."""
    counts = (
        str(point["n_ok"]) if point["n_ok"] == point["n_planned"] else f"{point['n_ok']} / {point['n_planned']}"
        for point in records(table.numbers)
    )
    return Shown("Seeds", tuple(map(Entry, counts)), listed=True)


def _lacks(own: Quantity, place: int, point: dict[str, object]) -> bool:
    """Return whether a metric means nothing at a point: of training where there is none, of a phase that is not."""
    mean = own.estimates[place].mean
    nothing = described(own.metric).unit in _COSTS and mean == 0
    untrained = bool(point["n_ok"]) and not point["trained"]
    return (untrained and (nothing or mean != mean)) or (nothing and own.metric.startswith("peak_"))


def _best(table: PointTable, own: Quantity, lacking: list[bool]) -> set[int]:
    """Return the points of the best value, as it is written, among those that compete; none where all are alike.

    No control competes; in what was learnt no point does that is withheld or has fewer seeds than others. Of distances
    that chance takes below 0 the lowest is not the best.
    """
    row = described(own.metric)
    if row.direction == "descriptive" or (row.direction == "lower" and row.limits[0] is None):
        return set()
    numbers = table.numbers
    written = pd.Series([round(one.mean / own.unit.size, own.unit.decimals) for one in own.estimates], numbers.index)
    rivals = numbers[written.notna() & ~pd.Series(lacking, numbers.index) & ~numbers["control"]]
    if not _is_metered(own.metric):
        rivals = rivals[~rivals["withheld"]]
    found: set[int] = set()
    for _, group in rivals.groupby(table.rivals, observed=True):
        fair = group if _is_metered(own.metric) else group[group["n_ok"] == group["n_ok"].max()]
        values = written[fair.index]
        if values.nunique() > 1:
            best = values.max() if row.direction == "higher" else values.min()
            found |= set(values.index[values == best])
    return found


def _is_percent(metric: str) -> bool:
    return metric in METRICS and is_percent(metric)


def _is_metered(metric: str) -> bool:
    return metric in METRICS and is_metered(metric)

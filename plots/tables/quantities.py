"""Metrics at every point of a table: means with their intervals, in one unit a column, the best of them known."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fedfore.judgement.estimates import LEVEL, Estimate, estimate, scale_of_fractions
from fedfore.judgement.sides import counted, is_accuracy, is_metered, is_percent, means_of
from fedfore.plots.points import records
from fedfore.plots.tables.grid import Entry, Shown
from fedfore.plots.tables.lines import LINE_METRICS
from fedfore.plots.tables.point_table import PointTable
from fedfore.plots.units import PERCENT, Unit, one_unit
from fedfore.plots.wording import interval_text
from fedfore.records.metrics import METRICS
from fedfore.records.rows import Metric

NOT_APPLICABLE = "n/a"
LACKING = f"{NOT_APPLICABLE}: not applicable, since nothing is trained there or there is no such phase."
ASIDE = "controls, what is not certified and what has fewer seeds than others stand aside"
"""Who is never the best (see `entries`)."""
_COSTS = ("bytes", "FLOPs", "MACs", "operations")
"""Units of what is counted, and shown without an interval."""
_UNNAMED = ("", "fraction", "ratio", "cosine")
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
    """Return the mean of a metric over the seeds of each point with its 95% interval (see `mean_of`).

    What is counted has no interval, nor what no seed changes. What trains nothing has no accuracy where it fails.
    """
    trained = table.cells["trained"].to_numpy(dtype=bool)
    rows = [own[trained[own]] for own in table.places] if is_accuracy(metric) else table.places
    found = list(means_of(table.cells, metric, rows))
    unit = unit_of(metric, (one.mean for one in found), decimals)
    made = Quantity(metric, tuple(found), unit)
    varies = described(metric).unit not in _COSTS and any(one.half_width > 0 for one in found)
    return made if varies or is_percent(metric) else without_intervals(made)


def share(table: PointTable, name: str) -> Quantity:
    """Return what a mask leaves of a whole, a column of fractions, at each point, in percent."""
    values = counted(table.cells, name).to_numpy()
    known = [own[~np.isnan(own)] for own in (values[places] for places in table.places)]
    return Quantity(name, tuple(estimate(one, scale_of_fractions(one)) for one in known), PERCENT)


def without_intervals(own: Quantity) -> Quantity:
    """Return a quantity of which the means alone are shown."""
    return replace(own, estimates=tuple(replace(one, low=math.nan, high=math.nan) for one in own.estimates))


def unit_of(metric: str, values: Iterable[float], decimals: int | None) -> Unit:
    """Return the unit in which these values of a metric are written: percent of accuracies, else one that suits."""
    if is_percent(metric):
        return PERCENT if decimals is None else replace(PERCENT, decimals=decimals)
    return one_unit(values, described(metric).unit, decimals)


def shown(table: PointTable, own: Quantity) -> Shown:
    """Return a quantity as a table shows it."""
    return Shown(title(own), entries(table, own))


def entries(table: PointTable, own: Quantity) -> tuple[Entry, ...]:
    """Return what a table shows of a quantity at each point: all intervals in one form, the best values marked."""
    lacking = [_lacks(own, place, point) for place, point in enumerate(records(table.numbers))]
    best = _best(table, own, lacking)
    both_ends = any(one.is_skewed for one in own.estimates)
    return tuple(
        Entry(NOT_APPLICABLE)
        if lacks
        else Entry(own.unit.text(one.mean), interval_text(one, own.unit.text, both_ends=both_ends), best=place in best)
        for place, (one, lacks) in enumerate(zip(own.estimates, lacking, strict=True))
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


def estimates_note(quantities: Sequence[Quantity]) -> Iterator[str]:
    """Yield what stands behind means, if anything does."""
    known = [one for own in quantities for one in own.estimates if one.half_width == one.half_width]
    if any(one.is_skewed for one in known):
        yield f"Means over seeds; in brackets the {LEVEL:.0%} interval, on the logit scale near 0 and 100%."
    elif known:
        yield f"Means over seeds, ± half of the {LEVEL:.0%} Student-t interval."


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

    No control competes; in what was learnt no point does that is withheld or has fewer values than others, of which a
    failure that counts as chance is one. Of distances that chance takes below 0 the lowest is not the best.
    """
    row = described(own.metric)
    if row.direction == "descriptive" or (row.direction == "lower" and row.limits[0] is None):
        return set()
    numbers = table.numbers
    written = pd.Series([round(one.mean / own.unit.size, own.unit.decimals) for one in own.estimates], numbers.index)
    counts = pd.Series([one.n for one in own.estimates], numbers.index)
    rivals = numbers[written.notna() & ~pd.Series(lacking, numbers.index) & ~numbers["control"]]
    if not _is_metered(own.metric):
        rivals = rivals[~rivals["withheld"]]
    found: set[int] = set()
    for _, group in rivals.groupby(table.rivals, observed=True):
        known = counts[group.index]
        fair = known if _is_metered(own.metric) else known[known == known.max()]
        values = written[fair.index]
        if values.nunique() > 1:
            best = values.max() if row.direction == "higher" else values.min()
            found |= set(values.index[values == best])
    return found


def _is_metered(metric: str) -> bool:
    return metric in METRICS and is_metered(metric)

"""The axis of one metric: accuracies in percent, bytes and counts in one unit, its label and its ticks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedfore.judgement.sides import is_percent
from fedfore.plots.units import PERCENT, Unit, one_unit
from fedfore.plots.wording import MINUS
from fedfore.records.metrics import METRICS


@dataclass(frozen=True)
class Quantity:
    """A metric in the unit that its axis has."""

    metric: str
    unit: Unit

    @property
    def label(self) -> str:
        """The metric with its unit, and an arrow to the better end."""
        row = METRICS[self.metric]
        arrow = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓", "descriptive": ""}[row.direction]
        unit = "" if self.unit.name in ("fraction", "ratio", "", row.label.lower()) else f" ({self.unit.name})"
        return f"{row.label}{unit}{arrow}"

    @property
    def difference_unit(self) -> str:
        """The unit of differences: points for percentages."""
        return "points" if is_percent(self.metric) else self.unit.name

    def text(self, value: float) -> str:
        """Return a stored value as its tick says it."""
        return f"{value / self.unit.size:g}".replace("-", MINUS)

    def ticks(self, axis: Axis, most: int, *, signed: bool = False) -> None:
        """Give an axis of stored values round ticks in the unit, with a sign where they are differences."""

        def write(value: float, _: int) -> str:
            sign = "+" if signed and value > 1e-12 * self.unit.size else ""
            return f"{sign}{self.text(round(value / self.unit.size, 9) * self.unit.size)}"

        axis.set_major_locator(_InUnit(most, self.unit.size))
        axis.set_major_formatter(FuncFormatter(write))


class _InUnit(MaxNLocator):
    """Ticks that are round in a unit."""

    def __init__(self, most: int, size: float) -> None:
        super().__init__(most, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2)
        self._size = size

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return round places within the limits."""
        return [self._size * tick for tick in super().tick_values(vmin / self._size, vmax / self._size)]


def quantity(metric: str, values: Iterable[float]) -> Quantity:
    """Return a metric in the unit that suits these values."""
    if is_percent(metric):
        return Quantity(metric, PERCENT)
    return Quantity(metric, one_unit(values, METRICS[metric].unit))

"""The decorators of metrics and figures, and what they describe. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from fedfore.errors import PluginError
from fedfore.records.declared import marked
from fedfore.records.rows import Direction, Metric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Lines = Callable[[str], "pd.DataFrame"]
Draw = Callable[["pd.DataFrame", Lines], "Figure"]
Seen = TypeVar("Seen", bound=type)
Drawing = TypeVar("Drawing", bound=Draw)


@dataclass(frozen=True)
class PluginMetric:
    """A metric of a plug-in: its row, and the class of the observer that measures it."""

    row: Metric
    observer: type[Any]


@dataclass(frozen=True)
class PluginFigure:
    """A figure of a plug-in: its title, and what draws it."""

    title: str
    draw: Draw


def metric(
    *,
    unit: str,
    direction: Direction,
    title: str,
    limits: tuple[float | None, float | None] = (0.0, None),
) -> Callable[[Seen], Seen]:
    """Declare a class as a metric, whose name is that of the class in lower case: `WeightNorm` is `weight_norm`.

    The class is a `fedfore.api.Observer`, made without arguments; what its `fields` returns under the metric's name, a
    number or None, goes into the record. The harness tells it what it tells its own observers. `direction` is "higher",
    "lower" or "descriptive"; `title` is its label in tables and figures; the first line of its docstring says what it
    is. `limits` are the values that it can take at all.
    """

    def describe(name: str, observer: type[Any]) -> PluginMetric:
        if direction not in get_args(Direction):
            raise PluginError(
                f"its direction is {direction!r}, and the directions are {', '.join(get_args(Direction))}"
            )
        if not callable(getattr(observer, "fields", None)):
            raise PluginError("it is no fedfore.api.Observer")
        description = (observer.__doc__ or "").strip().partition("\n")[0]
        return PluginMetric(Metric(name, unit, direction, title, description, limits), observer)

    return lambda observer: marked("metric", observer, describe)


def figure(*, title: str) -> Callable[[Drawing], Drawing]:
    """Declare a function as a figure, whose name is the function's; the first line of its docstring is its caption.

    It is called as `(table, lines)` and returns a `matplotlib.figure.Figure`. `table` has a row a cell, with every
    field of the record, `train.*` and `params.*`; `lines("rounds")`, or "layers" or "diagnostics", has the lines that
    lie beside the records, with the `cell_id` of each.
    """
    return lambda draw: marked("figure", draw, lambda name, bordered: PluginFigure(title, bordered))

"""How a point is drawn: its seeds as dots, its mean as a mark that is hollow where it is uncertified, its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation

from fedfore.plots.seeds import Seeds
from fedfore.records.metrics import METRICS

_FARTHEST = 1.5
"""How many spans of seeds and means an interval may stand out of them before it is cut at the axis' end."""
_PAD = 0.05
_ASIDE = 2.6
"""How far beside the mean the dots of seeds stand, in points."""


def draw_seeds(
    panel: Axes, place: float, shown: Seeds, style: Mapping[str, Any], *, upright: bool = False, size: float = 4.0
) -> None:
    """Draw a point at a place on the axis of rows, or upright on the x axis; values keep their unit."""
    colour = style["color"]

    def draw(values: Iterable[float], **look: Any) -> None:
        along = list(values)
        at = [place] * len(along)
        panel.plot(*((at, along) if upright else (along, at)), color=colour, **look)

    if len(shown.values) > 1:
        inches = (_ASIDE / 72, 0.0) if upright else (0.0, -_ASIDE / 72)
        aside = panel.transData + ScaledTranslation(*inches, panel.figure.dpi_scale_trans)
        draw(
            shown.values, linestyle="", marker="o", markersize=2.2, alpha=0.6, markeredgewidth=0, transform=aside,
            zorder=2,
        )  # fmt: skip
    if shown.interval:
        draw(
            shown.interval, linewidth=1.0, marker="_" if upright else "|", markersize=3.0, solid_capstyle="butt",
            zorder=3,
        )  # fmt: skip
    draw(
        [shown.estimate.mean], linestyle="", marker=style["marker"], markersize=size, zorder=4,
        markerfacecolor="white" if shown.withheld else colour, markeredgecolor=colour, markeredgewidth=0.9,
    )  # fmt: skip


def limits(shown: Iterable[Seeds], *also: float) -> tuple[float, float]:
    """Return ends of a linear axis that hold all seeds, means and `also`, and intervals that are not too long."""
    known = list(shown)
    near = [*also, *(value for one in known for value in (*one.values, one.estimate.mean))]
    low, high = min(near), max(near)
    span = (high - low) or max(abs(high), 1e-12) * 0.1
    ends = [end for one in known for end in one.interval or ()]
    low = max(min([low, *ends]), low - _FARTHEST * span)
    high = min(max([high, *ends]), high + _FARTHEST * span)
    pad = _PAD * (high - low or span)
    return low - pad, high + pad


def bounded(metric: str, ends: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis, inside of 0 and 1 for a fraction."""
    if METRICS[metric].unit != "fraction":
        return ends
    return max(0.0, ends[0]), min(1.0, ends[1])

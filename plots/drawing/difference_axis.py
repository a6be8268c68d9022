"""The axis that differences of one metric lie on: its unit, its better side, how far it goes, and values as words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fedfore.judgement.estimates import LEVEL
from fedfore.judgement.judging import Judged
from fedfore.judgement.sides import is_metered, is_percent
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.wording import MINUS, human_bytes, human_count
from fedfore.records.metrics import METRICS

_FARTHEST = 2.0
"""How much farther than the farthest dot, mean or margin an interval is shown before it is cut."""
_MOST_TICKS = 6


@dataclass(frozen=True)
class DifferenceAxis:
    """What comparisons in one metric are drawn along: differences, accuracies in points, or ratios on a log scale."""

    metric: str
    ratio: bool

    @property
    def nothing(self) -> float:
        """Where both sides are equal."""
        return 1.0 if self.ratio else 0.0

    @property
    def label(self) -> str:
        """The label, with unit and better side."""
        row = METRICS[self.metric]
        unit = "log scale" if self.ratio else "points" if is_percent(self.metric) else row.unit
        side = {"higher": ", better to the right", "lower": ", better to the left"}.get(row.direction, "")
        return f"{row.label}, {'ratio' if self.ratio else 'difference'} ({unit}){side}"

    def fits(self, one: Judged) -> bool:
        """Return whether a comparison belongs on the axis."""
        return one.contrast.metric == self.metric and (one.contrast.compare == "ratio") == self.ratio

    def seeds(self, one: Judged) -> list[float]:
        """Return where the seeds of a comparison lie, none where they are not paired."""
        if one.difference is None:
            return []
        return [math.exp(value) if self.ratio else self._shown(value) for value in one.difference.values]

    def mean(self, one: Judged) -> float:
        """Return where the mean of a comparison lies."""
        return self._shown(one.value)

    def interval(self, one: Judged, *, stated: bool) -> tuple[float, float] | None:
        """Return the ends of a comparison's interval: at its family's step level where it was stated, else at 95%.

        None where there are too few pairs, or no chance in them.
        """
        if one.difference is None or one.difference.n < LEAST_FOR_AN_INTERVAL or is_metered(self.metric):
            return None
        low, high = one.interval(None if stated else LEVEL)
        return self._shown(low), self._shown(high)

    def margin(self, one: Judged) -> tuple[float, float] | None:
        """Return the ends of a comparison's band of equivalence."""
        width = one.contrast.margin
        if width is None:
            return None
        return (1 / (1 + width), 1 + width) if self.ratio else (-self._shown(width), self._shown(width))

    def text(self, value: float) -> str:
        """Return a place on the axis as words: "+2.5", "0.54x"."""
        if self.ratio:
            return f"{value:.3g}\N{MULTIPLICATION SIGN}"
        human = {"bytes": human_bytes, "FLOPs": human_count}.get(METRICS[self.metric].unit)
        digits = human(abs(value)) if human else f"{abs(value):.1f}" if is_percent(self.metric) else f"{abs(value):.3g}"
        return f"{MINUS if value < 0 else '+'}{digits}"

    def limit(self, panel: Axes, shown: Sequence[Judged], *, stated: bool) -> None:
        """Set a panel's limits around all dots and margins; of intervals that go much farther a part."""
        tested = [one for one in shown if not one.reason and one.difference is not None]
        near = [self.nothing, *(self.mean(one) for one in tested)]
        near += [place for one in tested for place in self.seeds(one)]
        near += [end for one in shown for end in self.margin(one) or ()]
        ends = [end for one in tested for end in self.interval(one, stated=stated) or ()]
        moved = [self._moved(place) for place in near]
        farthest = _FARTHEST * max(map(abs, moved)) or 1.0
        inside = [*moved, *(max(-farthest, min(farthest, self._moved(end))) for end in ends)]
        low, high = min(inside), max(inside)
        pad = 0.06 * (high - low) or farthest / 2
        if self.ratio:
            panel.set_xscale("log")
            panel.set_xlim(math.exp(low - pad), math.exp(high + pad))
            panel.xaxis.set_major_locator(FixedLocator(_ratio_ticks(*panel.get_xlim())))
            panel.xaxis.set_minor_locator(NullLocator())
        else:
            panel.set_xlim(low - pad, high + pad)
            panel.xaxis.set_major_locator(MaxNLocator(_MOST_TICKS, steps=[1, 2, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: self._tick(value)))

    def _tick(self, value: float) -> str:
        if self.ratio or METRICS[self.metric].unit in ("bytes", "FLOPs"):
            return self.text(value) if self.ratio or value else "0"
        return f"{value:+g}".replace("-", MINUS) if value else "0"

    def _shown(self, value: float) -> float:
        return 100 * value if is_percent(self.metric) and not self.ratio else value

    def _moved(self, place: float) -> float:
        return math.log(place) if self.ratio else place


def _ratio_ticks(low: float, high: float) -> list[float]:
    """Return round ratios inside the limits, 1 among them, `_MOST_TICKS` at most."""
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [digit * 10.0**power for power in range(-6, 7) for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= _MOST_TICKS:
            break
    return inside if len(inside) > 1 else [low * (high / low) ** share for share in (0.1, 0.9)]

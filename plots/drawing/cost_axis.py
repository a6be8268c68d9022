"""Axes of what training costs: labels, round ticks on logarithmic scales, and values as words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fedfore.plots.drawing.ticks import round_ticks
from fedfore.plots.wording import human_bytes, human_count
from fedfore.records.metrics import METRICS

_PREFERRED = (
    (1,),
    (1, 10, 100),
    (1, 3, 10, 30, 100, 300),
    (1, 2, 5, 10, 20, 50, 100, 200, 500),
    (1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700),
)
"""Digits of ticks within a power of the base, the coarsest first."""


@dataclass(frozen=True)
class CostAxis:
    """A cost that accuracy is drawn against: how it is labelled, written, and whether its axis is logarithmic.

    `base` is the power in whose steps its units go: 1,000, or 1,024 for bytes.
    """

    label: str
    write: Callable[[float], str] = "{:g}".format
    log: bool = True
    base: float = 1000.0

    def limit(self, panel: Axes, low: float, high: float, most_ticks: int = 4) -> None:
        """Set a panel's x axis to hold low to high with some room, its ticks round and at most that many."""
        if not self.log:
            pad = 0.04 * (high - low or 1.0)
            panel.set_xlim(low - pad, high + pad)
            panel.xaxis.set_major_locator(MaxNLocator(most_ticks, steps=[1, 2, 5, 10]))
            return
        room = max((high / low) ** 0.08, 1.12)
        panel.set_xscale("log")
        panel.set_xlim(low / room, high * room)
        panel.xaxis.set_major_locator(FixedLocator(self.ticks(low / room, high * room, most_ticks)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: self.write(value)))
        panel.xaxis.set_minor_locator(NullLocator())

    def ticks(self, low: float, high: float, most: int) -> list[float]:
        """Return round values between low and high, not at their very ends, thinned to `most`."""
        inside = round_ticks(low * 1.02, high / 1.02, _PREFERRED, self.base)
        return inside[:: -(-len(inside) // most)] if inside else [math.sqrt(low * high)]


PEAK_MEMORY = CostAxis(METRICS["peak_device_bytes"].label, human_bytes, base=1024.0)
DEVICE_FLOPS = CostAxis("Device FLOPs", human_count)
TOTAL_BYTES = CostAxis("Total bytes", human_bytes, base=1024.0)
ROUNDS = CostAxis("Rounds", log=False)
DATA_PASSES = CostAxis(METRICS["data_passes"].label, log=False)

"""One unit for all numbers of a column, with as many decimals as tell the smallest apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fedfore.plots.wording import MINUS, UNKNOWN

_BYTES = (1024, ("B", "KiB", "MiB", "GiB", "TiB"))
_PREFIXES = (1000, ("", "k", "M", "G", "T", "P", "E"))
_WORDS = ("operations", "parameters")
_COUNTED = ("FLOPs", "MACs", *_WORDS)
"""Units that get a prefix, which stands apart from a word."""
_MOST_DECIMALS = {True: 3, False: 6}
"""By whether there is a smaller unit to take instead."""


@dataclass(frozen=True)
class Unit:
    """A unit's name, its size in the unit that values are stored in, and the decimals that are written."""

    name: str
    size: float
    decimals: int

    def text(self, value: float) -> str:
        """Return a stored value in this unit; what is counted and would read as 0, but is not, as below the least."""
        if value != value:
            return UNKNOWN
        text = f"{value / self.size:,.{self.decimals}f}"
        if float(text.replace(",", "")) == 0:
            return f"<{10.0**-self.decimals:.{self.decimals}f}" if value > 0 and self.size >= 1 else text.lstrip("-")
        return text.replace("-", MINUS)


PERCENT = Unit("%", 0.01, 1)


def one_unit(values: Iterable[float], stored: str, decimals: int | None = None) -> Unit:
    """Return the unit for values that are stored in the unit `stored`: that of the middle one on a log scale.

    Without `decimals` the middle value has three digits at least, the smallest two, and whole numbers none behind the
    point. NaN and what is not positive counts for nothing.
    """
    known = [float(value) for value in values if value > 0]
    base, names = _BYTES if stored == "bytes" else _PREFIXES if stored in _COUNTED else (1000, ("",))
    middle = math.exp(math.fsum(map(math.log, known)) / len(known)) if known else 1.0
    power = max(0, min(int(math.log(middle, base) + 1e-9), len(names) - 1))
    size = float(base**power)
    if decimals is None:
        scaled = [value / size for value in known]
        is_whole = all(value == round(value) for value in scaled)
        wanted = 0 if is_whole else max(_decimals(middle / size, 3), _decimals(min(scaled), 2))
        decimals = min(wanted, _MOST_DECIMALS[len(names) > 1])
    apart = " " if names[power] and stored in _WORDS else ""
    return Unit(names[power] if stored == "bytes" else f"{names[power]}{apart}{stored}", size, decimals)


def _decimals(value: float, digits: int) -> int:
    """Return how many decimals give a value that many digits."""
    return max(0, digits - 1 - math.floor(math.log10(value)))


def in_one_unit(values: Iterable[float], stored: str) -> tuple[str, list[str]]:
    """Return the unit for a column of values (see `one_unit`) and their texts in it."""
    column = list(values)
    unit = one_unit(column, stored)
    return unit.name, [unit.text(value) for value in column]

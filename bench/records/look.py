"""How a method asks to be drawn. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Marker = Literal["o", "s", "^", "v", "<", ">", "D", "d", "p", "P", "h", "H", "*", "X", "8"]
Line = Literal["solid", "dotted", "dashdot"]
"""Dashes are kept for controls."""
COLOUR = re.compile("#[0-9A-Fa-f]{6}")
MARKERS = get_args(Marker)


@dataclass(frozen=True)
class Look:
    """A method's look in figures; what is None the figures choose.

    colour: `#rrggbb`. marker: matplotlib's letter of a filled one. Raises ValueError for anything else.
    """

    colour: str | None = None
    marker: Marker | None = None
    line: Line | None = None

    def __post_init__(self) -> None:
        colour: object = self.colour
        if colour is not None and not (isinstance(colour, str) and COLOUR.fullmatch(colour)):
            raise ValueError(f'the look\'s colour {colour!r} is not written as "#rrggbb"')
        for name, value, known in (("marker", self.marker, MARKERS), ("line", self.line, get_args(Line))):
            if value is not None and value not in known:
                raise ValueError(f"the look's {name} {value!r} is none of {', '.join(known)}")

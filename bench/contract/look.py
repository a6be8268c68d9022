"""How a method asks to be drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Marker = Literal["o", "s", "^", "v", "<", ">", "D", "d", "p", "P", "h", "H", "*", "X", "8"]
Line = Literal["solid", "dotted", "dashdot"]
"""Dashes are kept for controls."""


@dataclass(frozen=True)
class Look:
    """A method's look in figures; what is None the figures choose.

    colour: `#rrggbb`. marker: matplotlib's letter of a filled one. Raises ValueError for anything else.
    """

    colour: str | None = None
    marker: Marker | None = None
    line: Line | None = None

    def __post_init__(self) -> None:
        if self.colour is not None and not re.fullmatch("#[0-9A-Fa-f]{6}", self.colour):
            raise ValueError(f'the look\'s colour {self.colour!r} is not written as "#rrggbb"')
        for name, value, known in (("marker", self.marker, get_args(Marker)), ("line", self.line, get_args(Line))):
            if value is not None and value not in known:
                raise ValueError(f"the look's {name} {value!r} is none of {', '.join(known)}")

"""How wide text is before it is drawn, and how it breaks into lines. Sizes in points, widths in inches."""

from __future__ import annotations

from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_NO_BREAK = "\N{NO-BREAK SPACE}"
_HINTING = 1.03
"""What rounding to pixels may add to a width."""


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide one line of text is."""
    font = FontProperties(family=["DejaVu Sans"], size=size, weight=weight)
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return _HINTING * float(points) / 72


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Return text in lines of at most that width, broken at spaces; a longer word has a line of its own."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def wrapped_name(name: str, width: float, size: float) -> list[str]:
    """Return a name of several settings in lines of at most that width, broken between settings where that can be."""
    held = ", ".join(
        part if text_width(part, size) > width else part.replace(" ", _NO_BREAK) for part in name.split(", ")
    )
    return [line.replace(_NO_BREAK, " ") for line in wrapped(held, width, size)]

"""The figures of a report, each drawn once and kept as SVG inside the page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedfore.plots.drawing.style import themed
from fedfore.plots.view import Planned

_LEADING = ("forest", "pareto", "curves")
"""How the names of the figures begin that are not folded away, in their order."""
MOST_OF_A_KIND = 12
"""Figures of one kind, such as the pages of curves, that a report draws."""
_TUNING = "tuning"
_MOST_WITHOUT_A_LEAD = 3


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it: `name` is its anchor and the name of its files, `source` a data URI of SVG."""

    name: str
    title: str
    caption: str
    alt_text: str
    source: str


@dataclass(frozen=True)
class Pictures:
    """The figures that are seen at once, those of tuning, and those that are folded away.

    `left_out` is a sentence on those that are not drawn, nothing where all are.
    """

    shown: tuple[Picture, ...]
    tuning: tuple[Picture, ...]
    more: tuple[Picture, ...]
    left_out: str = ""


def pictures(figures: Sequence[Planned]) -> Pictures:
    """Return figures in the page's order; where none of the leading ones is among them, the first few lead.

    Of a kind no more than `MOST_OF_A_KIND` are drawn.
    """
    drawn, left = _few(figures)
    kept = [_picture(planned) for planned in drawn]
    tuning = [one for one in kept if _is_called(one, _TUNING)]
    others = [one for one in kept if one not in tuning]
    shown = [one for kind in _LEADING for one in others if _is_called(one, kind)] or others[:_MOST_WITHOUT_A_LEAD]
    more = tuple(one for one in others if one not in shown)
    return Pictures(tuple(shown), tuple(tuning), more, _left_out(left))


def _few(figures: Sequence[Planned]) -> tuple[list[Planned], Counter[str]]:
    """Return the figures to draw, the first ones of each kind, and how many there are more of which kind."""
    counts, drawn = Counter[str](), []
    for planned in figures:
        kind = planned.name.partition("-")[0]
        counts[kind] += 1
        if counts[kind] <= MOST_OF_A_KIND:
            drawn.append(planned)
    return drawn, Counter({kind: count - MOST_OF_A_KIND for kind, count in counts.items() if count > MOST_OF_A_KIND})


def _left_out(left: Counter[str]) -> str:
    if not left:
        return ""
    what = ", ".join(f"{count} of {kind}" for kind, count in left.items())
    return (
        f"Not drawn here are {what}, beyond the first {MOST_OF_A_KIND} of a kind; "
        f"`fedfore plot RUN --only {','.join(left)}` draws all."
    )


def _is_called(picture: Picture, kind: str) -> bool:
    return f"{picture.name}-".startswith(f"{kind}-")


def _picture(planned: Planned) -> Picture:
    drawn = planned.draw()
    buffer = io.BytesIO()
    with themed():
        drawn.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(planned.name, planned.title, drawn.caption, drawn.alt_text, source)

"""Small labels beside points, each where it hides as little as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from fedfore.plots.drawing.texts import text_width

_SIZE = 6.0
_HEIGHT = 0.09
_MARKER = 0.06
_OFFS = (0.05, 0.14, 0.23, 0.32, 0.41)
"""Inches: the height of a label, the side of a marker, and how far above or below its point a label may stand."""


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point of a panel, in the units of its axes."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class _Box:
    """A rectangle in inches from a panel's lower left corner."""

    left: float
    bottom: float
    width: float
    height: float

    def overlap(self, other: _Box) -> float:
        """Return the area that two boxes share, in square inches."""
        across = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        along = min(self.bottom + self.height, other.bottom + other.height) - max(self.bottom, other.bottom)
        return max(across, 0.0) * max(along, 0.0)


def write_apart(panel: Axes, size: tuple[float, float], labels: Sequence[Label], points: Sequence[Label]) -> None:
    """Write labels beside their points, away from one another and from all points. `size`: the panel's, in inches.

    The panel's limits have to be final. A label takes the nearest corner that hides nothing, else one that hides no
    other label, as far as there are any, and the least of points; one that would hide an equal one is left to that.
    """
    marked = [_box(panel, size, one, -_MARKER / 2, -_MARKER / 2, _MARKER, _MARKER) for one in points]
    taken: list[_Box] = []
    frame = _Box(0.0, 0.0, *size)
    written: dict[str, list[_Box]] = {}
    for one in labels:
        width = text_width(one.text, _SIZE)
        corners = [(x, y) for off in _OFFS for x in (_OFFS[0], -_OFFS[0] - width) for y in (-off - _HEIGHT, off)]
        boxes = [_box(panel, size, one, x, y, width, _HEIGHT) for x, y in corners]
        labels_hidden = [_hidden(box, taken) for box in boxes]
        others_hidden = [_hidden(box, marked) + width * _HEIGHT - box.overlap(frame) for box in boxes]
        best = min(range(len(corners)), key=lambda place: (labels_hidden[place], others_hidden[place]))
        equal = written.setdefault(one.text, [])
        if any(boxes[best].overlap(other) for other in equal):
            continue
        equal.append(boxes[best])
        taken.append(boxes[best])
        x, y = corners[best]
        panel.annotate(
            one.text, (one.x, one.y), xytext=(72 * x, 72 * y), textcoords="offset points", fontsize=_SIZE,
            color="#333333", va="bottom", zorder=6,
        )  # fmt: skip


def _hidden(box: _Box, others: Sequence[_Box]) -> float:
    return round(sum(box.overlap(other) for other in others), 6)


def _box(
    panel: Axes, size: tuple[float, float], point: Label, right: float, up: float, width: float, height: float
) -> _Box:
    """Return a box of that size, moved in inches from a point of the panel."""
    x, y = (panel.transScale + panel.transLimits).transform((point.x, point.y))
    return _Box(x * size[0] + right, y * size[1] + up, width, height)

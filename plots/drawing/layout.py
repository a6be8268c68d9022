"""The frame of a figure: a grid of panels, the legend under them, the footnote under that. Sizes in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fedfore.plots.drawing.style import COLUMN_WIDTH
from fedfore.plots.drawing.texts import text_width, wrapped, wrapped_name

_MESSAGE_SIZE, _MESSAGE_ROW = 9.0, 0.16
_SUBTITLE_SIZE, _SUBTITLE_ROW = 7.5, 0.135
_LABEL_SIZE = 8.0
_LEGEND_SIZE = 7.0
_NOTE_SIZE = 6.5
_LEGEND_ROW = 0.148
_NOTE_ROW = 0.125
_GAP = 0.08
_EDGE = 0.05
_HANDLE_WIDTH = 0.34
_COLUMN_GAP = 0.13
_GREY = "#444444"
_NARROWEST_PANEL = 2.1
_WIDEST_PANEL = 4.5


@dataclass(frozen=True)
class Heading:
    """What stands above the panels: what the figure says or shows, and under it, smaller, of what."""

    message: str
    subtitle: str = ""


def panels(count: int, width: float, height: float, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure of up to that width with `count` panels, `height` high, as many side by side as stay readable.

    `columns` is how many that is, if not the usual.
    """
    columns = min(count, columns or max(1, int(width / _NARROWEST_PANEL)))
    rows = -(-count // columns)
    figure = Figure(figsize=(min(width, columns * _WIDEST_PANEL), rows * height), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for unused in grid[count:]:
        unused.remove()
    return figure, list(grid[:count])


def is_narrow(width: float) -> bool:
    """Return whether a figure of that width has no room for two panels with row labels beside each other."""
    return width < COLUMN_WIDTH + 1.0


def has_below(axes: Sequence[Axes], panel: Axes) -> bool:
    """Return whether another of a grid's panels stands under this one."""
    place = panel.get_subplotspec()
    assert place is not None, "every panel comes from a grid"
    return axes.index(panel) + place.get_gridspec().ncols < len(axes)


def label_edges(axes: Sequence[Axes], x: str, y: str) -> None:
    """Label the y axis of the first column's panels and the x axis of those with nothing below."""
    for panel in axes:
        place = panel.get_subplotspec()
        assert place is not None, "every panel comes from a grid"
        if place.is_first_col():
            panel.set_ylabel(y)
        if not has_below(axes, panel):
            panel.set_xlabel(x)


def frame(figure: Figure, heading: Heading | None, handles: Sequence[Line2D | Patch], notes: Sequence[str]) -> None:
    """Add the heading above the panels, the legend and the notes below; the figure grows by what they need."""
    width, height = figure.get_size_inches()
    room = width - 2 * _EDGE
    names = [str(handle.get_label()) for handle in handles]
    longest = max((text_width(name, _LEGEND_SIZE) for name in names), default=0.0)
    columns = max(1, min(len(names), int((room + _COLUMN_GAP) / (_HANDLE_WIDTH + longest + _COLUMN_GAP))))
    labels = ["\n".join(wrapped_name(name, room - _HANDLE_WIDTH, _LEGEND_SIZE)) for name in names]
    rows = -(-len(names) // columns) + sum(label.count("\n") for label in labels)  # what is wrapped is in one column
    lines = [line for note in notes for line in wrapped(note, room, _NOTE_SIZE)]
    message = wrapped(heading.message, room, _MESSAGE_SIZE, "bold") if heading else []
    subtitle = wrapped(heading.subtitle, room, _SUBTITLE_SIZE) if heading and heading.subtitle else []
    above = _MESSAGE_ROW * len(message) + _SUBTITLE_ROW * len(subtitle) + (_GAP if heading else 0.0)
    legend = _LEGEND_ROW * rows + _GAP if names else 0.0
    below = legend + (_NOTE_ROW * len(lines) + _GAP if lines else 0.0)
    height += below + above
    figure.set_size_inches(width, height)
    if figure.get_supylabel():
        figure.supylabel(figure.get_supylabel(), y=(below + height - above) / 2 / height, fontsize=_LABEL_SIZE)
    figure.set_layout_engine("constrained", rect=(0, below / height, 1, 1 - (below + above) / height))
    if names:
        figure.legend(
            handles=list(handles),
            labels=labels,
            loc="upper center",
            bbox_to_anchor=(0.5, below / height),
            ncols=columns,
            frameon=False,
            borderpad=0,
            borderaxespad=0.2,
            columnspacing=1.2,
            handlelength=2.6,
        )

    def write(top: float, text: Sequence[str], **font: Any) -> None:
        if text:
            figure.text(_EDGE / width, top / height, "\n".join(text), va="top", **font)

    write(height - _EDGE, message, fontsize=_MESSAGE_SIZE, fontweight="bold")
    write(height - _EDGE - _MESSAGE_ROW * len(message), subtitle, fontsize=_SUBTITLE_SIZE, color=_GREY)
    write(below - legend, lines, fontsize=_NOTE_SIZE, color=_GREY, linespacing=1.25)

"""Rows with their names on the left, and panels side by side that share them. Sizes in inches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedfore.plots.drawing.layout import is_narrow
from fedfore.plots.drawing.texts import text_width, wrapped, wrapped_name

_NAME_LINE = 0.115
_LABEL_SIZE = 8.0
_WIDEST_PANEL = 3.2
_NARROWEST_PANEL = 0.8
_AROUND_PANEL = 0.12
_BLOCK_MARGIN = 0.45
"""What the title and the ticks of a block's panels take."""
_LEAST_BLOCK = 0.3
"""The height of the rows of a block, few as they may be."""
_LABEL_LINE = 0.14
_HEADING_GAP = 0.05
_TICK = 0.42


Values = NDArray[np.float64]


@dataclass(frozen=True)
class Name:
    """The name of a row; a heading stands over the rows of a group, and nothing is drawn in its own."""

    text: str
    is_heading: bool = False


@dataclass(frozen=True)
class Block:
    """Panels side by side, and the y of each of their rows."""

    panels: tuple[Axes, ...]
    places: Values


@dataclass(frozen=True)
class Rows:
    """A figure of rows, its blocks one above another; `panel_width` is about that of each panel."""

    figure: Figure
    blocks: tuple[Block, ...]
    panel_width: float

    @property
    def most_ticks(self) -> int:
        """How many ticks a panel has room for."""
        return max(2, int(self.panel_width / _TICK))


def fits(columns: int, width: float) -> bool:
    """Return whether that many panels stand side by side in a figure of rows."""
    return (width - _name_room(width)) / columns - _AROUND_PANEL >= _NARROWEST_PANEL


def _name_room(width: float) -> float:
    """Return what names may take of a figure's width."""
    return 0.4 * width if is_narrow(width) else 0.34 * width


def rows_of_panels(
    blocks: Sequence[Sequence[Name]],
    labels: Sequence[Sequence[str]],
    width: float,
    *,
    pitches: Sequence[float] = (0.17,),
    share_x: bool = True,
) -> Rows:
    """Return a figure up to that wide, whose blocks have a panel a label, with a row a name, in lines where it is long.

    `labels` are those of each block's x axes; where all blocks have the same only the last is labelled, and panels
    above one another share them but for `share_x`.
    `pitches` are the least heights of rows, of each block or of all.
    """
    columns, share = len(labels[0]), all(own == labels[0] for own in labels)
    size = 6.5 if is_narrow(width) else 7.0
    lines = [[wrapped_name(name.text, _name_room(width), size) for name in names] for names in blocks]
    heights = [
        np.array([max(pitch, _NAME_LINE * len(text) + 0.05) for text in own])
        for own, pitch in zip(lines, itertools.cycle(pitches))
    ]
    heights = [high * max(1.0, _LEAST_BLOCK / float(high.sum())) for high in heights]
    before = [np.array([_HEADING_GAP if name.is_heading else 0.0 for name in names]) for names in blocks]
    totals = [float((one + gap).sum()) for one, gap in zip(heights, before, strict=True)]
    longest = 0.15 + max(text_width(line, size, "bold") for own in lines for text in own for line in text)
    own_width = min(width, longest + columns * (_WIDEST_PANEL + _AROUND_PANEL))
    panel_width = (own_width - longest) / columns - _AROUND_PANEL
    below = [[wrapped(label, panel_width, _LABEL_SIZE) for label in own] for own in labels]
    below = [[[] for _ in own] if share and own is not below[-1] else own for own in below]
    height = sum(totals) + _BLOCK_MARGIN * len(blocks) + _LABEL_LINE * sum(max(map(len, own)) for own in below)
    figure = Figure(figsize=(own_width, height), layout="constrained")
    grid = figure.subplots(
        len(blocks),
        columns,
        sharey="row",
        sharex="col" if share and share_x else "none",
        squeeze=False,
        height_ratios=totals,
    )
    made = []
    for panels, names, text, high, gap, total in zip(grid, blocks, lines, heights, before, totals, strict=True):
        places = np.cumsum(high + gap) - high / 2
        for panel in panels:
            panel.set_yticks(places, ["\n".join(one) for one in text], fontsize=size, linespacing=1.05)
            panel.set_ylim(total + 0.03, -0.03)
            panel.grid(axis="y", visible=False)
            panel.tick_params(labelbottom=True)
        for label, name in zip(panels[0].get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if name.is_heading else "normal")
        made.append(Block(tuple(panels), places))
    for panel, own in zip(grid.ravel(), itertools.chain.from_iterable(below), strict=True):
        panel.set_xlabel("\n".join(own), linespacing=1.1)
    return Rows(figure, tuple(made), panel_width)

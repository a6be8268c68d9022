"""Heat maps: tiles of one colour scale, with their numbers written in where there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from fedfore.plots.drawing.texts import wrapped
from fedfore.plots.drawing.ticks import round_ticks

Tiles = NDArray[np.float64]
Flags = NDArray[np.bool_]
_LUMINANCE = np.array([0.299, 0.587, 0.114])
_BLANK = "#F2F2F2"
_BAR_LABEL_SIZE, _BAR_LABEL_SHARE = 7.0, 0.8
"""Points, and the share of a figure's height that the label of a colour bar may take."""
_LOG_DIGITS = ((1,), (1, 3), (1, 2, 5))
"""Digits of the ticks of a logarithmic scale, the coarsest first."""
_LEAST_LOG_TICKS = 3


def heat_map(
    panel: Axes,
    values: Tiles,
    scale: tuple[Normalize, str],
    texts: Sequence[Sequence[str]] | None = None,
    *,
    plain: Flags | None = None,
    bold: Flags | None = None,
    size: float = 6.0,
) -> None:
    """Draw values [rows, columns] as tiles, NaN blank, with texts; `plain` ones say nothing and have no colour.

    `scale` are the norm and the name of the colours.
    """
    norm, colours = scale
    shades = colormaps[colours](norm(np.ma.masked_invalid(values)))
    shades[~np.isfinite(values)] = to_rgba(_BLANK)
    if plain is not None:
        shades[plain] = to_rgba(_BLANK)
    panel.imshow(shades, aspect="auto", interpolation="nearest")
    for row, column in np.ndindex(*values.shape) if texts is not None else ():
        dark = float(shades[row, column, :3] @ _LUMINANCE) < 0.5
        is_plain = plain is not None and bool(plain[row, column])
        panel.text(
            column, row, (texts or [])[row][column], ha="center", va="center", fontsize=size, linespacing=1.0,
            color="white" if dark else "#777777" if is_plain else "#1A1A1A",
            fontweight="bold" if bold is not None and bold[row, column] else "normal",
        )  # fmt: skip
    panel.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    panel.grid(visible=False)
    panel.grid(which="minor", color="white", linewidth=0.8)
    panel.tick_params(which="minor", length=0)
    panel.tick_params(length=0)
    for side in panel.spines.values():
        side.set_visible(False)


def colour_bar(
    figure: Figure, panels: Sequence[Axes], norm: Normalize, colours: str, label: str, write: Callable[[float], str]
) -> None:
    """Add the bar of a colour scale to the right of panels."""
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=list(panels), fraction=0.05, pad=0.02, aspect=28)
    room = _BAR_LABEL_SHARE * figure.get_size_inches()[1]
    bar.set_label("\n".join(wrapped(label, room, _BAR_LABEL_SIZE)), fontsize=_BAR_LABEL_SIZE)
    bar.ax.tick_params(labelsize=6, length=2)
    if isinstance(norm, LogNorm):
        assert norm.vmin and norm.vmax, "a scale of colours has its ends"
        bar.set_ticks(round_ticks(norm.vmin, norm.vmax, _LOG_DIGITS, least=_LEAST_LOG_TICKS))
        bar.minorticks_off()
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    bar.outline.set_visible(False)

"""What a figure shows, read back from its artists, and whether anything in it overlaps or is cut off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fedfore.plots.drawing.style import themed
from fedfore.plots.figures import DPI, plan_figures
from fedfore.plots.study import Study
from fedfore.plots.view import DEFAULTS, Drawn, Options


def draw_figures(study: Study, options: Options = DEFAULTS) -> Iterator[tuple[str, Drawn]]:
    """Draw every figure of a study; each with its name."""
    for one in plan_figures(study, options):
        yield one.name, one.draw()


@dataclass
class Shown:
    """A point as it is drawn."""

    mean: float = math.nan
    interval: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    hollow: bool = False


def points(panel: Axes, *, upright: bool = False) -> dict[float, Shown]:
    """Return the points of a panel by their place: on the y axis of rows, or upright on the x axis."""
    found: dict[float, Shown] = {}
    for line in panel.lines:
        along, at = (_numbers(line.get_ydata()), _numbers(line.get_xdata()))
        along, at = (along, at) if upright else (at, along)
        if len(set(at)) != 1 or line.get_marker() in ("None", ""):
            continue
        own = found.setdefault(round(at[0], 6), Shown())
        if line.get_marker() in ("|", "_"):
            own.interval = (along[0], along[1])
        elif _is_seeds(line):
            own.seeds = along
        else:
            own.mean, own.hollow = along[0], line.get_markerfacecolor() == "white"
    return found


def rows(panel: Axes) -> dict[str, Shown]:
    """Return the points of a panel of rows by the rows' names."""
    places = {round(float(place), 6): name for place, name in zip(panel.get_yticks(), names(panel), strict=True)}
    return {places[place]: own for place, own in points(panel).items() if place in places}


def names(panel: Axes) -> list[str]:
    """Return the names of a panel's rows, one line each; they stand beside the first of the panels that share them."""
    sharing = [other for other in panel.get_figure().axes if other in panel.get_shared_y_axes().get_siblings(panel)]
    return [" ".join(label.get_text().split()) for label in (sharing or [panel])[0].get_yticklabels()]


def notes(figure: Figure) -> str:
    """Return all that is written around the panels, on one line."""
    return " ".join(" ".join(text.get_text().split()) for text in figure.texts)


def legend(figure: Figure) -> list[str]:
    """Return the names in a figure's legend."""
    return [text.get_text() for found in figure.legends for text in found.get_texts()]


def _is_seeds(line: Line2D) -> bool:
    return line.get_markersize() < 3 and line.get_linestyle() == "None"


def _numbers(values: object) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values, dtype=float))


def assert_readable(figure: Figure, name: str) -> None:
    """Assert that no two texts of a written figure overlap, and that none of them, and no panel, is cut off or tiny.

    Marks of one character may coincide, as what they mark does.
    """
    figure.set_dpi(DPI)
    with themed():
        figure.draw_without_rendering()
    texts = [(one.get_text(), box) for one in _texts(figure) if (box := _box(one)) is not None]
    for text, box in texts:
        assert box.x0 > -1 and box.x1 < figure.bbox.x1 + 1, f"{name}: {text!r} is cut off at a side"
        assert box.y0 > -1 and box.y1 < figure.bbox.y1 + 1, f"{name}: {text!r} is cut off above or below"
    for (one, box), (other, second) in itertools.combinations(texts, 2):
        same_mark = one == other and len(one) == 1
        assert same_mark or not box.overlaps(second), f"{name}: {one!r} and {other!r} overlap"
    for panel in figure.axes:
        size = panel.get_window_extent()
        assert panel.get_label() == "<colorbar>" or min(size.width, size.height) > 0.2 * figure.dpi, (
            f"{name}: a tiny panel"
        )


def _texts(figure: Figure) -> list[Text]:
    found: list[Text] = [*figure.texts, *(text for own in figure.legends for text in own.get_texts())]
    for panel in figure.axes:
        found += [panel.xaxis.label, panel.yaxis.label, panel.title, panel._left_title, *panel.texts]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high:
                    found += [tick.label1] if tick.label1.get_visible() else []
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def _box(text: Text) -> Bbox | None:
    """Return what a text covers but for a pixel at each side, where its letters end."""
    box = text.get_window_extent()
    return box.padded(-1.2) if box.width > 3 and box.height > 3 else None

"""What one set of figures shows, how a figure is known before it is drawn, and how a series looks in all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedfore.errors import ConfigError
from fedfore.plots.drawing.layout import Heading
from fedfore.plots.drawing.style import FULL_WIDTH, themed
from fedfore.plots.looks import CONTROL_STYLE, LINE_STYLES
from fedfore.plots.naming import Series
from fedfore.plots.study import Study
from fedfore.plots.wording import DAGGER, DOUBLE_DAGGER, OVERSPENT

WIDTHS = (1, 100)
"""The least and the most inches of a figure's width."""
_FARTHEST_SHADE = 0.55
"""The share of white or black that the variants of a colour approach."""
_LUMINANCE = (0.299, 0.587, 0.114)
_CONTROL_GREY, _CONTROL_SHARE = "#8C8C8C", 0.6
_VARIANT_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")


@dataclass(frozen=True)
class Options:
    """How figures are drawn: `width` in inches, `metric` in place of the accuracy, whether titles stand in them.

    `captions`: whether a caption is written beside each of them. Raises ConfigError for a width beyond `WIDTHS`.
    """

    width: float = FULL_WIDTH
    metric: str | None = None
    title: bool = True
    captions: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.width, int | float) and WIDTHS[0] <= self.width <= WIDTHS[1]):
            raise ConfigError(f"A figure is between {WIDTHS[0]} and {WIDTHS[1]} inches wide, and not {self.width}.")


DEFAULTS = Options()


@dataclass(frozen=True)
class Drawn:
    """A figure with what a reader needs beside it: a caption, and a text for who cannot see it."""

    caption: str
    alt_text: str
    figure: Figure


@dataclass(frozen=True)
class Planned:
    """A figure that the records hold data for, before it is drawn: `name` for files, `title` says what it shows."""

    name: str
    title: str
    content: Callable[[], Drawn]

    def draw(self) -> Drawn:
        """Draw the figure, whatever the user's settings are."""
        with themed():
            return self.content()


@dataclass(frozen=True)
class View:
    """The planned cells that a set of figures shows, and how it is drawn.

    `subject` says of what they are, by default their data sets and models.
    """

    study: Study
    cells: pd.DataFrame
    options: Options = DEFAULTS
    subject: str = ""

    @property
    def width(self) -> float:
        """The width of figures in inches."""
        return self.options.width

    @property
    def metric(self) -> str:
        """The metric that figures of accuracy show."""
        return self.options.metric or self.study.accuracy

    @property
    def title(self) -> str:
        """The data sets and the models of the view, unless its subject is something else."""
        return self.subject or ", ".join(_listed(self._names(name)) for name in ("dataset", "model"))

    @property
    def slug(self) -> str:
        """What the view shows as a part of file names."""
        title = self.subject or "-".join([*self._names("dataset"), *self._names("model")])
        return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")

    def _names(self, column: str) -> list[str]:
        return list(dict.fromkeys(map(str, self.cells[column])))

    def heading(self, message: str = "") -> Heading | None:
        """Return what stands above the panels: a message, if there is one, over what is shown; None for no title."""
        if not self.options.title:
            return None
        return Heading(message, self.title) if message else Heading(self.title)

    def planned(self, kind: str, title: str, content: Callable[[], Drawn]) -> Planned:
        """Return a figure of the view, named by its kind and by what the view shows."""
        return Planned(f"{kind}-{self.slug}", f"{title}: {self.title}", content)

    @cached_property
    def series(self) -> list[Series]:
        """The series with a finished cell."""
        return self.study.series_of(self.cells)

    @cached_property
    def alphas(self) -> list[str]:
        """The labels of the panels."""
        return list(self.cells["alpha"].cat.remove_unused_categories().cat.categories)

    def named(self, series: Series, shown: pd.DataFrame) -> str:
        """Return the legend's name of a series, marked where a shown record is stale or trained past its budget."""
        return " ".join(
            [series.label, *marks(shown.loc[shown["series"] == series.label, ["ok", "stale", "overspent"]])]
        )


def marks(shown: pd.DataFrame) -> list[str]:
    """Return the marks of these planned cells: that a record of theirs is stale, or trained past its budget."""
    own = shown[shown["ok"]]
    return [mark for mark, name in {DAGGER: "stale", OVERSPENT: "overspent"}.items() if own[name].any()]


def _listed(names: Sequence[str]) -> str:
    """Return names as a list in words: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def line_style(series: Series) -> dict[str, Any]:
    """Return a series' line properties; variants of a look differ in marker and line style, then in lightness.

    A dark colour gets paler and a light one darker, so that all can be seen on white. A control is greyish and dashed.
    """
    own = series.look
    paler, dashes = divmod(own.line + series.variant, len(LINE_STYLES))
    luminance = sum(weight * part for weight, part in zip(_LUMINANCE, to_rgb(own.colour), strict=True))
    colour = _mixed(own.colour, "white" if luminance < 0.5 else "black", _FARTHEST_SHADE * (1 - 0.5**paler))
    markers = [own.marker, *(marker for marker in _VARIANT_MARKERS if marker != own.marker)]
    return {
        "color": _mixed(colour, _CONTROL_GREY, _CONTROL_SHARE) if series.control else colour,
        "marker": markers[series.variant % len(markers)],
        "linestyle": CONTROL_STYLE if series.control else LINE_STYLES[dashes],
    }


def _mixed(first: str, second: str, share: float) -> str:
    """Return a colour between two, that share of the way from the first."""
    pairs = zip(to_rgb(first), to_rgb(second), strict=True)
    red, green, blue = ((1 - share) * one + share * other for one, other in pairs)
    return to_hex((red, green, blue))


def handle(series: Series, name: str, *, marker: bool = True) -> Line2D:
    """Return the legend's sample of a series."""
    return Line2D([], [], **(line_style(series) | ({} if marker else {"marker": ""})), label=name)


def mark_withheld(panel: Axes, x: float | None, y: float) -> None:
    """Mark a point that is part of no comparison, or a line from the left edge where x is None."""
    place = panel.get_yaxis_transform() if x is None else "data"
    panel.annotate(DOUBLE_DAGGER, (x or 0.0, y), xycoords=place, xytext=(3, 2), textcoords="offset points", fontsize=7)


def percent_axis(axis: Axis) -> None:
    """Show accuracies, stored as fractions, in percent."""
    axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))

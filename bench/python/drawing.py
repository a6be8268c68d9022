"""Figures in Python: those of `fedfore plot`, one at a time. No torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from fedfore.errors import ConfigError
from fedfore.plots.drawing.style import FULL_WIDTH
from fedfore.plots.figures import chosen, drawable, plan_figures, png, saved
from fedfore.plots.view import Options
from fedfore.python.arguments import typed
from fedfore.python.results import Results, runs_of
from fedfore.records.store import write_atomically


@typed
def plot(
    run: str | Path | Results,
    figure: str = "",
    *,
    metric: str | None = None,
    width: float = FULL_WIDTH,
    title: bool = True,
    save: str | Path | None = None,
) -> Figure:
    """Return a figure of a run; `Results.figures` lists them.

    `figure` is its name, or the beginning of one up to a hyphen that says which it is. `metric` takes the place of the
    accuracy in figures of accuracy, `width` is in inches, `title` says whether the heading stands in it. A notebook
    shows the figure with what you change in it. No file is written but `save`, as PNG or PDF by its ending, and
    matplotlib's settings stay as they are.

    Raises ConfigError for a name that there is not or that means several figures, StoreError for a run of which no cell
    has ended well.
    """
    runs = runs_of(run)
    if len(runs) > 1:
        names = ", ".join(str(one.path) for one in runs)
        raise ConfigError(f"A figure is of one run, and these are {len(runs)}: {names}; give one of them.")
    planned = chosen(plan_figures(drawable(runs[0]), Options(width, metric, title=title)), [figure] if figure else [])
    if len(planned) != 1:
        raise ConfigError(f"Name one of the {len(planned)} figures: {', '.join(one.name for one in planned)}.")
    drawn = planned[0].draw()
    if save is not None:
        write_atomically(Path(save), saved(drawn, Path(save).suffix))
    vars(drawn.figure)["_repr_png_"] = partial(png, drawn)  # notebooks know by themselves the figures of pyplot alone
    return drawn.figure

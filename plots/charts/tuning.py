"""Tuning: validation accuracy over the learning rate, with what was chosen and whether it lies at an edge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from fedfore.judgement.choices import FIRST_KEY
from fedfore.plots.drawing.layout import frame, is_narrow, label_edges, panels
from fedfore.plots.drawing.texts import wrapped
from fedfore.plots.fields import field_label, field_name, value_label
from fedfore.plots.tuned import Tuned, tuned_series
from fedfore.plots.view import Drawn, Planned, View, percent_axis
from fedfore.records.choices import TRIALS, Trial

Others = tuple[tuple[str, object], ...]
"""The tuned keys of a trial beside the learning rate, with their values."""
_LAST = "tune2"
_PANEL_HEIGHT = 1.5
_CHOSEN = "#D55E00"
_ONE_LINE = "#333333"
_TICKS = 4
_MOST_SAID = 3
_PAD = 0.06


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of what was tuned, in a study that tuned learning rates."""
    tuned = [one for one in tuned_series(view.study) if FIRST_KEY in (one.choice.grid or {})]
    if tuned:
        yield view.planned("tuning", "Validation accuracy over the learning rate", partial(tuning, view, tuned))


def tuning(view: View, tuned: Sequence[Tuned]) -> Drawn:
    """Draw a panel a tuned series: a line a combination of the other tuned values, seeds as dots, the choice ringed."""
    columns = 2 if is_narrow(view.width) else 4
    figure, axes = panels(len(tuned), view.width, _PANEL_HEIGHT, columns)
    colours = _colours(tuned)
    for panel, one in zip(axes, tuned, strict=True):
        _draw(panel, one, colours)
        panel.set_title("\n".join(wrapped(one.label, view.width / columns - 0.3, 7.0)), fontsize=7)
    means = [trial.mean for one in tuned for trial in one.choice.trials]
    axes[0].set_ylim(min(means) - _PAD, max(means) + _PAD)
    percent_axis(axes[0].yaxis)
    label_edges(axes, "Learning rate", "")
    figure.supylabel("Validation accuracy (%)")
    notes = list(_notes(tuned))
    frame(figure, view.heading(_message(tuned)), list(_legend(tuned, colours)), notes)
    return Drawn(
        f"{_message(tuned)}. Validation accuracy of trials by their learning rate. {' '.join(notes)}",
        f"Validation accuracy over the learning rate for {', '.join(one.label for one in tuned)}.",
        figure,
    )


def _others(trial: Trial) -> Others:
    return tuple(sorted((key, value) for key, value in trial.values.items() if key != FIRST_KEY))


def _rate(trial: Trial) -> float:
    return float(trial.values[FIRST_KEY])


def _colours(tuned: Sequence[Tuned]) -> Mapping[Others, str]:
    """Return a colour for each combination of values beside the rate, from dark to light as they grow."""
    found = sorted({_others(trial) for one in tuned for trial in one.choice.trials})
    several = [others for others in found if others]
    colours = dict(zip(several, sns.color_palette("viridis", len(several) + 1).as_hex(), strict=False))
    return colours if len(several) == len(found) else {(): _ONE_LINE, **colours}


def _draw(panel: Axes, one: Tuned, colours: Mapping[Others, str]) -> None:
    trials = sorted(one.choice.trials, key=_rate)
    for stage in TRIALS:
        for others, colour in colours.items():
            own = [trial for trial in trials if trial.stage == stage and _others(trial) == others]
            _draw_line(panel, own, colour, is_last=stage == _LAST)
    rates = [_rate(trial) for trial in trials]
    panel.set_xscale("log")
    panel.set_xlim(min(rates) / 1.6, max(rates) * 1.6)
    panel.xaxis.set_major_locator(FixedLocator(sorted(set(rates))[:: -(-len(set(rates)) // _TICKS)]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    best = _best(one)
    if best is not None:
        panel.plot(
            [_rate(best)], [best.mean], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=_CHOSEN,
            markeredgewidth=1.2, zorder=5,
        )  # fmt: skip
    if one.choice.at_edge:
        panel.annotate("at an edge", (0.97, 0.88), xycoords="axes fraction", ha="right", fontsize=6.5, color=_CHOSEN)


def _draw_line(panel: Axes, trials: Sequence[Trial], colour: str, *, is_last: bool) -> None:
    """Draw trials of one stage: a line with open marks for the first step, filled ones for the whole budget."""
    x = [_rate(trial) for trial in trials]
    seeds = [(_rate(trial), accuracy) for trial in trials for accuracy in trial.accuracies if len(trial.accuracies) > 1]
    panel.plot(*zip(*seeds, strict=True), ".", markersize=2.2, color=colour, alpha=0.5, zorder=2) if seeds else None
    panel.plot(
        x, [trial.mean for trial in trials], marker="o", color=colour, markersize=3.6 if is_last else 3.0,
        linewidth=1.2 if is_last else 0.7, markerfacecolor=colour if is_last else "white", zorder=4 if is_last else 3,
    )  # fmt: skip
    failed = [trial for trial in trials if trial.failed]
    panel.plot(
        [_rate(trial) for trial in failed], [trial.mean for trial in failed], "x", color=colour, markersize=5, zorder=4
    )


def _best(one: Tuned) -> Trial | None:
    """Return the trial that was chosen: that of the last stage with the chosen values."""
    return next((trial for trial in reversed(one.choice.trials) if trial.values == one.choice.values), None)


def _legend(tuned: Sequence[Tuned], colours: Mapping[Others, str]) -> Iterator[Line2D]:
    for others, colour in colours.items():
        if others:
            label = ", ".join(
                field_label(key, value) or f"{field_name(key)} {value_label(value)}" for key, value in others
            )
            yield Line2D([], [], color=colour, label=label)
    if len({trial.stage for one in tuned for trial in one.choice.trials}) > 1:
        yield Line2D([], [], color=_ONE_LINE, marker="o", markerfacecolor="white", linewidth=0.7, label="first step")
        yield Line2D([], [], color=_ONE_LINE, marker="o", linewidth=1.2, label="whole budget")
    yield Line2D(
        [], [], linestyle="", marker="o", markersize=7, markerfacecolor="none", markeredgecolor=_CHOSEN, label="chosen"
    )


def _message(tuned: Sequence[Tuned]) -> str:
    """Return how many choices lie inside of what was tried, and which do not."""
    outside = [one.label for one in tuned if one.choice.at_edge]
    if not outside:
        return f"All {len(tuned)} choices lie inside of what was tried"
    said = "; ".join(outside[:_MOST_SAID]) + (f" and {len(outside) - _MOST_SAID} more" * (len(outside) > _MOST_SAID))
    return f"{len(outside)} of {len(tuned)} choices lie at an edge of what was tried: {said}"


def _notes(tuned: Sequence[Tuned]) -> Iterator[str]:
    counts = sorted({len(one.choice.seeds) for one in tuned})
    n = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    dots = "; dots: seeds" if counts[-1] > 1 else ""
    yield (
        f"Means over n = {n} tuning seeds{dots}; no interval, since trials choose and compare nothing. Ringed: the "
        "highest mean of the last step."
    )
    if any(trial.failed for one in tuned for trial in one.choice.trials):
        yield "Crosses: a seed failed and counts as chance."

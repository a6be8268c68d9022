"""Learning curves: test accuracy against rounds, data passes, total bytes and device FLOPs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedfore.judgement.sides import FAILED, estimate_of
from fedfore.plots.charts.levels import level_notes, name_at_level
from fedfore.plots.drawing.cost_axis import DATA_PASSES, DEVICE_FLOPS, ROUNDS, TOTAL_BYTES, CostAxis
from fedfore.plots.drawing.facets import faceted
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.naming import Series
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.study import shown_sparsity
from fedfore.plots.training import ACCURACY, mean_line
from fedfore.plots.view import Drawn, Planned, View, handle, line_style, mark_withheld, percent_axis
from fedfore.plots.wording import DOUBLE_DAGGER, axis_label

AXES: Mapping[str, CostAxis] = {
    "rounds": ROUNDS,
    "data_passes": DATA_PASSES,
    "total_bytes": TOTAL_BYTES,
    "device_flops": DEVICE_FLOPS,
}
_PANEL_HEIGHT = 1.45
_PAD = 0.02
_MOST_SAID = 2


@dataclass(frozen=True)
class _Line:
    """A series at one label distribution: its seeds' evaluations, and their mean."""

    series: Series
    alpha: str
    seeds: pd.DataFrame
    mean: pd.DataFrame
    withheld: bool

    def at(self, column: str, cost: float) -> float:
        """Return the mean accuracy at the last evaluation that had cost no more."""
        before = self.mean[self.mean[column] <= cost]
        return float(before[ACCURACY].iloc[-1]) if len(before) else 0.0


def figures(view: View) -> Iterator[Planned]:
    """Yield the curves of trained cells that were evaluated along training, a figure a group of few series."""
    shown = shown_cells(view)
    known = view.study.evaluations
    if known.loc[known["cell_id"].isin(shown["cell_id"]), "place"].max() > 0:
        for kind, name, own in faceted(replace(view, cells=shown), "curves"):
            title = ", ".join(filter(None, ("Accuracy along training", name)))
            yield own.planned(kind, title, partial(curves, own))


def shown_cells(view: View) -> pd.DataFrame:
    """Return the cells whose curves are drawn: of a series with several sparsities those of one.

    That is the one that is nearest, in density, to `fedfore.plots.study.shown_sparsity`.
    """
    level = shown_sparsity(view.cells, view.series)
    if level is None:
        return view.cells
    kept = []
    for one in view.series:
        own = view.cells[view.cells["series"] == one.label]
        levels = sorted(own.loc[own["ok"], "sparsity"].unique(), key=lambda other: abs(other - level))
        kept.append(own[own["sparsity"] == levels[0]])
    return pd.concat(kept)


def curves(view: View) -> Drawn:
    """Draw the curves of a view: a row a label distribution, a column a cost; at column width two by two."""
    lines = list(_lines(view))
    alphas = [alpha for alpha in view.alphas if any(line.alpha == alpha for line in lines)]
    columns = 2 if is_narrow(view.width) else len(AXES)
    rows = len(alphas) * len(AXES) // columns
    figure = Figure(figsize=(view.width, rows * _PANEL_HEIGHT), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    places = [(alpha, column) for alpha in alphas for column in AXES]
    leaders = []
    for (alpha, column), panel in zip(places, panels, strict=True):
        here = [line for line in lines if line.alpha == alpha]
        leaders.append(_draw_panel(panel, here, column))
        _limit(panel, lines, column, most_ticks=3 if is_narrow(view.width) else 4)
        panel.set_title(alpha if len(alphas) > 1 and column == next(iter(AXES)) else "", loc="left")
        place = panel.get_subplotspec()
        if place.is_last_row() or columns < len(AXES):
            panel.set_xlabel(AXES[column].label)
    known = pd.concat([line.seeds[ACCURACY] for line in lines])
    panels[0].set_ylim(known.min() - _PAD, known.max() + _PAD)
    percent_axis(panels[0].yaxis)
    figure.supylabel(axis_label(ACCURACY))
    notes = [*_notes(lines), *level_notes(view), *accuracy_notes(view.cells, DOUBLE_DAGGER)]
    frame(figure, view.heading(_message(leaders)), list(_legend(view)), notes)
    return Drawn(
        f"{_message(leaders)}. Test accuracy of the global model at every evaluation, against what had been spent by "
        f"then, setup included: rounds, data passes (examples drawn / examples of all clients), bytes of all messages, "
        f"FLOPs of all devices. {' '.join(notes)}",
        f"Learning curves of {', '.join(one.label for one in view.series)} against rounds, passes, bytes and FLOPs.",
        figure,
    )


def _lines(view: View) -> Iterator[_Line]:
    known = view.study.evaluations
    for one in view.series:
        for alpha in view.alphas:
            own = view.cells[(view.cells["series"] == one.label) & (view.cells["alpha"] == alpha)]
            seeds = known[known["cell_id"].isin(own["cell_id"])]
            if len(seeds):
                seeds = pd.concat([seeds, *_failed(own, mean_line(seeds))])
                yield _Line(one, alpha, seeds, mean_line(seeds), bool(own["withheld"].any()))


def _failed(own: pd.DataFrame, others: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield what a failure counts as, chance throughout, at the mean costs of the others, where chance is known."""
    failed = own[own["status"].isin(FAILED) & own["chance_accuracy"].notna()]
    for _, cell in failed.iterrows():
        yield others.assign(cell_id=cell["cell_id"], **{ACCURACY: cell["chance_accuracy"]})


def _limit(panel: Axes, lines: Sequence[_Line], column: str, most_ticks: int) -> None:
    """Give a panel the costs of all lines, setup's among them where there is one."""
    axis = AXES[column]
    ends = pd.concat([_shown(line.mean, axis)[column] for line in lines])
    setups = [cost for line in lines if axis.log and (cost := float(line.mean[column].iloc[0])) > 0]
    axis.limit(panel, min([ends.min(), *setups]), ends.max(), most_ticks)


def _draw_panel(panel: Axes, lines: Sequence[_Line], column: str) -> str | None:
    """Draw the lines of one label distribution along a cost; return the series that is ahead at equal cost."""
    axis = AXES[column]
    for line in lines:
        style = line_style(line.series)
        panel.plot(*_apart(_shown(line.seeds, axis), column), color=style["color"], linewidth=0.5, alpha=0.3, zorder=2)
        mean = _shown(line.mean, axis)
        panel.plot(mean[column], mean[ACCURACY], markersize=3.5, markevery=[-1], linewidth=1.2, zorder=4, **style)
        _draw_end(panel, line, column)
        setup = float(line.mean[column].iloc[0])
        if axis.log and setup > 0:
            panel.plot(
                [setup], [0.0], marker="^", markersize=4, color=style["color"], transform=panel.get_xaxis_transform(),
                clip_on=False, zorder=5, linestyle="",
            )  # fmt: skip
    competing = [line for line in lines if not line.withheld and not line.series.control]
    if len(competing) < 2:
        return None
    equal = min(float(line.mean[column].iloc[-1]) for line in competing)
    panel.axvline(equal, color="#888888", linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=1)
    return max(competing, key=lambda line: line.at(column, equal)).series.label


def _shown(lines: pd.DataFrame, axis: CostAxis) -> pd.DataFrame:
    """Return what is drawn: on a logarithmic axis the evaluations from the first one in training on."""
    return lines[lines["place"] > 0] if axis.log else lines


def _apart(seeds: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """Return the x and y of all seeds as one line that breaks between them."""
    x: list[float] = []
    y: list[float] = []
    for _, own in seeds.groupby("cell_id", sort=False):
        x += [*own[column], math.nan]
        y += [*own[ACCURACY], math.nan]
    return x, y


def _draw_end(panel: Axes, line: _Line, column: str) -> None:
    """Draw the interval of the last evaluation, and the mark of what is part of no comparison."""
    last = line.mean.iloc[-1]
    values = line.seeds.loc[line.seeds["place"] == last["place"], ACCURACY].astype(float)
    found = estimate_of(ACCURACY, values)
    if found.n >= LEAST_FOR_AN_INTERVAL:
        panel.plot(
            [last[column]] * 2, [found.low, found.high], color=line_style(line.series)["color"], linewidth=0.9,
            marker="_", markersize=3, zorder=3,
        )  # fmt: skip
    if line.withheld:
        mark_withheld(panel, float(last[column]), float(last[ACCURACY]))


def _legend(view: View) -> Iterator[Line2D]:
    for one in view.series:
        shown = view.cells.loc[view.cells["series"] == one.label, "sparsity"]
        yield handle(one, name_at_level(view, one, float(shown.iloc[0])))


def _message(leaders: Sequence[str | None]) -> str:
    counts = Counter(leader for leader in leaders if leader)
    if not counts:
        return "Accuracy along training"
    said = [f"{label} in {count}" for label, count in counts.most_common(_MOST_SAID)]
    return f"Highest mean at equal cost, of {counts.total()} panels: {'; '.join(said)}"


def _notes(lines: Sequence[_Line]) -> Iterator[str]:
    counts = [line.seeds["cell_id"].nunique() for line in lines]
    n = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    yield (
        f"Thin: n = {n} seeds. Thick: their mean at equal shares of the budget, a 95% interval at its end "
        f"(none below {LEAST_FOR_AN_INTERVAL} seeds). Dotted: the cost that all reach, at which means are compared."
    )
    if any(float(line.mean[column].iloc[0]) > 0 for line in lines for column, axis in AXES.items() if axis.log):
        yield "Triangles on the axis: what setup alone costs."

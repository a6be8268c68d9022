"""What it costs to reach an accuracy: rounds, bytes and device FLOPs, and how many seeds reach it at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedfore.judgement.estimates import Estimate, estimate
from fedfore.judgement.targets import WINDOW, first_reaching, highest_reached, shared_target
from fedfore.plots.charts.levels import level_notes, name_at_level
from fedfore.plots.drawing.cost_axis import DEVICE_FLOPS, ROUNDS, TOTAL_BYTES, CostAxis
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.texts import wrapped
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.naming import Series
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.training import ACCURACY
from fedfore.plots.view import Drawn, Planned, View, line_style

_COSTS: Mapping[str, tuple[CostAxis, str]] = {
    "rounds": (ROUNDS, "rounds"),
    "total_bytes": (TOTAL_BYTES, "bytes"),
    "device_flops": (DEVICE_FLOPS, "FLOPs"),
}
"""The columns of evaluations, their axes, and what a sentence calls them."""
_NOT_RUN = ("missing", "skipped")
_LABEL_SIZE, _LABEL_ROOM = 7.0, 1.6
_ROW, _LINE, _OUTSIDE = 0.17, 0.125, 0.6
"""Inches of a row, of a line of its label, and of a panel outside of its frame."""
_FAINT = "#777777"


@dataclass(frozen=True)
class _Reaching:
    """A series at a sparsity and label distribution: what reaching the target cost each seed that does.

    `spent` is the most that any seed spent in the end; `n` counts the seeds that ran, those that failed among them.
    """

    series: Series
    label: str
    costs: pd.DataFrame
    spent: pd.Series[float]
    n: int
    competes: bool

    def estimate(self, column: str) -> Estimate | None:
        """Return the geometric mean of a cost with its interval, where every seed reaches the target."""
        whole = self.n and len(self.costs) == self.n
        return estimate(self.costs[column].to_numpy(dtype=float), "log") if whole else None


@dataclass(frozen=True)
class _Place:
    """Where a row stands, in inches from the top of its panels: its label's lines, its ends, and its costs' level."""

    label: tuple[str, ...]
    top: float
    level: float
    bottom: float


def figures(view: View) -> Iterator[Planned]:
    """Yield the costs to a target of trained cells, where there is an accuracy that enough series reach."""
    known = view.study.evaluations
    targets = {alpha: target for alpha in view.alphas if (target := _target(view, known, alpha)) is not None}
    if targets:
        yield view.planned("target-cost", "Cost to a target accuracy", partial(cost_to_target, view, known, targets))


def _target(view: View, known: pd.DataFrame, alpha: str) -> float | None:
    """Return the accuracy that is asked for at a label distribution, from the series that compete."""
    accuracies = dict(iter(_known_at(view, known, alpha).groupby("cell_id")[ACCURACY]))
    heights = [
        [highest_reached(accuracies.get(cell, ())) for cell in own["cell_id"]]
        for one, _, own in _rows(view, alpha)
        if _competes(one, own)
    ]
    chance = view.cells["chance_accuracy"].max()
    return shared_target(heights, 0.0 if pd.isna(chance) else float(chance))


def _known_at(view: View, known: pd.DataFrame, alpha: str) -> pd.DataFrame:
    return known[known["cell_id"].isin(view.cells.loc[view.cells["alpha"] == alpha, "cell_id"])]


def _rows(view: View, alpha: str) -> Iterator[tuple[Series, str, pd.DataFrame]]:
    """Yield each series at each of its sparsities, with its name and the cells that ran."""
    here = view.cells[(view.cells["alpha"] == alpha) & ~view.cells["status"].isin(_NOT_RUN)]
    for one in view.series:
        of_series = here[here["series"] == one.label]
        for level, own in of_series.groupby("sparsity"):
            yield one, name_at_level(view, one, float(str(level))), own


def _competes(one: Series, own: pd.DataFrame) -> bool:
    return not one.control and not own["withheld"].any()


def reaching(known: pd.DataFrame, cells: Sequence[str], target: float) -> pd.DataFrame:
    """Return one row a cell that reaches the target, the first evaluation at which it does (see `first_reaching`)."""
    own = known[known["cell_id"].isin(cells)]
    places = own.groupby("cell_id").indices
    accuracies, rows = own[ACCURACY].to_numpy(dtype=float), []
    for cell in cells:
        lines = places.get(cell, ())
        place = first_reaching(accuracies[lines], target) if len(lines) else None
        if place is not None:
            rows.append(lines[place])
    return own.iloc[rows]


def cost_to_target(view: View, known: pd.DataFrame, targets: Mapping[str, float]) -> Drawn:
    """Draw a row a series and a column a cost; a block a label distribution with its target."""
    blocks = {alpha: list(_reached(view, known, alpha, target)) for alpha, target in targets.items()}
    everything = [row for own in blocks.values() for row in own]
    places = {alpha: _places(own, view.width) for alpha, own in blocks.items()}
    heights = [_OUTSIDE + own[-1].bottom for own in places.values()]
    figure = Figure(figsize=(view.width, sum(heights)), layout="constrained")
    grid = figure.subplots(len(blocks), len(_COSTS), sharey="row", squeeze=False, height_ratios=heights)
    for panels, (alpha, rows) in zip(grid, blocks.items(), strict=True):
        for panel, (column, (axis, _)) in zip(panels, _COSTS.items(), strict=True):
            _limit(panel, column, everything, most_ticks=2 if is_narrow(view.width) else 4)
            for row, place in zip(rows, places[alpha], strict=True):
                _draw_row(panel, row, column, place.level)
            panel.set_xlabel(axis.label)
        _write_beside(panels, rows, places[alpha], narrow=is_narrow(view.width))
        panels[0].set_title(f"{alpha}: to {targets[alpha]:.0%}", loc="left")
    notes = [*_notes(), *level_notes(view), *accuracy_notes(view.cells)]
    message = _message(blocks, targets)
    frame(figure, view.heading(message), [], notes)
    return Drawn(
        f"{message}. Cost, setup included, until the mean of {WINDOW} evaluations in a row first reaches the target. "
        f"{' '.join(notes)}",
        f"Costs to a target accuracy of {', '.join(dict.fromkeys(row.label for row in everything))}, in rounds, bytes "
        "and FLOPs.",
        figure,
    )


def _places(rows: Sequence[_Reaching], width: float) -> list[_Place]:
    """Return where rows stand: the label beside the row, or above it at column width."""
    found: list[_Place] = []
    narrow, bottom = is_narrow(width), 0.0
    for row in rows:
        label = tuple(wrapped(row.label, width - 0.5 if narrow else _LABEL_ROOM, _LABEL_SIZE))
        text = _LINE * len(label)
        height = text + _LINE if narrow else max(_ROW, text + 0.05)
        found.append(_Place(label, bottom, bottom + (text + _LINE / 2 if narrow else height / 2), bottom + height))
        bottom += height
    return found


def _reached(view: View, known: pd.DataFrame, alpha: str, target: float) -> Iterator[_Reaching]:
    here = _known_at(view, known, alpha)
    for one, label, own in _rows(view, alpha):
        lines = here[here["cell_id"].isin(own["cell_id"])]
        spent = lines[list(_COSTS)].max() if len(lines) else pd.Series(float("nan"), list(_COSTS))
        yield _Reaching(one, label, reaching(lines, list(own["cell_id"]), target), spent, len(own), _competes(one, own))


def _limit(panel: Axes, column: str, rows: Sequence[_Reaching], most_ticks: int) -> None:
    known = [found for row in rows if (found := row.estimate(column)) and found.n >= LEAST_FOR_AN_INTERVAL]
    costs = [cost for row in rows for cost in (*row.costs[column], row.spent[column])]
    shown = [cost for cost in [*costs, *(end for found in known for end in (found.low, found.high))] if cost > 0]
    replace(_COSTS[column][0], log=True).limit(panel, min(shown), max(shown), most_ticks)


def _draw_row(panel: Axes, row: _Reaching, column: str, level: float) -> None:
    """Draw the seeds that reach the target and their mean, or a cross at what was spent where not all do."""
    style = line_style(row.series)
    shared = {"color": style["color"], "linestyle": ""}
    costs = row.costs[column]
    panel.plot(
        costs, [level] * len(costs), marker="o", markersize=2.6, alpha=0.45, markeredgewidth=0, zorder=2, **shared
    )
    found = row.estimate(column)
    if found is None:
        panel.plot([row.spent[column]], [level], marker="x", markersize=4, zorder=4, **shared)
        return
    if found.n >= LEAST_FOR_AN_INTERVAL:
        panel.plot([found.low, found.high], [level] * 2, color=style["color"], linewidth=1.2, zorder=3)
    face = style["color"] if row.competes else "white"
    panel.plot([found.mean], [level], marker=style["marker"], markersize=4.5, markerfacecolor=face, zorder=4, **shared)


def _write_beside(panels: Sequence[Axes], rows: Sequence[_Reaching], places: Sequence[_Place], *, narrow: bool) -> None:
    """Write the names of rows, beside the first panel or across all of them, and how many seeds reach the target."""
    first, last = panels[0], panels[-1]
    first.set_ylim(places[-1].bottom, 0)
    for panel in panels:
        panel.grid(axis="y", visible=False)
    first.set_yticks(
        [] if narrow else [place.level for place in places],
        [] if narrow else ["\n".join(place.label) for place in places],
    )
    if narrow:
        first.set_zorder(1)
        first.patch.set_visible(False)
        for panel in panels:
            panel.spines[["left", "right", "top"]].set_visible(False)
    for row, place in zip(rows, places, strict=True):
        if narrow:
            first.annotate(
                "\n".join(place.label), (0, place.top), xycoords=first.get_yaxis_transform(), xytext=(2, -1),
                textcoords="offset points", va="top", fontsize=_LABEL_SIZE, annotation_clip=False,
            ).set_in_layout(False)  # fmt: skip
        last.annotate(
            f"{len(row.costs)}/{row.n}", (1, place.level), xycoords=last.get_yaxis_transform(), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=6.5, color=_FAINT,
        )  # fmt: skip


def _message(blocks: Mapping[str, Sequence[_Reaching]], targets: Mapping[str, float]) -> str:
    """Return which series reaches the first target at the lowest cost of each kind, in every one of its seeds."""
    alpha, rows = next(iter(blocks.items()))
    best: dict[str, list[str]] = {}
    for column, (_, word) in _COSTS.items():
        found = [(known.mean, row.label) for row in rows if row.competes and (known := row.estimate(column))]
        if found:
            best.setdefault(min(found)[1], []).append(word)
    if not best:
        return f"No series reaches {targets[alpha]:.0%} in all seeds ({alpha})"
    said = "; ".join(f"{' and '.join(words)} {label}" for label, words in best.items())
    return f"To {targets[alpha]:.0%} ({alpha}) in all seeds with the fewest {said}"


def _notes() -> Iterator[str]:
    yield (
        "k/n: seeds that reach it. Where all do: geometric mean with 95% interval on the log scale (none below "
        f"{LEAST_FOR_AN_INTERVAL} seeds); dots: seeds. Cross: not all do, drawn at what was spent. Hollow: competes "
        "with nothing. Target: the highest multiple of 5 points that half of the series reach."
    )

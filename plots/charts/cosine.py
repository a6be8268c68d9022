"""How far zeroth-order estimates point along the gradient, against what theory says of random directions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from fedfore.judgement.estimates import Estimate, estimate
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.fields import EXACT, NUM_PERTURBATIONS, value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.view import Drawn, Planned, View
from fedfore.plots.wording import human_count

_PANEL_HEIGHT = 2.3
_THEORY = "#444444"
_DASHES: Any = (0, (4, 2))
_FORMULA = "√(K / (K + P − 1))"  # noqa: RUF001
_DODGE = 0.035
_DIGITS = 3
"""Significant digits of P: masks of one sparsity differ by a few weights."""


def theory(perturbations: ArrayLike, coordinates: ArrayLike) -> NDArray[np.float64]:
    """Return sqrt(K / (K + P - 1)): the root mean square cosine between a gradient in P coordinates and its estimate.

    The estimate is the sum of its projections on K independent directions that are uniform on the sphere:
    E|g_hat|^2 = (K + P - 1) / K |g|^2 where E g_hat = g.
    """
    k, p = np.asarray(perturbations, dtype=float), np.asarray(coordinates, dtype=float)
    return np.asarray(np.sqrt(k / (k + p - 1)))


def cosines(view: View) -> pd.DataFrame:
    """Return one row a seed, milestone and (K, P): `cosine`, the mean of |cosine| over series, and `theory`.

    P, `coordinates`, are the parameters that are perturbed: the kept prunable weights and those that are not prunable.
    Series of one seed share what they draw, and so are one value.
    """
    known = view.study.diagnoses
    needed = ["grad_cosine", NUM_PERTURBATIONS, "num_parameters", "num_prunable", "sparsity_measured"]
    if not set(needed) <= set(known):
        return pd.DataFrame(columns=["moment", "k", "coordinates", "sparsity", "seed", "cosine", "theory"])
    own = known[known["cell_id"].isin(view.cells["cell_id"]) & known["estimator"].ne(EXACT)]
    own = own[["moment", "seed", "sparsity", *needed]].dropna()
    coordinates = own["num_parameters"] - own["num_prunable"] * own["sparsity_measured"]
    own = own.assign(
        k=own[NUM_PERTURBATIONS].astype(float),
        coordinates=[float(f"{count:.{_DIGITS}g}") for count in coordinates],
        cosine=own["grad_cosine"].abs(),
    )
    table = own.groupby(["moment", "k", "coordinates", "seed"])[["cosine", "sparsity"]].mean().reset_index()
    return table.assign(theory=theory(table["k"], table["coordinates"]))


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of trained zeroth-order cells that differ in their perturbations or their sparsity."""
    table = cosines(view)
    if len(table[["k", "coordinates"]].drop_duplicates()) > 1:
        yield view.planned("gradient-cosine", "Cosine of estimate and gradient", partial(gradient_cosine, view, table))


def gradient_cosine(view: View, table: pd.DataFrame) -> Drawn:
    """Draw |cosine| against K or P beside its theory, and its ratio to that along training."""
    moments = sorted(table["moment"].unique())
    colours = dict(zip(moments, sns.color_palette("viridis", len(moments) + 1).as_hex(), strict=False))
    rows, columns = (2, 1) if is_narrow(view.width) else (1, 2)
    figure = Figure(figsize=(view.width, rows * _PANEL_HEIGHT), layout="constrained")
    left, right = figure.subplots(rows, columns, squeeze=False).ravel()
    _draw_cosines(left, table, colours)
    ratios = _draw_ratios(right, table, colours)
    notes = [*_notes(table), *figure_notes(view.cells)]
    legend = [
        Line2D([], [], color=colour, marker="o", linestyle="", label=f"{moment:.0%} of the budget")
        for moment, colour in colours.items()
    ]
    legend.append(Line2D([], [], color=_THEORY, linestyle=_DASHES, label=_FORMULA))
    message = f"Estimates point along the gradient {min(ratios):.2f} to {max(ratios):.2f} times as far as theory says"
    frame(figure, view.heading(message), legend, notes)
    return Drawn(
        f"{message}. |cosine| of one client's estimate and its gradient on a fixed batch, over the perturbed "
        f"coordinates, for K perturbations of P coordinates, against the {_FORMULA} of directions that are uniform on "
        f"the sphere. {' '.join(notes)}",
        "Charts of the cosine between estimates and gradients against perturbations and coordinates, and of its ratio "
        "to theory along training.",
        figure,
    )


def _draw_cosines(panel: Axes, table: pd.DataFrame, colours: Mapping[float, str]) -> None:
    """Draw |cosine| against K, a theory line a P, or the other way round: along what takes more values."""
    x, other = ("k", "coordinates") if table["k"].nunique() >= table["coordinates"].nunique() else ("coordinates", "k")
    low, high = table[x].min(), table[x].max()
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(low / (high / low) ** 0.12 / 1.2, high * (high / low) ** 0.25 * 1.2)
    along = np.geomspace(*panel.get_xlim(), 50)
    for value in sorted(table[other].unique()):
        expected = theory(along, value) if x == "k" else theory(value, along)
        panel.plot(along, expected, color=_THEORY, linewidth=0.9, linestyle=_DASHES, zorder=1)
        name, end, side = ("P", -1, "right") if x == "k" else ("K", 0, "left")
        panel.annotate(
            f"{name} = {human_count(value)}", (along[end], expected[end]), xytext=(-3 if end else 6, 2),
            textcoords="offset points", fontsize=6.5, ha=side, color=_THEORY,
        )  # fmt: skip
    for place, (moment, colour) in enumerate(colours.items()):
        dodge = (high / low) ** (_DODGE * (place - (len(colours) - 1) / 2))
        for _, own in table[table["moment"] == moment].groupby([x, other]):
            at = float(own[x].iloc[0]) * dodge
            _draw_estimate(panel, at, estimate(own["cosine"], "log"), colour)
            panel.plot([at] * len(own), own["cosine"], ".", markersize=2, color=colour, alpha=0.5, zorder=2)
    panel.set_ylim(panel.get_ylim()[0], panel.get_ylim()[1] * 1.15)
    ticks = _apart(sorted(table[x].unique()))
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: human_count(value)))
    panel.xaxis.set_minor_locator(NullLocator())
    _plain_ticks(panel)
    panel.set_xlabel("Perturbations K" if x == "k" else "Perturbed coordinates P")
    panel.set_ylabel("|cosine|")


def _apart(places: Sequence[float]) -> list[float]:
    """Return the places that are not too near, on a logarithmic axis, to one before."""
    room = (places[-1] / places[0]) ** 0.12
    kept: list[float] = []
    for place in places:
        if not kept or place / kept[-1] >= room:
            kept.append(place)
    return kept


def _plain_ticks(panel: Axes) -> None:
    low, high = panel.get_ylim()
    ticks = [digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5)]
    panel.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _draw_estimate(panel: Axes, x: float, found: Estimate, colour: str) -> None:
    if found.n >= LEAST_FOR_AN_INTERVAL:
        panel.plot([x, x], [found.low, found.high], color=colour, linewidth=1.0, zorder=3)
    panel.plot([x], [found.mean], marker="o", markersize=3.8, color=colour, zorder=4)


def _draw_ratios(panel: Axes, table: pd.DataFrame, colours: Mapping[float, str]) -> list[float]:
    """Draw |cosine| over theory along training; return the mean ratio of each milestone."""
    ratios = table.assign(ratio=np.log(table["cosine"] / table["theory"]))
    places = {moment: place for place, moment in enumerate(colours)}
    for _, own in ratios.groupby(["k", "coordinates"]):
        line = np.exp(own.groupby("moment")["ratio"].mean())
        panel.plot([places[float(str(at))] for at in line.index], line, color="#BBBBBB", linewidth=0.7, zorder=2)
    means = []
    for moment, colour in colours.items():
        seeds = ratios[ratios["moment"] == moment].groupby("seed")["ratio"].mean()
        found = estimate(np.exp(seeds), "log")
        _draw_estimate(panel, places[moment], found, colour)
        means.append(found.mean)
    panel.axhline(1.0, color=_THEORY, linewidth=0.9, linestyle=_DASHES, zorder=1)
    panel.set_xlim(-0.5, len(colours) - 0.5)
    panel.set_xticks(range(len(colours)), [f"{moment:.0%}" for moment in colours])
    panel.set_xlabel("Budget spent")
    panel.set_ylabel("|cosine| / theory")
    return means


def _notes(table: pd.DataFrame) -> Iterator[str]:
    yield (
        f"Geometric means over n = {table['seed'].nunique()} seeds with 95% Student-t intervals on the log scale (none "
        f"below {LEAST_FOR_AN_INTERVAL} seeds); dots: seeds. Grey: each K and P. Series of one seed share what they "
        "draw, and count once."
    )
    levels = table.groupby("coordinates")["sparsity"].agg(lambda own: value_label(own.iloc[0]))
    yield f"P at sparsity: {', '.join(f'{human_count(float(str(p)))} at {level}' for p, level in levels.items())}."

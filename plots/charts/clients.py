"""What clients hold and how well the global model serves each of them: label histograms and accuracies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedfore.judgement.estimates import Estimate
from fedfore.judgement.sides import FAILED, estimate_of
from fedfore.plots.charts.curves import shown_cells
from fedfore.plots.charts.levels import level_notes, name_at_level
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.texts import wrapped
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.lines import lines_of
from fedfore.plots.naming import Series
from fedfore.plots.seeds import LEAST_FOR_AN_INTERVAL
from fedfore.plots.view import Drawn, Planned, View, line_style, percent_axis
from fedfore.records.lines import CLIENTS

_HISTOGRAM, _ROW, _LINE, _OUTSIDE = 1.2, 0.06, 0.13, 0.55
"""Inches: the height of a histogram, of a row of clients and a line of its name, and of what is outside of a panel."""
_LABEL_SIZE, _LABEL_SHARE = 7.0, 0.24
_JITTER = 0.25
_MOST_TICKS, _TICK = 10, 0.3
"""Ticks of an axis, and the inches of a panel that one takes along classes."""
_MOST_COLUMNS = {False: 4, True: 2}
"""Label distributions side by side, at full and at column width."""
_FAINT = "#666666"


def figures(view: View) -> Iterator[Planned]:
    """Yield the figure of trained cells whose clients are known, one by one."""
    if any(_clients_of(view, str(cell)) is not None for cell in view.cells.loc[view.cells["ok"], "cell_id"].head(1)):
        yield view.planned("clients", "What clients hold, and how well they are served", partial(clients, view))


def _clients_of(view: View, cell: str) -> pd.DataFrame | None:
    lines = lines_of(view.study.run, [cell], CLIENTS)
    return lines if len(lines) else None


def clients(view: View) -> Drawn:
    """Draw a column a label distribution: one seed's label histogram, and below it the clients' accuracies by series.

    Of more label distributions than there is room for, the first and the last are drawn: the least and the most skewed.
    """
    shown = shown_cells(view)
    series = view.study.series_of(shown)
    known = {
        str(cell): lines
        for cell in shown.loc[shown["ok"], "cell_id"]
        if (lines := _clients_of(view, str(cell))) is not None
    }
    alphas = [alpha for alpha in view.alphas if shown.loc[shown["alpha"] == alpha, "cell_id"].isin(known).any()]
    if len(alphas) > _MOST_COLUMNS[is_narrow(view.width)]:
        alphas = [alphas[0], alphas[-1]]
    accuracies = {(one.label, alpha): _accuracies(shown, one, alpha, known) for one in series for alpha in alphas}
    names = [name_at_level(view, one, _level(shown, one)) for one in series]
    broken = [wrapped(name, view.width * _LABEL_SHARE, _LABEL_SIZE) for name in names]
    heights = (_HISTOGRAM + _OUTSIDE, (_ROW + _LINE * max(map(len, broken))) * len(series) + _OUTSIDE)
    figure = Figure(figsize=(view.width, sum(heights)), layout="constrained")
    top, bottom = figure.subplots(2, len(alphas), squeeze=False, height_ratios=heights, sharey="row")
    for alpha, histogram, spread in zip(alphas, top, bottom, strict=True):
        own = shown[(shown["alpha"] == alpha) & shown["cell_id"].isin(known)].sort_values("seed")
        _draw_histogram(histogram, known[str(own["cell_id"].iloc[0])], view.width / len(alphas))
        histogram.set_title(alpha, loc="left")
        for level, one in enumerate(series):
            _draw_clients(spread, accuracies[one.label, alpha], one, level)
        percent_axis(spread.xaxis)
        spread.set_xlabel("Accuracy of\na client (%)")
    top[0].set_ylabel("Client")
    bottom[0].set_yticks(range(len(series)), ["\n".join(name) for name in broken])
    bottom[0].set_ylim(len(series) - 0.5, -0.5)
    competing = [one.label for one in series if not one.control]
    message = _message({key: own for key, own in accuracies.items() if key[0] in competing}, alphas[-1])
    counted = shown["cell_id"].isin(known) | (shown["status"].isin(FAILED) & shown["chance_accuracy"].notna())
    notes = [*_notes(shown[counted]), *level_notes(view), *accuracy_notes(shown, "")]
    frame(figure, view.heading(message), [], notes)
    return Drawn(
        f"{message}. Above: how many training examples of each class each client holds. Below: the global model's last "
        f"test accuracy for each client, classes reweighted to its labels. {' '.join(notes)}",
        f"Label histograms of clients, and accuracies of clients for {', '.join(one.label for one in series)}.",
        figure,
    )


def _level(shown: pd.DataFrame, one: Series) -> float:
    return float(shown.loc[shown["series"] == one.label, "sparsity"].iloc[0])


def _accuracies(shown: pd.DataFrame, one: Series, alpha: str, known: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the accuracies of a series' clients: a row a seed, a column a client; NaN where one holds nothing.

    Where a seed failed, each client has the accuracy of chance.
    """
    own = shown[(shown["series"] == one.label) & (shown["alpha"] == alpha)]
    cells = own.loc[own["cell_id"].isin(known), "cell_id"]
    found = [known[str(cell)]["test_accuracy"].astype(float).to_numpy() for cell in cells]
    chance = own.loc[own["status"].isin(FAILED), "chance_accuracy"].dropna() if found else ()
    return pd.DataFrame([*found, *(np.full(len(found[0]), value) for value in chance)])


def _draw_histogram(panel: Axes, lines: pd.DataFrame, width: float) -> None:
    """Draw how many examples of each class each client holds, a row a client. `width`: what the panel may take."""
    counts = np.array(lines["class_counts"].tolist(), dtype=float)
    panel.pcolormesh(counts, cmap="Blues", vmin=0, edgecolor="white", linewidth=0.3)
    panel.set(xlim=(0, counts.shape[1]), ylim=(counts.shape[0], 0), xlabel="Class")
    classes = min(_MOST_TICKS, int(width / _TICK))
    for axis, length, most in ((panel.xaxis, counts.shape[1], classes), (panel.yaxis, counts.shape[0], _MOST_TICKS)):
        shown = range(0, length, -(-length // most))
        axis.set_ticks([place + 0.5 for place in shown], [str(place) for place in shown])
    panel.grid(visible=False)
    panel.annotate(
        f"darkest: {counts.max():.0f}", (1, 1), xycoords="axes fraction", xytext=(0, 2), textcoords="offset points",
        ha="right", fontsize=6, color=_FAINT,
    )  # fmt: skip


def _draw_clients(panel: Axes, accuracies: pd.DataFrame, one: Series, level: int) -> None:
    """Draw the clients of every seed as dots, their mean, and the worst client's with its interval over seeds."""
    if accuracies.empty:
        return
    colour = line_style(one)["color"]
    offsets = np.linspace(-_JITTER, _JITTER, len(accuracies)) if len(accuracies) > 1 else [0.0]
    for offset, (_, seed) in zip(offsets, accuracies.iterrows(), strict=True):
        panel.plot(seed, [level + offset] * len(seed), ".", markersize=2.4, color=colour, alpha=0.45, zorder=2)
    worst = _worst(accuracies)
    if worst.n >= LEAST_FOR_AN_INTERVAL:
        panel.plot([worst.low, worst.high], [level] * 2, color=colour, linewidth=1.0, zorder=3)
    panel.plot([worst.mean], [level], marker="|", markersize=9, markeredgewidth=1.6, color=colour, zorder=4)
    mean = float(accuracies.mean(axis=1).mean())
    panel.plot([mean], [level], marker="D", markersize=4, color=colour, markeredgecolor="white", zorder=4)


def _worst(accuracies: pd.DataFrame) -> Estimate:
    return estimate_of("client_accuracy_min", accuracies.min(axis=1).dropna())


def _message(accuracies: Mapping[tuple[str, str], pd.DataFrame], alpha: str) -> str:
    """Return whose worst client is served best and least at a label distribution."""
    found = {label: _worst(own).mean for (label, at), own in accuracies.items() if at == alpha and not own.empty}
    if not found:
        return "No series competes"
    best, least = max(found, key=lambda label: found[label]), min(found, key=lambda label: found[label])
    told = f"{alpha}: the worst client has {100 * found[best]:.0f}% under {best}"
    return told if best == least else f"{told}, {100 * found[least]:.0f}% under {least}"


def _notes(shown: pd.DataFrame) -> Iterator[str]:
    counts = shown.groupby(["series", "alpha"], observed=True)["seed"].nunique()
    n = " to ".join(map(str, dict.fromkeys((counts.min(), counts.max()))))
    yield (
        "Above: examples by client and class, of the first seed. Below: dots: clients; diamond: their mean; bar: the "
        f"worst client, mean over n = {n} seeds with 95% interval (none below {LEAST_FOR_AN_INTERVAL} seeds)."
    )

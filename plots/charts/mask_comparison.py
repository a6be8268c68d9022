"""The figure of federated against centralised masks: a row a setting, each distance beside what chance gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fedfore.judgement.estimates import estimate, paired
from fedfore.judgement.verdicts import holm
from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.marks import draw_seeds, limits
from fedfore.plots.drawing.rows import Name, fits, rows_of_panels
from fedfore.plots.fields import UPLOAD, field_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.naming import settings
from fedfore.plots.seeds import Seeds, seeds_note
from fedfore.plots.view import Drawn, View
from fedfore.records.metrics import METRICS

_DISTANCE = "moved_weights"
_PANELS: Mapping[str, tuple[str, ...]] = {
    _DISTANCE: ("", "_null"),
    f"{_DISTANCE}_minus": ("",),
    "mask_iou": ("", "_null", "_shuffled"),
    "target_moved_weights": ("", "_null"),
}
"""What each panel shows, and what of it beside the federated mask's."""
_MARKS = {
    "": ("o", "#D55E00", "federated against centralised mask"),
    "_null": ("D", "#0072B2", "null: two independent centralised masks"),
    "_shuffled": ("X", "#5A5A5A", "null: positions shuffled within layers"),
}
_PITCH = 0.24


@dataclass(frozen=True)
class _Row:
    """A setting: its group, its name there, its seeds by metric, and the p value of its distance against the null's."""

    group: str
    name: str
    seeds: Mapping[str, Seeds]
    p: float


def mask_comparison(view: View, compared: pd.DataFrame) -> Drawn:
    """Draw distance and overlap of federated and centralised masks beside their nulls, a row a setting."""
    rows = _rows(compared)
    listed: list[tuple[Name, _Row | None]] = []
    for group in dict.fromkeys(row.group for row in rows):
        listed += [(Name(group, is_heading=True), None)] if group else []
        listed += [(Name(row.name), row) for row in rows if row.group == group]
    names = [name for name, _ in listed]
    abreast = next(count for count in (4, 2, 1) if count == 1 or fits(count, view.width))
    chunks = [list(_PANELS)[start : start + abreast] for start in range(0, len(_PANELS), abreast)]
    labels = [[_label(panel) for panel in chunk] for chunk in chunks]
    grid = rows_of_panels([names] * len(chunks), labels, view.width, pitches=[_PITCH])
    for chunk, block in zip(chunks, grid.blocks, strict=True):
        for what, panel in zip(chunk, block.panels, strict=True):
            shown = [
                row.seeds[f"{what}{suffix}"]
                for row in rows
                for suffix in _PANELS[what]
                if f"{what}{suffix}" in row.seeds
            ]
            for place, (_, row) in zip(block.places, listed, strict=True):
                if row:
                    _draw(panel, float(place), row, what)
            if what == f"{_DISTANCE}_minus":
                panel.axvline(0.0, color="#444444", linewidth=0.8, zorder=1)
            panel.set_xlim(*(limits(shown, 0.0) if what.endswith("_minus") else limits(shown)))
            panel.xaxis.set_major_locator(MaxNLocator(grid.most_ticks, steps=[1, 2, 5, 10], min_n_ticks=2))
    legend = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label=label)
        for marker, colour, label in _MARKS.values()
    ]
    notes = [seeds_note([row.seeds[_DISTANCE] for row in rows]), *figure_notes(view.cells)]
    message = _message(rows)
    frame(grid.figure, view.heading(message), legend, notes)
    return Drawn(
        f"{message}. Share of the kept weights that are in another layer (half of the distance in layer densities, sum "
        "over layers of |difference of kept| / kept), the same minus its null by seed, overlap of the federated mask "
        "and the centralised one of as many draws, then the share against the centralised mask of real inputs. Nulls: "
        "the same between two independent centralised masks; the overlap expected of random positions within layers. A "
        f"mask is as good as centralised where it meets the null. {' '.join(notes)}",
        "Chart of distances and overlaps of federated and centralised masks beside their nulls.",
        grid.figure,
    )


def _rows(compared: pd.DataFrame) -> list[_Row]:
    groups = compared[UPLOAD].map(lambda value: field_label(UPLOAD, value)) if _varies(compared) else None
    told = compared.assign(
        group="" if groups is None else groups,
        row=settings(compared, leave_out=[UPLOAD] if _varies(compared) else [], also=("sparsity", "alpha")).astype(str),
    )
    found = []
    for (group, name), own in told.groupby(["group", "row"], sort=False, observed=True):
        seeds: dict[str, Seeds] = {}
        for what, suffixes in _PANELS.items():
            for suffix in suffixes if not what.endswith("_minus") else ():
                values = own[f"{what}{suffix}"].dropna()
                if len(values):
                    seeds[f"{what}{suffix}"] = Seeds(tuple(map(float, values)), estimate(values, "logit"))
        by_seed = own.set_index("seed")
        minus = paired(by_seed[_DISTANCE], by_seed[f"{_DISTANCE}_null"])
        if minus.n:
            seeds[f"{_DISTANCE}_minus"] = Seeds(minus.values, estimate(minus.values))
        found.append(_Row(str(group), str(name), seeds, minus.p if minus.n > 1 else float("nan")))
    return found


def _varies(compared: pd.DataFrame) -> bool:
    return UPLOAD in compared and compared[UPLOAD].nunique() > 1


def _label(what: str) -> str:
    if what == f"{_DISTANCE}_minus":
        return f"{METRICS[_DISTANCE].label}, minus null"
    return METRICS[what].label


def _draw(panel: Axes, place: float, row: _Row, what: str) -> None:
    suffixes = _PANELS[what]
    for number, suffix in enumerate(suffixes):
        marker, colour, _ = _MARKS[suffix]
        if f"{what}{suffix}" in row.seeds:
            aside = 0.075 * (number - (len(suffixes) - 1) / 2)
            draw_seeds(
                panel, place + aside, row.seeds[f"{what}{suffix}"], {"color": colour, "marker": marker}, size=3.2
            )


def _message(rows: Sequence[_Row]) -> str:
    tested = [row for row in rows if row.seeds.get(f"{_DISTANCE}_minus") and row.p == row.p]
    if not tested:
        return "Federated against centralised masks"
    steps = holm([row.p for row in tested])
    farther = sum(
        step.rejected and row.seeds[f"{_DISTANCE}_minus"].estimate.mean > 0
        for row, step in zip(tested, steps, strict=True)
    )
    count = f"In {farther} of {len(tested)} settings"
    return f"{count} the federated mask is farther from a centralised one than two of these are (Holm)"

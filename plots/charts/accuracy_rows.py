"""The figure of accuracy by series: a row a series and sparsity, its seeds, and its differences to the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.marks import bounded, draw_seeds, limits
from fedfore.plots.drawing.quantity import quantity
from fedfore.plots.drawing.rows import Block, Name, fits, rows_of_panels
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import accuracy_notes
from fedfore.plots.messages import highest_message, verdicts_message
from fedfore.plots.naming import Series
from fedfore.plots.seeds import Seeds, difference_of, seeds_note, seeds_of
from fedfore.plots.view import Drawn, View, line_style
from fedfore.plots.wording import HEADLINES
from fedfore.records.metrics import METRICS


@dataclass(frozen=True)
class _Row:
    """A series at one sparsity: its name, its seeds by label distribution, and these minus the reference's."""

    name: str
    series: Series
    seeds: Mapping[str, Seeds]
    differences: Mapping[str, Seeds]


def accuracy_rows(view: View) -> Drawn:
    """Draw the headline of every series, a row each; beside it, paired by seed, minus the reference if there is one."""
    rows = list(_rows(view))
    alphas = [alpha for alpha in view.alphas if any(alpha in row.seeds for row in rows)]
    shown = [one for row in rows for one in row.seeds.values()]
    differences = [one for row in rows for one in row.differences.values()]
    columns = 2 if differences else 1
    blocks = [alphas] if fits(columns * len(alphas), view.width) else [[alpha] for alpha in alphas]
    listed = [_listed([row for row in rows if set(row.seeds) & set(own)]) for own in blocks]
    own, reference = quantity(view.metric, [one.estimate.mean for one in shown]), view.study.reference
    labels = [own.label, f"minus {reference.label if reference else ''} ({own.difference_unit})"][:columns]
    grid = rows_of_panels(
        [[name for name, _ in one] for one in listed], [labels * len(blocks[0])] * len(blocks), view.width
    )
    for here, names, block in zip(blocks, listed, grid.blocks, strict=True):
        for place, alpha in enumerate(here):
            panel, *beside = block.panels[place * columns : (place + 1) * columns]
            _draw(panel, block, [row.seeds.get(alpha) if row else None for _, row in names], names)
            panel.set_title(alpha, loc="left")
            panel.set_xlim(*bounded(view.metric, limits(shown)))
            own.ticks(panel.xaxis, grid.most_ticks)
            for other in beside:
                other.axvline(0.0, color="#444444", linewidth=0.8, zorder=1)
                _draw(other, block, [row.differences.get(alpha) if row else None for _, row in names], names)
                other.set_xlim(*limits(differences, 0.0))
                own.ticks(other.xaxis, grid.most_ticks, signed=True)
    notes = [seeds_note(shown), *_levels_note(view), *accuracy_notes(view.cells)]
    competing = {row.name: row.seeds for row in rows if not row.series.control}
    message = verdicts_message(view, view.metric) or highest_message(view.metric, competing)
    frame(grid.figure, view.heading(message), [], notes)
    paired = f" Beside it the same minus {reference.label}, paired by seed." if reference and differences else ""
    return Drawn(
        f"{message}. {METRICS[view.metric].label} of the global model{_window(view)}, by label distribution.{paired} "
        f"{' '.join(notes)}",
        f"Chart of {METRICS[view.metric].label} of {', '.join(row.name for row in rows)}; the table of results holds "
        "the same numbers.",
        grid.figure,
    )


def _rows(view: View) -> Iterator[_Row]:
    several = len(_levels(view)) > 1
    reference = view.study.reference
    others = view.cells[view.cells["series"] == reference.label] if reference else view.cells[:0]
    for one in view.series:
        for level, cells in view.cells[view.cells["series"] == one.label].groupby("sparsity"):
            known = {str(alpha): own for alpha, own in cells.groupby("alpha", observed=True)}
            seeds = {alpha: own for alpha, rows in known.items() if (own := seeds_of(rows, view.metric)).estimate.n}
            if not seeds:
                continue
            differences = {
                alpha: found
                for alpha in seeds
                if one != reference
                and (found := difference_of(known[alpha], others[others["alpha"] == alpha], view.metric))
            }
            said = f", sparsity {value_label(level)}" if one.has_sparsity and several else ""
            yield _Row(f"{view.named(one, cells)}{said}", one, seeds, differences)


def _listed(rows: Sequence[_Row]) -> list[tuple[Name, _Row | None]]:
    """Return the names of rows in their order, controls under a heading of their own."""
    controls = [(Name(row.name), row) for row in rows if row.series.control]
    heading: list[tuple[Name, _Row | None]] = [(Name("Controls", is_heading=True), None)] if controls else []
    return [*((Name(row.name), row) for row in rows if not row.series.control), *heading, *controls]


def _draw(panel: Axes, block: Block, shown: Sequence[Seeds | None], names: Sequence[tuple[Name, _Row | None]]) -> None:
    for place, seeds, (_, row) in zip(block.places, shown, names, strict=True):
        if seeds and row:
            draw_seeds(panel, float(place), seeds, line_style(row.series))


def _levels(view: View) -> list[float]:
    """Return the sparsities of series that prune."""
    sparse = [one.label for one in view.series if one.has_sparsity]
    own = view.cells[view.cells["ok"] & view.cells["series"].isin(sparse)]
    return sorted(own["sparsity"].unique())


def _levels_note(view: View) -> list[str]:
    levels = _levels(view)
    return [f"Methods that prune are at sparsity {value_label(levels[0])}."] if len(levels) == 1 else []


def _window(view: View) -> str:
    return f" ({HEADLINES[view.metric]})" if view.metric in HEADLINES else ""

"""The figure of twins: simulated cells minus those that differ from them in their finite differences alone."""

from __future__ import annotations

import pandas as pd

from fedfore.judgement.estimates import estimate
from fedfore.plots.drawing.layout import frame
from fedfore.plots.drawing.marks import draw_seeds, limits
from fedfore.plots.drawing.quantity import quantity
from fedfore.plots.drawing.rows import Name, rows_of_panels
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import figure_notes
from fedfore.plots.messages import verdicts_message
from fedfore.plots.seeds import Seeds, seeds_note
from fedfore.plots.view import Drawn, View, line_style
from fedfore.records.metrics import METRICS


def twin_rows(view: View, pairs: pd.DataFrame) -> Drawn:
    """Draw each twin's difference, a row a series, sparsity and label distribution, in a band of the stated margin.

    `pairs` are those of `fedfore.plots.points.twins`.
    """
    series = {one.label: one for one in view.series}
    found: list[tuple[str, str, Seeds]] = []
    for (label, sparsity, alpha), own in pairs.groupby(["series", "sparsity", "alpha"], observed=True, sort=True):
        said = [str(label)]
        said += [f"sparsity {value_label(sparsity)}"] if pairs["sparsity"].nunique() > 1 and sparsity else []
        said += [str(alpha)] if pairs["alpha"].nunique() > 1 else []
        found.append((", ".join(said), str(label), Seeds(tuple(own["difference"]), estimate(own["difference"]))))
    unit = quantity(view.metric, pairs["real"])
    label = f"{METRICS[view.metric].label} minus finite differences ({unit.difference_unit})"
    grid = rows_of_panels([[Name(name) for name, _, _ in found]], [[label]], view.width)
    (panel,), places = grid.blocks[0].panels, grid.blocks[0].places
    margin = _margin(view)
    if margin:
        panel.axvspan(-margin, margin, color="#BBBBBB", alpha=0.3, linewidth=0, zorder=0)
    panel.axvline(0.0, color="#444444", linewidth=0.8, zorder=1)
    for place, (_, name, seeds) in zip(places, found, strict=True):
        draw_seeds(panel, float(place), seeds, line_style(series[name]))
    panel.set_xlim(*limits([seeds for _, _, seeds in found], 0.0, *((-margin, margin) if margin else ())))
    unit.ticks(panel.xaxis, grid.most_ticks, signed=True)
    notes = [seeds_note([seeds for _, _, seeds in found])]
    notes += [f"Band: the margin of equivalence, ±{unit.text(margin)} {unit.difference_unit}."] if margin else []
    notes += figure_notes(view.cells[view.cells["cell_id"].isin(pairs["cell_id"])])
    farthest = max(abs(value) for _, _, seeds in found for value in seeds.values)
    message = verdicts_message(view, view.metric) or (
        f"No simulated cell is farther than {farthest / unit.unit.size:.2g} {unit.difference_unit} from its twin"
    )
    frame(grid.figure, view.heading(message), [], notes)
    return Drawn(
        f"{message}. {METRICS[view.metric].label} of a simulated cell minus that of its twin, which differs in the "
        "estimator alone. `directional` uses the twin's very perturbations, `moment` draws others of the same "
        f"distribution. {' '.join(notes)}",
        "Chart of differences between simulated cells and their finite-difference twins.",
        grid.figure,
    )


def _margin(view: View) -> float | None:
    """Return the one margin of equivalence that the matrix states for the metric, if there is one."""
    margins = {one.contrast.margin for one in view.study.judged if one.contrast.metric == view.metric}
    (margin,) = margins if len(margins) == 1 else (None,)
    return margin

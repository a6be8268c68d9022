"""The figures of a run, one set a (dataset, model): drawn from stored records, written as PNG and PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedfore.errors import StoreError
from fedfore.plots.accuracy import accuracy_along_costs, accuracy_by_series, accuracy_by_sparsity
from fedfore.plots.costs import device_costs
from fedfore.plots.estimators import estimator_figures
from fedfore.plots.kernel_figures import ntk_figures
from fedfore.plots.mask_figures import mask_figures
from fedfore.plots.study import Study, load_study
from fedfore.plots.style import FULL_WIDTH, themed
from fedfore.plots.tradeoff import cost_tradeoff
from fedfore.plots.view import Drawn, View
from fedfore.records.store import write_atomically


@dataclass(frozen=True)
class WrittenFigure:
    """A figure's files and its caption."""

    name: str
    caption: str
    png: Path
    pdf: Path


def draw_figures(study: Study, width: float = FULL_WIDTH) -> Iterator[Drawn]:
    """Draw every figure of a study, `width` inches wide; a (dataset, model) without an ok cell has none."""
    for (dataset, model), cells in study.by_setting():
        if not cells["ok"].any():
            continue
        view = View(study, dataset, model, cells[~cells["metered"]], width)
        trained = replace(view, cells=cells[cells["trained"]])
        with themed():
            figures = [
                *(_training_figures(trained) if trained.series else ()),
                *mask_figures(view),
                *ntk_figures(view),
            ]
        yield from figures
    metered = study.cells[study.cells["metered"]]
    for name, own in metered.groupby("dataset", sort=False):
        if own["ok"].any():
            with themed():
                tradeoff = cost_tradeoff(study, str(name), own, width)
            yield tradeoff


def _training_figures(view: View) -> Iterator[Drawn]:
    sparse = any(one.has_sparsity for one in view.series)
    yield accuracy_by_sparsity(view) if sparse else accuracy_by_series(view)
    yield from accuracy_along_costs(view)
    yield device_costs(view)
    yield from estimator_figures(view)


def write_figures(run: Path, width: float = FULL_WIDTH) -> list[WrittenFigure]:
    """Write the figures of a run into RUN/figures as PNG (150 dpi) and PDF, `width` inches wide.

    `fedfore.plots.style.COLUMN_WIDTH` gives figures for one column of a paper. Raises StoreError where no cell has
    ended well.
    """
    study = load_study(run)
    if study.ok.empty:
        raise StoreError(
            f"None of the {len(study.cells)} planned cells of {run} has status ok, so there is nothing to draw; "
            f"run the matrix, or see the reasons with `fedfore show {run}`."
        )
    folder = run / "figures"
    written = []
    for drawn in draw_figures(study, width):
        files = WrittenFigure(drawn.name, drawn.caption, folder / f"{drawn.name}.png", folder / f"{drawn.name}.pdf")
        write_atomically(files.png, png(drawn))
        write_atomically(files.pdf, _saved(drawn, "pdf", metadata={"CreationDate": None}))
        written.append(files)
    return written


def png(drawn: Drawn) -> bytes:
    """Return a figure as a PNG of 150 dpi, without the versions that drew it."""
    return _saved(drawn, "png", dpi=150, metadata={"Software": None})


def _saved(drawn: Drawn, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with themed():
        drawn.figure.savefig(buffer, format=format, **options)
    return buffer.getvalue()

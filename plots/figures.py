"""The figures of a run: planned from stored records, drawn when they are asked for, written as PNG and PDF."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedfore.errors import ConfigError, StoreError, suggestion
from fedfore.plots.architectures import by_architecture
from fedfore.plots.charts import (
    accuracy,
    clients,
    cosine,
    costs,
    curves,
    estimators,
    forest,
    heat_maps,
    kernel_figures,
    mask_figures,
    pareto,
    target_costs,
    tradeoff,
    tuning,
)
from fedfore.plots.drawing.style import themed
from fedfore.plots.guests import guest_figures
from fedfore.plots.study import Study, load_study
from fedfore.plots.view import DEFAULTS, Drawn, Options, Planned, View
from fedfore.records.metrics import METRICS
from fedfore.records.store import Run, write_atomically

DPI = 150
"""Dots an inch of a PNG."""
Offer = Callable[[View], Iterator[Planned]]
_OF_STUDY: tuple[Offer, ...] = (forest.figures, pareto.figures, tuning.figures)
"""What is drawn of all cells together, of whatever data sets and models."""
_OF_TRAINING: tuple[Offer, ...] = (
    accuracy.figures, curves.figures, target_costs.figures, heat_maps.figures, costs.figures, clients.figures,
    cosine.figures, estimators.figures,
)  # fmt: skip
"""What is drawn of the trained cells of one data set and architecture."""
_OF_SETTING: tuple[Offer, ...] = (mask_figures.figures, kernel_figures.figures)
"""What is drawn of all cells of one data set and model that did more than metering."""
_OF_METERING: tuple[Offer, ...] = (tradeoff.figures,)
"""What is drawn of the cells of one data set that did nothing but metering."""


@dataclass(frozen=True)
class WrittenFigure:
    """A figure's files; `caption` is None where none was asked for."""

    name: str
    png: Path
    pdf: Path
    caption: Path | None = None


def plan_figures(study: Study, options: Options = DEFAULTS) -> list[Planned]:
    """Return every figure that a study's records hold data for, not drawn, then those of plug-ins; names differ.

    Raises ConfigError for an unknown metric.
    """
    metric = options.metric
    if metric is not None and metric not in METRICS:
        raise ConfigError(
            f'There is no metric "{metric}".{suggestion(metric, METRICS)} `fedfore ls metrics` lists all of them.'
        )
    return [*_planned(View(study, study.cells, options)), *guest_figures(study)]


def _planned(whole: View) -> Iterator[Planned]:
    yield from _offered(_OF_STUDY, whole)
    metered = whole.cells["metered"]
    for together in by_architecture(whole.study, whole.cells[whole.cells["trained"]]):
        yield from _offered(_OF_TRAINING, View(together.study, together.cells, whole.options, together.subject))
    for _, cells in whole.cells[~metered].groupby(["dataset", "model"], sort=False):
        yield from _offered(_OF_SETTING, replace(whole, cells=cells))
    for _, cells in whole.cells[metered].groupby("dataset", sort=False):
        yield from _offered(_OF_METERING, replace(whole, cells=cells))


def _offered(offers: Sequence[Offer], view: View) -> Iterator[Planned]:
    """Yield what modules offer for a view; nothing where no cell of it ended well."""
    for offer in offers if view.cells["ok"].any() else ():
        yield from offer(view)


def chosen(planned: Sequence[Planned], names: Sequence[str]) -> list[Planned]:
    """Return the figures of these names, or of which a name is the beginning up to a hyphen; all for no name.

    Raises ConfigError for a name that is no figure's.
    """
    for name in names:
        if not any(_is_called(one, name) for one in planned):
            raise ConfigError(
                f'There is no figure "{name}" of these records.{suggestion(name, [one.name for one in planned])}'
            )
    return [one for one in planned if not names or any(_is_called(one, name) for name in names)]


def _is_called(planned: Planned, name: str) -> bool:
    return f"{planned.name}-".startswith(f"{name}-")


def write_figures(run: Path | Run, options: Options = DEFAULTS, only: Sequence[str] = ()) -> list[WrittenFigure]:
    """Write figures of a run into RUN/figures as PNG (150 dpi) and PDF.

    `only` are names as `chosen` takes them. `fedfore.plots.drawing.style.COLUMN_WIDTH` gives figures for one column of
    a paper. Raises StoreError where no cell has ended well, and ConfigError for a name or a metric that there is not.
    """
    study = drawable(run)
    return [
        _written(study.run.path / "figures", one, captions=options.captions)
        for one in chosen(plan_figures(study, options), only)
    ]


def drawable(run: Path | Run) -> Study:
    """Read a run of which there is something to draw. Raises StoreError where no cell has ended well."""
    study = load_study(run)
    folder = study.run.path
    if study.ok.empty:
        raise StoreError(
            f"None of the {len(study.cells)} planned cells of {folder} has status ok, so there is nothing to draw; "
            f"run the matrix, or see the reasons with `fedfore show {folder}`."
        )
    return study


def _written(folder: Path, planned: Planned, *, captions: bool) -> WrittenFigure:
    drawn = planned.draw()
    png_file, pdf_file, text = (folder / f"{planned.name}.{ending}" for ending in ("png", "pdf", "txt"))
    write_atomically(png_file, png(drawn))
    write_atomically(pdf_file, pdf(drawn))
    if captions:
        write_atomically(text, f"{planned.title}. {drawn.caption}\n")
    return WrittenFigure(planned.name, png_file, pdf_file, text if captions else None)


def saved(drawn: Drawn, ending: str) -> bytes:
    """Return a figure as a file with an ending of `FILES`. Raises ConfigError for another one."""
    if ending not in FILES:
        raise ConfigError(f"A figure is saved as {' or '.join(FILES)}, and not as {ending or 'a file without ending'}.")
    return FILES[ending](drawn)


def png(drawn: Drawn) -> bytes:
    """Return a figure as a PNG of `DPI`, without the versions that drew it."""
    return _saved(drawn, "png", dpi=DPI, metadata={"Software": None})


def pdf(drawn: Drawn) -> bytes:
    """Return a figure as a PDF, without the time at which it was drawn."""
    return _saved(drawn, "pdf", metadata={"CreationDate": None})


FILES: Mapping[str, Callable[[Drawn], bytes]] = {".png": png, ".pdf": pdf}


def _saved(drawn: Drawn, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with themed():
        drawn.figure.savefig(buffer, format=format, **options)
    return buffer.getvalue()

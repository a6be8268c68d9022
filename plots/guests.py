"""Figures of plug-ins, drawn of a study's table and lines; one that fails says why in its place."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from fedfore.errors import FedForeError, PluginError
from fedfore.plots.study import Study
from fedfore.plots.view import Drawn, Planned
from fedfore.records.declared import Plugin, known
from fedfore.records.store import load_table


def guest_figures(study: Study) -> Iterator[Planned]:
    """Yield the figures of the plug-ins that this process knows, not drawn; names begin with `plugin-`."""
    for plugin in known("figure").values():
        try:
            title, problem = plugin.load().title, None
        except FedForeError as error:
            title, problem = plugin.name, str(error)
        yield Planned(f"plugin-{plugin.name}", title, partial(_drawn, plugin, title, study, problem))


def _drawn(plugin: Plugin, title: str, study: Study, problem: str | None) -> Drawn:
    if problem is None:
        try:
            found: object = plugin.load().draw(load_table(study.run), partial(_lines, study))
            if not isinstance(found, Figure):
                raise PluginError(
                    f'The figure "{plugin.name}" returns a {type(found).__name__}, and no matplotlib Figure.'
                )
            return Drawn(plugin.summary, f"{title}. {plugin.summary}", found)
        except FedForeError as error:
            problem = str(error)
    figure = Figure(figsize=(6.0, 1.2))
    figure.text(0.02, 0.5, problem.replace("$", r"\$"), wrap=True, va="center")
    return Drawn(problem, problem, figure)


def _lines(study: Study, kind: str) -> pd.DataFrame:
    """Return the lines of a kind beside all records of a study, with the `cell_id` of each."""
    tables = [study.run.table_of_lines(cell, f"{kind}.jsonl").assign(cell_id=cell) for cell in study.cells["cell_id"]]
    return pd.concat([table for table in tables if len(table)], ignore_index=True) if tables else pd.DataFrame()

"""What the masks of a study leave of the dense model and of every layer, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fedfore.plots.fields import value_label
from fedfore.plots.mask_columns import LEFT, masked, short_layer
from fedfore.plots.points import records
from fedfore.plots.study import Study
from fedfore.plots.tables.point_table import PointTable, point_table
from fedfore.plots.tables.quantities import entries, share
from fedfore.plots.wording import DAGGER, DOUBLE_DAGGER, OVERSPENT

_TITLES = {
    "dataset": "Dataset",
    "model": "Model",
    "alpha": "Clients' labels",
    "series": "Method",
    "sparsity": "Sparsity",
}


def mask_tables(study: Study) -> Iterator[pd.DataFrame]:
    """Yield, as text for people, what is known of the masks of each (dataset, model), all in percent.

    A row is a point of a sparsity above 0 with an ok cell; the columns are what its masks leave of the dense model and
    the density of every prunable layer.
    """
    for _, cells in study.by_setting():
        found = masked(study, cells)
        if found.known:
            table = point_table(found.cells, None)
            titles = {name: f"{LEFT[name] if name in LEFT else short_layer(name)} (%)" for name in found.known}
            texts = pd.DataFrame({title: _percents(table, name) for name, title in titles.items()})
            shown = pd.concat([_point_columns(table.numbers), texts], axis=1)
            yield shown[table.numbers["n_ok"] > 0]


def _point_columns(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that say which points the rows are of, and of how many seeds."""
    shown = pd.DataFrame({title: numbers[name].astype(str) for name, title in _TITLES.items()})
    shown["Method"] += [f" {DAGGER}" if stale else "" for stale in numbers["stale"]]
    shown["Method"] += [f" {DOUBLE_DAGGER}" if withheld else "" for withheld in numbers["withheld"]]
    shown["Method"] += [f" {OVERSPENT}" if over else "" for over in numbers["overspent"]]
    shown["Sparsity"] = numbers["sparsity"].map(value_label)
    shown["Seeds ok / planned"] = [f"{row['n_ok']} / {row['n_planned']}" for row in records(numbers)]
    return shown


def _percents(table: PointTable, name: str) -> list[str]:
    return [f"{entry.text} {entry.interval}".rstrip() for entry in entries(table, share(table, name))]

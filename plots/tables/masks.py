"""What the masks of a study leave of the dense model and of every layer, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fedfore.plots.fields import value_label
from fedfore.plots.mask_columns import LEFT, masked, short_layer
from fedfore.plots.points import points, records
from fedfore.plots.study import Study
from fedfore.plots.wording import (
    DAGGER,
    DOUBLE_DAGGER,
    OVERSPENT,
    percent_text,
)

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
            numbers = points(found.cells, found.known)
            numbers = numbers[numbers["n_ok"] > 0]
            titles = {name: f"{LEFT[name] if name in LEFT else short_layer(name)} (%)" for name in found.known}
            texts = pd.DataFrame({title: _percents(numbers, name) for name, title in titles.items()}, numbers.index)
            yield pd.concat([_point_columns(numbers), texts], axis=1)


def _point_columns(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that say which points the rows are of, and of how many seeds."""
    shown = pd.DataFrame({title: numbers[name].astype(str) for name, title in _TITLES.items()})
    shown["Method"] += [f" {DAGGER}" if stale else "" for stale in numbers["stale"]]
    shown["Method"] += [f" {DOUBLE_DAGGER}" if withheld else "" for withheld in numbers["withheld"]]
    shown["Method"] += [f" {OVERSPENT}" if over else "" for over in numbers["overspent"]]
    shown["Sparsity"] = numbers["sparsity"].map(value_label)
    shown["Seeds ok / planned"] = [f"{row['n_ok']} / {row['n_planned']}" for row in records(numbers)]
    return shown


def _percents(numbers: pd.DataFrame, metric: str) -> list[str]:
    return [percent_text(row[metric], row[f"{metric}_half_width"]) for row in records(numbers)]

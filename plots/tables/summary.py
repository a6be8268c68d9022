"""The summary of a study over seeds, and what its masks leave of every layer, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fedfore.plots.budget import data_passes_texts
from fedfore.plots.fields import value_label
from fedfore.plots.mask_columns import LEFT, masked, short_layer
from fedfore.plots.points import points, records
from fedfore.plots.study import Study
from fedfore.plots.wording import (
    DAGGER,
    DOUBLE_DAGGER,
    HEADLINES,
    OVERSPENT,
    UNKNOWN,
    axis_label,
    human_bytes,
    human_count,
    percent_text,
)
from fedfore.records.metrics import METRICS

_SUMMARY_METRICS = (
    *HEADLINES, "peak_device_bytes", "device_step_flops", "train_flops_total", "setup_flops_total",
    "uplink_bytes", "downlink_bytes", "data_passes",
)  # fmt: skip
POINT_TITLES = {
    "dataset": "Dataset",
    "model": "Model",
    "alpha": "Clients' labels",
    "series": "Method",
    "sparsity": "Sparsity",
}


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a (dataset, model, alpha, series, sparsity) of a study's cells, as numbers.

    `n_ok` and `n_planned` count seeds. Every metric is a mean over the ok seeds in its own unit (accuracy a fraction),
    `<metric>_half_width` its 95% Student-t half-width, NaN at fewer than two seeds; `stale` marks old records.
    """
    return points(cells, _SUMMARY_METRICS)


def presentable(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a summary as text for people: accuracy in percent, bytes and FLOPs in human units, stale rows marked.

    A metric that no row knows, or that is 0 in all, has no column; nor have data passes that are the same in all.
    """
    shown = _point_columns(numbers)
    for metric in HEADLINES:
        if numbers[metric].notna().any():
            shown[axis_label(metric)] = _percents(numbers, metric)
    passes = data_passes_texts(numbers["data_passes"])
    if passes:
        shown[METRICS["data_passes"].label] = passes
    for metric, write in (
        ("peak_device_bytes", human_bytes),
        ("device_step_flops", human_count),
        ("train_flops_total", human_count),
        ("uplink_bytes", human_bytes),
        ("downlink_bytes", human_bytes),
    ):
        if numbers[metric].fillna(0.0).any():
            shown[axis_label(metric)] = [write(value) if value == value else UNKNOWN for value in numbers[metric]]
    return shown


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
    shown = pd.DataFrame({title: numbers[name].astype(str) for name, title in POINT_TITLES.items()})
    shown["Method"] += [f" {DAGGER}" if stale else "" for stale in numbers["stale"]]
    shown["Method"] += [f" {DOUBLE_DAGGER}" if withheld else "" for withheld in numbers["withheld"]]
    shown["Method"] += [f" {OVERSPENT}" if over else "" for over in numbers["overspent"]]
    shown["Sparsity"] = numbers["sparsity"].map(value_label)
    shown["Seeds ok / planned"] = [f"{row['n_ok']} / {row['n_planned']}" for row in records(numbers)]
    return shown


def _percents(numbers: pd.DataFrame, metric: str) -> list[str]:
    return [percent_text(row[metric], row[f"{metric}_half_width"]) for row in records(numbers)]

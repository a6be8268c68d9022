"""The lines beside records as rows of tables: an evaluation, a layer, a client, each with its cell's settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.judgement.selection import settings
from fedfore.judgement.sides import FAILED
from fedfore.plots.lines import lines_of
from fedfore.plots.study import Study
from fedfore.records.lines import ADJUSTMENTS, CLIENTS, DIAGNOSTICS, LAYERS, LINES, ROUNDS
from fedfore.records.rows import Metric
from fedfore.records.store import Run, load_table

CELLS = "cells"
KINDS: Mapping[str, str] = {name.removesuffix(".jsonl"): name for name in LINES}
"""The files of lines by what `--rows` calls them."""
_IDENTITY = ("cell_id", "status", "stage", "seed")
_DENSITY = "density"
_OWN = (
    Metric("device_flops", "FLOPs", "lower", "Device FLOPs", "Those of all rounds until then."),
    Metric(_DENSITY, "fraction", "descriptive", "Density", "Kept weights / weights of a layer."),
)
LINE_METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _OWN}
"""Numbers of lines, but not of records, that have a label of their own."""


@dataclass(frozen=True)
class _Kind:
    """What tells the lines of a cell apart, and which of their numbers a table shows unless others are asked for."""

    axis: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class LineCells:
    """The lines of a study's cells as rows like those of its table, and their metrics.

    `axis` is the column that tells the lines of a cell apart.
    """

    cells: pd.DataFrame
    axis: str
    metrics: tuple[str, ...]


_TABLES: Mapping[str, _Kind] = {
    ROUNDS: _Kind("round", ("test_accuracy",)),
    DIAGNOSTICS: _Kind("moment", ("grad_cosine", "grad_rel_error", "fd_scalar_error")),
    LAYERS: _Kind("layer", (_DENSITY,)),
    ADJUSTMENTS: _Kind("round", ("pruned", "grown", "churn")),
    CLIENTS: _Kind("client", ("test_accuracy",)),
}


def line_rows(run: Run, kind: str) -> pd.DataFrame:
    """Return one row a line of a kind (`KINDS`): id, status and settings of its cell, then what stands in the line.

    Raises StoreError for a run that cannot be read.
    """
    cells = load_table(run)
    lines = _lines(run, cells["cell_id"], KINDS[kind])
    return cells[[*_IDENTITY, *settings(cells)]].merge(lines, on="cell_id")


def line_cells(study: Study, kind: str, columns: tuple[str, ...] | None) -> LineCells:
    """Return the lines of a kind of the cells that ended well, with the numbers that are asked for, or its own.

    A cell that failed has a row without numbers wherever others of its series have one.

    Raises ConfigError where there are no such lines, where they are no table, and for a number that they do not have.
    """
    if KINDS[kind] not in _TABLES:
        raise ConfigError(f"{kind.capitalize()} are lists of numbers, and no table; take --csv, --json or --parquet.")
    own = _TABLES[KINDS[kind]]
    lines = _lines(study.run, study.ok["cell_id"], KINDS[kind])
    if lines.empty:
        raise ConfigError(f"{study.run.path} has no {kind}.")
    if KINDS[kind] == LAYERS:
        lines = lines.assign(**{_DENSITY: lines["kept"] / lines["size"]})
    numbers = [str(name) for name in lines.select_dtypes("number").columns if name != own.axis]
    for name in columns or ():
        if name not in numbers:
            raise ConfigError(f'{kind.capitalize()} have no number "{name}"; they have {", ".join(numbers)}.')
    beside = study.cells.drop(columns=[name for name in lines if name in study.cells and name != "cell_id"])
    metrics = columns or tuple(name for name in own.shown if name in numbers)
    known = beside.merge(lines, on="cell_id")
    failed = beside[beside["status"].isin(FAILED)]
    failed = failed.merge(known[["series", own.axis]].drop_duplicates(), on="series")
    return LineCells(pd.concat([known, failed], ignore_index=True).copy(), own.axis, metrics)  # in one piece


def _lines(run: Run, ids: Iterable[str], file: str) -> pd.DataFrame:
    """Return the lines of these cells with their `cell_id`, without rows where there are none."""
    found = lines_of(run, ids, file)
    return found if len(found) else pd.DataFrame(columns=["cell_id", *LINES[file].required])

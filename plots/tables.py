"""Tables of a run: the summary over seeds for readers, and every record as one tidy table for other programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.errors import StoreError, printable
from fedfore.plots.budget import data_passes_texts
from fedfore.plots.fields import value_label
from fedfore.plots.footnotes import table_notes
from fedfore.plots.mask_columns import LEFT, masked, short_layer
from fedfore.plots.points import points, records
from fedfore.plots.study import Study, load_study
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
from fedfore.records.markup import escaped, latex, literal, markdown
from fedfore.records.metrics import METRICS
from fedfore.records.store import load_table, open_run

_SUMMARY_METRICS = (
    *HEADLINES, "peak_device_bytes", "device_step_flops", "train_flops_total", "setup_flops_total",
    "uplink_bytes", "downlink_bytes", "data_passes",
)  # fmt: skip
_HEADERS = {
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
    shown = pd.DataFrame({title: numbers[name].astype(str) for name, title in _HEADERS.items()})
    shown["Method"] += [f" {DAGGER}" if stale else "" for stale in numbers["stale"]]
    shown["Method"] += [f" {DOUBLE_DAGGER}" if withheld else "" for withheld in numbers["withheld"]]
    shown["Method"] += [f" {OVERSPENT}" if over else "" for over in numbers["overspent"]]
    shown["Sparsity"] = numbers["sparsity"].map(value_label)
    shown["Seeds ok / planned"] = [f"{row['n_ok']} / {row['n_planned']}" for row in records(numbers)]
    return shown


def _percents(numbers: pd.DataFrame, metric: str) -> list[str]:
    return [percent_text(row[metric], row[f"{metric}_half_width"]) for row in records(numbers)]


def _markdown(shown: pd.DataFrame) -> str:
    return markdown(shown.map(literal))


def _latex(shown: pd.DataFrame) -> str:
    return latex(shown, words=len(_HEADERS))


def _plain(value: Any) -> Any:
    """Return a cell of the table as JSON's types; NaN and pandas' missing values become None."""
    if isinstance(value, list | dict):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _json(table: pd.DataFrame) -> str:
    rows = [{name: _plain(value) for name, value in row.items()} for row in records(table)]
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with one type a column: lists as JSON, columns of mixed types as text."""
    flat = table.copy()
    for name in flat.columns[[dtype.kind == "O" for dtype in flat.dtypes]]:
        values = [_plain(value) for value in flat[name]]
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 or kinds & {list, dict}:
            values = [json.dumps(v) if isinstance(v, list | dict) else None if v is None else str(v) for v in values]
        flat[name] = pd.Series(values, index=flat.index, dtype=object)
    return flat


def _harmless(flat: pd.DataFrame) -> pd.DataFrame:
    """Return the table with no text that a spreadsheet would compute or a terminal would obey."""

    def text(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        value = value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
        return f"'{value}" if value.startswith(_FORMULAS) and not _is_number(value) else value

    return flat.apply(lambda column: column.map(text) if column.dtype.kind == "O" else column)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(table: pd.DataFrame) -> bytes:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise StoreError(
            'Writing Parquet needs the package pyarrow; install it with `pip install "fedfore[parquet]"`, or take csv.'
        ) from None
    buffer = io.BytesIO()
    _flat(table).to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


_OF_STUDY: Mapping[str, Callable[[pd.DataFrame], str]] = {"markdown": _markdown, "latex": _latex}
_NOTE: Mapping[str, Callable[[str], str]] = {"markdown": "{}\n".format, "latex": lambda note: f"{escaped(note)}\n"}
_REASON: Mapping[str, Callable[[str], str]] = {"markdown": "- {}".format, "latex": "% {}".format}
_OF_TABLE: Mapping[str, Callable[[pd.DataFrame], str | bytes]] = {
    "csv": lambda table: _harmless(_flat(table)).to_csv(index=False),
    "json": _json,
    "parquet": _parquet,
}
_FORMULAS = ("=", "+", "-", "@")
FORMATS = (*_OF_STUDY, *_OF_TABLE)


def _unfinished(study: Study) -> list[str]:
    """Return a line on each reason for which cells have no result, the most frequent first."""
    cells = study.cells[~study.cells["ok"]].fillna({"reason": "no reason recorded"})
    groups = [(tuple(map(str, key)), list(names)) for key, names in cells.groupby(["status", "reason"])["series"]]
    return [
        f"{len(names)} {status.replace('_', ' ')}: {printable(reason)} ({', '.join(sorted(set(names)))})"
        for (status, reason), names in sorted(groups, key=lambda group: -len(group[1]))
    ]


def render(run: Path, format: str, *, reasons: bool = False) -> str | bytes:
    """Return a run as `markdown` or `latex` (the summary) or as `csv`, `json` or `parquet` (one row a planned cell).

    The tables of masks follow the summary of a run that trains nothing, then footnotes and, if `reasons` are asked for,
    those of cells without a result. LaTeX needs the package booktabs. Raises StoreError for an unreadable run, or where
    pyarrow is missing for parquet.
    """
    if format in _OF_STUDY:
        study = load_study(run)
        masks = () if study.cells["trained"].any() else mask_tables(study)
        tables = [_OF_STUDY[format](shown) for shown in (presentable(summary(study.cells)), *masks)]
        notes = table_notes(study.cells)
        unfinished = [_REASON[format](line) for line in _unfinished(study)] if reasons else []
        return "\n".join([*tables, *(_NOTE[format](note) for note in notes), *unfinished])
    return _OF_TABLE[format](load_table(open_run(run)))

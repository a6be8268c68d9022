"""Tidy tables as files for other programs: CSV, JSON and Parquet, of the same rows and columns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from fedfore.errors import StoreError, printable
from fedfore.plots.points import records

_FORMULAS = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def csv(table: pd.DataFrame) -> str:
    """Return a table as CSV, with no text that a spreadsheet would compute or a terminal would obey."""
    flat = _flat(table)
    return flat.apply(lambda column: column.map(_harmless) if column.dtype.kind == "O" else column).to_csv(index=False)


def as_json(table: pd.DataFrame) -> str:
    """Return a table as a list of JSON objects; what is not known is null."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in records(table)]
    return json.dumps(rows, indent=1, allow_nan=False) + "\n"


def parquet(table: pd.DataFrame) -> bytes:
    """Return a table as a Parquet file. Raises StoreError where pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise StoreError(
            'Writing Parquet needs the package pyarrow; install it with `pip install "fedfore[parquet]"`, or take csv.'
        ) from None
    buffer = io.BytesIO()
    _flat(table).to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


EXPORTS: Mapping[str, Callable[[pd.DataFrame], str | bytes]] = {"csv": csv, "json": as_json, "parquet": parquet}


def _plain(value: Any) -> Any:
    """Return a cell of a table as JSON's types; NaN and pandas' missing values become None."""
    if isinstance(value, list | dict):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


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


def _harmless(value: Any) -> Any:
    """Return a text with a quote before a formula, and without characters that do not print."""
    if not isinstance(value, str):
        return value
    value = value if value.isprintable() else "\n".join(map(printable, value.split("\n")))
    return f"'{value}" if value.startswith(_FORMULAS) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Tidy tables as files for other programs: CSV, JSON and Parquet, of the same rows and columns."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from fedfore.errors import StoreError, printable
from fedfore.plots.points import records
from fedfore.records.metrics import FIELDS

_FORMULAS = ("=", "+", "-", "@")
"""What a spreadsheet takes for the beginning of a formula."""


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with one type a column: lists as JSON, columns of mixed types as text, truth and text as such.

    Alpha is text, also where it is a number in all rows; a column that is null throughout has the type of its field.
    """
    table = _with_one_alpha(table)
    mixed = [str(name) for name, dtype in table.dtypes.items() if dtype.kind == "O"]
    return table.assign(**{name: _typed(name, table[name]) for name in mixed})


def csv(table: pd.DataFrame) -> str:
    """Return a table as CSV, with no text that a spreadsheet would compute or a terminal would obey."""
    flat = tidy(table)
    return flat.apply(lambda column: column.map(_harmless) if column.dtype == "string" else column).to_csv(index=False)


def as_json(table: pd.DataFrame) -> str:
    """Return a table as a list of JSON objects; what is not known is null."""
    rows = [{name: _plain(value) for name, value in row.items()} for row in records(_with_one_alpha(table))]
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
    tidy(table).to_parquet(buffer, index=False, engine="pyarrow")
    return buffer.getvalue()


EXPORTS: Mapping[str, Callable[[pd.DataFrame], str | bytes]] = {"csv": csv, "json": as_json, "parquet": parquet}


def _plain(value: Any) -> Any:
    """Return a cell of a table as JSON's types; NaN and pandas' missing values become None."""
    if isinstance(value, list | dict):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _with_one_alpha(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with alpha as text: a number and "iid" are no one type."""
    return table.assign(alpha=table["alpha"].map(str)) if "alpha" in table else table


def _typed(name: str, column: pd.Series[Any]) -> pd.Series[Any]:
    values = [_plain(value) for value in column]
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool} or (not kinds and name in FIELDS and FIELDS[name].type.startswith("true")):
        return pd.Series(values, column.index, dtype="boolean")
    if kinds and kinds <= {int, float}:
        return pd.to_numeric(pd.Series(values, column.index, dtype=object))
    texts = [json.dumps(one) if isinstance(one, list | dict) else None if one is None else str(one) for one in values]
    return pd.Series(texts, column.index, dtype="string")


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

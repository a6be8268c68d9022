"""What a field of a record says of itself, where it stands. Pure data: no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

Direction = Literal["higher", "lower", "descriptive"]
FRACTION = (0.0, 1.0)
_ROW = "row"
_TYPES = {
    "str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Number": "number or null",
    "str | None": "text or null", "bool | None": "true, false or null", "str | float": "text or number",
    "Status": "text", "list[str]": "list of texts", "dict[str, Any]": "object",
    "dict[str, Any] | None": "object or null",
}  # fmt: skip
"""The types that a field of a record can have, in words."""


def _finite(value: float) -> float:
    try:
        if math.isfinite(float(value)):
            return value
    except OverflowError:
        pass
    raise ValueError("a number must be finite and fit into 64 bits")


Number = Annotated[int | float, AfterValidator(_finite)] | None
"""A whole or real number; null where it was not measured."""


@dataclass(frozen=True)
class Row:
    """One field of a record: its type in words, its unit where it has one, and what it means."""

    name: str
    type: str
    unit: str | None
    description: str


@dataclass(frozen=True)
class Metric:
    """One measured quantity, or one that is the sum of its `parts`, which are measured.

    `limits` are the values it can take at all; None leaves an end open.
    """

    name: str
    unit: str
    direction: Direction
    label: str
    description: str
    limits: tuple[float | None, float | None] = (0.0, None)
    parts: tuple[str, ...] = ()


def measured(
    unit: str,
    direction: Direction,
    label: str,
    description: str,
    limits: tuple[float | None, float | None] = (0.0, None),
) -> Any:
    """Return the dataclass field of a number that a cell is measured to have (see `Metric`), null by default."""
    return dataclasses.field(default=None, metadata={_ROW: Metric("", unit, direction, label, description, limits)})


def told(description: str, *, unit: str | None = None, default: Any = MISSING) -> Any:
    """Return the dataclass field of what is no metric."""
    return dataclasses.field(default=default, metadata={_ROW: Row("", "", unit, description)})


def metrics_of(record: type) -> Mapping[str, Metric]:
    """Return the metrics among the fields of a dataclass, by name."""
    rows = {item.name: item.metadata[_ROW] for item in dataclasses.fields(record)}
    return {name: dataclasses.replace(row, name=name) for name, row in rows.items() if isinstance(row, Metric)}


def rows_of(record: type) -> Mapping[str, Row]:
    """Return a row a field of a dataclass, by name."""
    return {
        item.name: Row(item.name, _TYPES[str(item.type)], item.metadata[_ROW].unit, item.metadata[_ROW].description)
        for item in dataclasses.fields(record)
    }

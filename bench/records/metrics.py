"""The metrics and all fields of a record by name, as tables: labels, units, directions and meanings. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from fedfore.cell import Account
from fedfore.records.derived import DERIVED
from fedfore.records.record import Record
from fedfore.records.rows import Metric, Row, metrics_of, rows_of

MEASURED: Mapping[str, Metric] = metrics_of(Record)
"""Every number that a cell is measured to have; a record stores them."""
METRICS: Mapping[str, Metric] = {**MEASURED, **DERIVED}
"""Every number that a table of cells has: those that are measured, and those that follow from them."""
FIELDS: Mapping[str, Row] = rows_of(Record)
"""Every field of a record, the measured metrics among them."""
PEAK_PARTS = tuple(f"peak_device_bytes_{part}" for part in get_args(Account))

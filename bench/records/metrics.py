"""The metrics and all fields of a record by name, as tables: labels, units, directions and meanings. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from fedfore.cell import Account
from fedfore.records.derived import DERIVED
from fedfore.records.record import Record
from fedfore.records.rows import Metric, Row, metrics_of, rows_of

MEASURED: Mapping[str, Metric] = metrics_of(Record)
"""Every number that a cell is measured to have; a record stores them."""
SHIPPED: Mapping[str, Metric] = {**MEASURED, **DERIVED}
"""Every number that the suite has: those that are measured, and those that follow from them."""
METRICS: dict[str, Metric] = dict(SHIPPED)
"""Every number that a table of cells has: those of the suite, and those of plug-ins in the runs that this process has
read."""
FIELDS: Mapping[str, Row] = rows_of(Record)
"""Every field of a record, the measured metrics among them."""


def guest_values(described: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the values of metrics of plug-ins in a record, which are described there, and know these metrics by name.

    A name that the suite has for something else is left out.
    """
    values = {}
    for name, own in (described or {}).items():
        if name not in FIELDS and name not in DERIVED:
            limits = tuple(own["limits"])
            METRICS[name] = Metric(name, own["unit"], own["direction"], own["title"], own["description"], limits)
            values[name] = own["value"]
    return values


PEAK_PARTS = tuple(f"peak_device_bytes_{part}" for part in get_args(Account))

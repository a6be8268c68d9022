"""What every method would cost a device, as a table: those first that fit into a device's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fedfore.plots.tables.exports import EXPORTS
from fedfore.plots.tables.forms import FORMS, Page
from fedfore.plots.tables.grid import Column, Entry, Grid
from fedfore.plots.wording import UNKNOWN, human_bytes, human_count
from fedfore.records.metrics import METRICS

PEAK = "peak_device_bytes"
COSTS: Mapping[str, str] = {
    PEAK: "Peak memory",
    "device_step_flops": "FLOPs of a step",
    "uplink_bytes_per_client_round": "Up, a round",
    "downlink_bytes_per_client_round": "Down, a round",
}
"""The columns of costs, by metric."""
READING = (
    "The peak is the larger of setup and training; FLOPs are those of one step of training.",
    "Bytes are those of one client in a training round, once messages and states are no longer empty.",
)


def fitting_table(
    records: Sequence[Mapping[str, Any]], reasons: Mapping[str, str | None], memory: int | None, form: str
) -> str:
    """Return a table of records of metering, one a method, of which those that fit into `memory` bytes stand first.

    `form` is plain, markdown, latex, csv or json; `reasons` say why a method has no record.
    """
    ordered = sorted(records, key=lambda record: (record[PEAK], record["method"]))
    if form in EXPORTS:
        return str(EXPORTS[form](_table(ordered, memory)))
    return FORMS[form](_page(ordered, reasons, memory))


def _table(records: Sequence[Mapping[str, Any]], memory: int | None) -> pd.DataFrame:
    rows = []
    for record in records:
        said = {name: record[name] for name in ("method", "dataset", "model", "sparsity_asked")}
        fits = {} if memory is None else {"memory_bytes": memory, "fits_memory": record[PEAK] <= memory}
        rows.append(
            {**said, "batch_size": record["train"]["batch_size"], **fits, **{name: record[name] for name in COSTS}}
        )
    return pd.DataFrame(rows)


def _page(records: Sequence[Mapping[str, Any]], reasons: Mapping[str, str | None], memory: int | None) -> Page:
    fits = [] if memory is None else [Column(f"Fits {human_bytes(memory)}")]
    columns = (Column("Method"), Column("Sparsity"), *fits, *map(Column, COSTS.values()))
    rows = tuple(_row(record, memory) for record in records)
    fitting = sum(memory is not None and record[PEAK] <= memory for record in records)
    blocks = (fitting,) if 0 < fitting < len(rows) else ()
    first = records[0] if records else {}
    settings = (f"{first['model']} on {first['dataset']}, batch {first['train']['batch_size']}.",) if first else ()
    return Page(
        Grid(columns, rows, len(columns) - len(COSTS), blocks, ()),
        notes=(*settings, *READING),
        reasons=tuple(f"{name}: {reason}" for name, reason in reasons.items()),
    )


def _row(record: Mapping[str, Any], memory: int | None) -> tuple[Entry, ...]:
    words = [record["method"], f"{record['sparsity_asked']:g}"]
    if memory is not None:
        words.append("yes" if record[PEAK] <= memory else f"needs {human_bytes(record[PEAK])}")
    return tuple(Entry(text) for text in [*words, *(_cost(name, record[name]) for name in COSTS)])


def _cost(name: str, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return human_bytes(value) if METRICS[name].unit == "bytes" else human_count(value)

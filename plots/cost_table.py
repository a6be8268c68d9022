"""The costs of one record as a table for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from fedfore.plots.fields import value_label
from fedfore.plots.wording import human_bytes, human_count
from fedfore.records.markup import plain
from fedfore.records.metrics import METRICS, PEAK_PARTS

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Model": (
        "num_parameters", "num_prunable", "sparsity_measured", "layer_density_min", "forward_macs_dense",
        "forward_macs_masked",
    ),
    "Compute of a device": ("device_step_flops", "perturbation_ops", "device_setup_flops"),
    "Memory of a device": (
        "peak_device_bytes_train", "peak_device_bytes_setup", "peak_device_bytes", "peak_device_bytes_sparse",
    ),
    "What the peak holds": PEAK_PARTS,
    "Communication": ("uplink_bytes_per_client_round", "downlink_bytes_per_client_round"),
}  # fmt: skip


def cost_frame(record: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a known cost of a record: its section, metric, value and unit, and what the metric says."""
    rows = [(section, name, METRICS[name]) for section, names in SECTIONS.items() for name in names]
    known = [
        {
            "section": section,
            "metric": name,
            "value": record[name],
            "unit": metric.unit,
            "label": metric.label,
            "meaning": metric.description,
        }
        for section, name, metric in rows
        if record[name] is not None
    ]
    return pd.DataFrame(known)


def cost_table(record: Mapping[str, Any]) -> str:
    """Return the costs of a record with their labels, in human units and exactly; what is unknown has no row."""
    rows: list[tuple[str, str, str]] = []
    for section, names in SECTIONS.items():
        known = [name for name in names if record[name] is not None]
        rows += [("", "", ""), (section, "", ""), *(_row(name, record[name]) for name in known)]
    uncounted = [f"\nNot in the FLOPs: {record['uncounted_ops']}."] if record["uncounted_ops"] else []
    return "\n".join([_title(record), plain(rows, ("left", "right", "right")), *uncounted])


def _title(record: Mapping[str, Any]) -> str:
    words = [record["method"], record["dataset"], record["model"], f"sparsity {value_label(record['sparsity_asked'])}"]
    return ", ".join([*words, f"batch {record['train']['batch_size']}"])


def _row(name: str, value: float) -> tuple[str, str, str]:
    metric = METRICS[name]
    label = f"  {metric.label}"
    if metric.unit == "fraction":
        return label, f"{value:.3g}", ""
    human = human_bytes if metric.unit == "bytes" else human_count
    return label, human(value), f"{value:,.0f} {metric.unit}"

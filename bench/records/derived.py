"""Metrics that are sums of measured ones: computed wherever a table of cells is made, and never stored.

To add one, add its line here: `load_table` gives it a column; filters, figures and tables know its name. Pure data: no
torch, no pandas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedfore.records.rows import Metric


def _sum(name: str, unit: str, label: str, parts: Sequence[str], text: str) -> Metric:
    description = f"{text} Derived, not stored: {' + '.join(parts)}."
    return Metric(name, unit, "lower", label, description, parts=tuple(parts))


_SUMS = (
    _sum("device_flops_total", "FLOPs", "Total device FLOPs", ("setup_flops_total", "train_flops_total"),
        "Device FLOPs summed over clients and all rounds, those of setup included."),
    _sum("total_bytes", "bytes", "Total bytes, up and down", ("uplink_bytes", "downlink_bytes"),
        "Encoded bytes in both directions, all rounds."),
)  # fmt: skip
DERIVED: Mapping[str, Metric] = {metric.name: metric for metric in _SUMS}

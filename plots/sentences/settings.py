"""The setting in which a comparison of a contrast stands, as figures and sentences say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedfore.plots.fields import field_label, value_label
from fedfore.plots.heterogeneity import alpha_label
from fedfore.plots.looks import Look


def setting_label(setting: Mapping[str, Any], looks: Mapping[str, Look]) -> str:
    """Return the values of a setting in words, methods by their labels: "FedTiny, sparsity 0.8, iid"; "" for none."""
    return ", ".join(filter(None, (_value(name, value, looks) for name, value in setting.items())))


def _value(name: str, value: Any, looks: Mapping[str, Look]) -> str:
    if name == "alpha":
        return alpha_label(value)
    if name == "method":
        return looks[value].label
    if name == "sparsity":
        return f"sparsity {value_label(value)}"
    return str(value) if name in ("dataset", "model") else field_label(name, value)

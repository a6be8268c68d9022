"""The files that have one JSON object a line: beside a cell's record or, packed, of all cells of a study. No torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROUNDS = "rounds.jsonl"
DIAGNOSTICS = "diagnostics.jsonl"
LAYERS = "layers.jsonl"
ADJUSTMENTS = "adjustments.jsonl"
CLIENTS = "clients.jsonl"
EIGENVALUES = "eigenvalues.jsonl"


@dataclass(frozen=True)
class LinesFile:
    """A kind of file: what a line is of, and the keys that every line has; numbers or null, but for those listed."""

    of: str
    required: tuple[str, ...]
    words: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Keys of lists of numbers."""

    def fits(self, line: Mapping[str, Any]) -> bool:
        """Return whether a JSON object is a line of such a file."""
        return all(key in line for key in self.required) and all(map(self._may_hold, line, line.values()))

    def _may_hold(self, key: str, value: object) -> bool:
        if key in self.words:
            return isinstance(value, str)
        if key in self.lists:
            return isinstance(value, list) and all(map(_is_number, value))
        return _is_number(value)


LINES: Mapping[str, LinesFile] = {
    ROUNDS: LinesFile(
        "an evaluation",
        ("round", "data_passes", "uplink_bytes", "downlink_bytes", "device_flops", "test_accuracy", "test_loss"),
    ),
    DIAGNOSTICS: LinesFile("a moment at which gradients were diagnosed", ("moment", "round")),
    LAYERS: LinesFile("a prunable layer", ("layer", "size", "kept", "forward_macs_dense"), words=("layer",)),
    ADJUSTMENTS: LinesFile("a change of the mask in training", ("round", "pruned", "grown", "churn")),
    CLIENTS: LinesFile("a client", ("client", "examples", "class_counts", "test_accuracy"), lists=("class_counts",)),
    EIGENVALUES: LinesFile(
        "a kernel that was measured", ("client", "inputs", "eigenvalues"), words=("inputs",), lists=("eigenvalues",)
    ),
}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) <= sys.float_info.max)

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
    """A kind of file: what a line is of, and the keys that every line has; numbers or null, but for those listed.

    `known` are the numbers that are never null, `positive` those that are above 0 too; of `either` one is known.
    """

    of: str
    required: tuple[str, ...]
    words: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    """Keys of lists of numbers."""

    known: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()
    either: tuple[str, ...] = ()

    def problem(self, line: Mapping[str, Any]) -> str | None:
        """Return what makes a JSON object no line of such a file, in words, or None where it is one."""
        lacking = [key for key in self.required if key not in line]
        odd = [key for key, value in line.items() if not self._may_hold(key, value)]
        if self.either and all(line.get(key) is None for key in self.either):
            odd.append(self.either[0])
        return f"it lacks {lacking[0]}" if lacking else f"{odd[0]} cannot be {line[odd[0]]!r}" if odd else None

    def _may_hold(self, key: str, value: object) -> bool:
        if key in self.words:
            return isinstance(value, str)
        if key in self.lists:
            return isinstance(value, list) and all(map(_is_number, value))
        if key in self.positive:
            return isinstance(value, int | float) and _is_number(value) and value > 0
        return _is_number(value) and (value is not None or key not in self.known)


LINES: Mapping[str, LinesFile] = {
    ROUNDS: LinesFile(
        "an evaluation",
        ("round", "data_passes", "uplink_bytes", "downlink_bytes", "device_flops", "test_accuracy", "test_loss"),
        known=("round",),
        either=("test_accuracy", "validation_accuracy"),
    ),
    DIAGNOSTICS: LinesFile("a moment at which gradients were diagnosed", ("moment", "round"), known=("round",)),
    LAYERS: LinesFile(
        "a prunable layer",
        ("layer", "size", "kept", "forward_macs_dense"),
        words=("layer",),
        known=("kept", "forward_macs_dense"),
        positive=("size",),
    ),
    ADJUSTMENTS: LinesFile("a change of the mask in training", ("round", "pruned", "grown", "churn"), known=("round",)),
    CLIENTS: LinesFile("a client", ("client", "examples", "class_counts", "test_accuracy"), lists=("class_counts",)),
    EIGENVALUES: LinesFile(
        "a kernel that was measured", ("client", "inputs", "eigenvalues"), words=("inputs",), lists=("eigenvalues",)
    ),
}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) <= sys.float_info.max)

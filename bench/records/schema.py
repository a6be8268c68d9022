"""What a record is: its fields, how one is made, and what tells a record from something else. No torch."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedfore.cell import SIMULATED, Cell, cell_from_json, cell_to_json
from fedfore.records.metrics import METRICS

SCHEMA_VERSION = 1
STATUSES = ("ok", "skipped", "failed", "diverged", "timeout", "out_of_memory")
DONE = ("ok", "skipped")
VOLATILE = ("seconds", "utc", "attempt", "environment", "git")
"""A field whose name contains one of these may differ between two runs of one cell; no other may."""
_NAMES: Mapping[str, type | tuple[type, ...]] = {
    "method": str, "dataset": str, "model": str, "sparsity_asked": (int, float), "alpha": (str, int, float),
    "seed": int, "estimator": (str, type(None)), "train": dict, "params": dict, "uses": list, "files": list,
    "attempt": int, "hash_scheme": int, "simulated": bool,
    **dict.fromkeys(
        (
            "code_sha256", "partition_sha256", "reason", "role", "environment", "git_commit", "started_utc",
            "finished_utc",
        ),
        (str, type(None)),
    ),
}  # fmt: skip
_LINES: Mapping[str, tuple[str, ...]] = {
    "rounds.jsonl": (
        "round", "data_passes", "uplink_bytes", "downlink_bytes", "device_flops", "test_accuracy", "test_loss",
    ),
    "diagnostics.jsonl": ("moment", "round"),
    "layers.jsonl": ("layer", "size", "kept", "forward_macs_dense"),
    "adjustments.jsonl": ("round", "pruned", "grown", "churn"),
    "clients.jsonl": ("client", "examples", "class_counts", "test_accuracy"),
    "eigenvalues.jsonl": ("client", "inputs", "eigenvalues"),
}  # fmt: skip
"""What every line of a file holds."""
_WORDS, _LISTS = ("layer", "inputs"), ("class_counts", "eigenvalues")
"""The keys of lines that hold no number, but a word or a list of numbers."""


@dataclass(frozen=True)
class Origin:
    """What a record was made with: the code at the start of the run, the environment's hash, and which attempt it is.

    `uses` are the axes of the method, `role` is where its file stands.
    """

    role: str
    uses: tuple[str, ...]
    code_sha256: str | None
    hash_scheme: int
    git_commit: str | None
    environment: str
    attempt: int


def is_volatile(field: str) -> bool:
    """Return whether a record's field may differ between two runs of one cell."""
    return any(word in field for word in VOLATILE)


def identity(cell: Cell) -> dict[str, Any]:
    """Return the fields of a record that say which cell it is of."""
    plain = cell_to_json(cell)
    return {
        "schema_version": SCHEMA_VERSION,
        "cell_id": plain.pop("id"),
        "sparsity_asked": plain.pop("sparsity"),
        "simulated": cell.estimator in SIMULATED,
        **plain,
    }


def cell_of(record: Mapping[str, Any]) -> Cell:
    """Return the cell that a record says it is of, settings that came later at their defaults.

    Raises ConfigError for settings that no cell has.
    """
    names = ("method", "dataset", "model", "train", "alpha", "seed", "estimator", "params")
    own = {name: record[name] for name in names}
    return cell_from_json({"id": record["cell_id"], "sparsity": record["sparsity_asked"], **own})


def new_record(
    cell: Cell,
    origin: Origin,
    status: str,
    reason: str | None,
    measured: Mapping[str, Any],
    started: datetime,
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the record of a cell that ends now. A measured number that is not finite is null, and `reason` names it.

    `files` are the names of the files of the cell beside its record.
    """
    odd = sorted(name for name, value in measured.items() if isinstance(value, float) and not math.isfinite(value))
    sentence = f"Not finite, and so null: {', '.join(odd)}." if odd else None
    finished = datetime.now(UTC)
    return {
        **identity(cell),
        "role": origin.role,
        "uses": sorted(origin.uses),
        "status": status,
        "reason": " ".join(filter(None, (reason, sentence))) or None,
        **dict.fromkeys(METRICS),
        **measured,
        **dict.fromkeys(odd),
        "files": sorted(files),
        "code_sha256": origin.code_sha256,
        "hash_scheme": origin.hash_scheme,
        "environment": origin.environment,
        "git_commit": origin.git_commit,
        "attempt": origin.attempt,
        "started_utc": started.isoformat(timespec="seconds"),
        "finished_utc": finished.isoformat(timespec="seconds"),
        "wall_seconds": (finished - started).total_seconds(),
    }


def wrong_content(record: Mapping[str, Any], cell_id: str) -> str | None:
    """Return what makes a JSON object no record of this cell, as the end of a sentence, or None."""
    if record.get("schema_version") != SCHEMA_VERSION:
        return f"is of record schema {record.get('schema_version')}, and this is schema {SCHEMA_VERSION}"
    if record.get("cell_id") != cell_id:
        return f"is of another cell ({record.get('cell_id')})"
    if record.get("status") not in STATUSES:
        return f"has no known status ({record.get('status')})"
    odd = [name for name, kind in _NAMES.items() if name in record and not isinstance(record[name], kind)]
    odd += [name for name in METRICS if not _is_number(record.get(name))]
    lists = {name: value for name, value in record.items() if _NAMES.get(name) is list and name not in odd}
    odd += [name for name, value in lists.items() if not all(isinstance(item, str) for item in value)]
    odd += [name for name in ("train", "params") if name not in record]
    return f"has no usable {', '.join(odd)}" if odd else None


def is_line(line: Mapping[str, Any], name: str) -> bool:
    """Return whether a JSON object is a line of the cell's file `name`: words and lists by its keys, else numbers."""
    return all(key in line for key in _LINES.get(name, ())) and all(
        isinstance(value, str)
        if key in _WORDS
        else isinstance(value, list) and all(map(_is_number, value))
        if key in _LISTS
        else _is_number(value)
        for key, value in line.items()
    )


def is_environment(values: object) -> bool:
    """Return whether a JSON value is what is stored of an environment: an object, the packages of which are one."""
    return isinstance(values, dict) and isinstance(values.get("packages", {}), dict)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) <= sys.float_info.max)


def differing_settings(record: Mapping[str, Any], cell: Cell) -> list[str]:
    """Return in words the settings in which a record differs from the planned cell of its id, such as a new default."""
    asked = json.loads(json.dumps(identity(cell)))
    pairs = {name: (record[name], value) for name, value in asked.items() if name in record}
    for group in ("train", "params"):
        stored, planned = pairs.pop(group)
        pairs |= {f"{group}.{name}": (stored.get(name), planned.get(name)) for name in stored.keys() | planned.keys()}
    return [f"{name} = {old}, planned {new}" for name, (old, new) in sorted(pairs.items()) if old != new]


def plain_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a method noted as JSON can hold it: numbers that are not finite as text."""
    return {key: _plain(value) for key, value in notes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return plain_notes(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

"""The record of a cell: one flat object, each field of which says here, or in `measured`, what it is. No torch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedfore.cell import SIMULATED, Cell, cell_from_json, cell_to_json
from fedfore.records import measured
from fedfore.records.migration import SCHEMA_VERSION, completed_params, migrated_record
from fedfore.records.rows import told

Status = Literal["ok", "skipped", "failed", "diverged", "timeout", "out_of_memory"]
STATUSES: tuple[Status, ...] = get_args(Status)
DONE: tuple[Status, ...] = ("ok", "skipped")
VOLATILE = ("seconds", "utc", "attempt", "environment", "git")
"""A field whose name contains one of these may differ between two runs of one cell; no other may."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which cell a record is of."""

    schema_version: int = told("Version of the record's shape.")
    cell_id: str = told("The cell: its method, and a hash of the settings that differ from their defaults.")
    method: str = told("Name of the method.")
    dataset: str = told("Name of the data set.")
    model: str = told("Name of the model with its options.")
    sparsity_asked: float = told(
        "Sparsity that the plan asks for; `sparsity_measured` is what came out.", unit="fraction"
    )
    alpha: str | float = told("Heterogeneity of the clients, as in the matrix; a partition file by its name and hash.")
    seed: int = told("Seed of everything random in the cell.")
    estimator: str | None = told("How updates are estimated; null for a method that has no choice.", default=None)
    simulated: bool = told("Whether the estimator uses something that no device could send.")
    stage: str = told(
        "What the cell is for: tune1 and tune2 are trials of tuning, report is a result.", default="report"
    )
    train: dict[str, Any] = told("The protocol, with its defaults filled in.")
    params: dict[str, Any] = told("The method's parameters, with their defaults filled in.")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the cell ended, and what is said of it in words."""

    status: Status = told("ok, skipped, failed, diverged, timeout or out_of_memory.")
    reason: str | None = told(
        "Why the cell did not end as planned, or what is to be said of its numbers; else null.", default=None
    )
    method_variant: str | None = told(
        "What the method calls the form in which it ran; null where there is one form.", default=None
    )
    ntk_reason: str | None = told(
        "Why kernels were not compared; null where they were, and in trials of tuning.", default=None
    )
    partition_sha256: str | None = told(
        "Hash of the clients' training examples: cells in which it is equal dealt the same examples to the same "
        "clients.",
        default=None,
    )
    uncounted_ops: str | None = told("Operators that no FLOP counter knew.", default=None)
    evaluates_other_weights: bool | None = told(
        "Whether the evaluated weights are not those that are sent.", default=None
    )


@dataclass(frozen=True, kw_only=True)
class Guests:
    """What plug-ins measure."""

    plugin_metrics: dict[str, Any] | None = told(
        "An object a metric of a plug-in, by its name: value (null where it was not measured, and why in problem), "
        "unit, direction, title, description and limits. Null where no plug-in declares one.",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class Making:
    """What a record was made with, and when."""

    role: str | None = told("Where the method's file stands: method, baseline or plugin.", default=None)
    uses: list[str] = told("The axes of the matrix that mean something to the method.")
    label: str | None = told("Name of the method in figures; null leaves it to the figures.", default=None)
    look: dict[str, Any] | None = told(
        "Colour, marker and line that the method asks for in figures, each null where it leaves that open.",
        default=None,
    )
    files: list[str] = told("The files beside the record when it was written.")
    code_sha256: str | None = told("Hash of the code that the cell ran, as it was when the run began.", default=None)
    plugin_code: dict[str, Any] | None = told(
        "Hash of the code of each plug-in that the cell used beside its method, such as `dataset NAME`; null where "
        "there is none.",
        default=None,
    )
    hash_scheme: int = told("How the code was hashed: 1 its bytes, 2 its syntax trees.")
    environment: str | None = told("Hash of versions and processor, which lie beside the records.", default=None)
    git_commit: str | None = told("Commit of the suite when the run began; null where it is installed.", default=None)
    attempt: int = told("How often the cell has been tried, this time included.", default=1)
    started_utc: str | None = told("When the attempt began.", default=None)
    finished_utc: str | None = told("When it ended.", default=None)


@dataclass(frozen=True, kw_only=True)
class Record(
    Guests,
    Making,
    measured.Host,
    measured.Times,
    measured.Kernels,
    measured.Gradients,
    measured.Partition,
    measured.Masks,
    measured.Communication,
    measured.Memory,
    measured.Computation,
    measured.Learnt,
    Ending,
    Identity,
):
    """All that is known of one attempt at one cell.

    Its fields are those of its bases, the last base's first. Text and numbers that are not known are null; a number is
    never NaN.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")


_ADAPTER = TypeAdapter(Record)
_NAMES = tuple(item.name for item in fields(Record))


@dataclass(frozen=True)
class Origin:
    """What a record was made with: the code at the start of the run, the environment's hash, and which attempt it is.

    `uses` are the axes of the method, `role` is where its file stands, `label` and `look` are what it asks of figures.
    """

    role: str
    uses: tuple[str, ...]
    code_sha256: str | None
    hash_scheme: int
    git_commit: str | None
    environment: str
    attempt: int
    label: str | None = None
    look: dict[str, Any] | None = None
    plugin_code: dict[str, Any] | None = None


@dataclass(frozen=True)
class Moment:
    """A point in time: its date, and a clock that nobody sets, by which seconds are counted from it."""

    utc: datetime
    clock: float

    @classmethod
    def now(cls) -> Moment:
        """Return the present moment."""
        return cls(datetime.now(UTC), time.monotonic())


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


def cell_of(record: Record) -> Cell:
    """Return the cell that a record says it is of, settings that came later at their defaults.

    Raises ConfigError for settings that no cell has.
    """
    names = ("method", "dataset", "model", "train", "alpha", "seed", "estimator", "params", "stage")
    own = {name: getattr(record, name) for name in names}
    return cell_from_json({"id": record.cell_id, "sparsity": record.sparsity_asked, **own})


def new_record(
    cell: Cell,
    origin: Origin,
    status: Status,
    reason: str | None,
    known: Mapping[str, Any],
    started: Moment,
    files: Sequence[str] = (),
) -> Record:
    """Return the record of a cell that ends now. A measured number that is not finite is null, and `reason` names it.

    `known` are the fields that were measured, `files` the names of the files of the cell beside its record. Raises
    TypeError for a field that no record has.
    """
    odd = sorted(name for name, value in known.items() if isinstance(value, float) and not math.isfinite(value))
    sentence = f"Not finite, and so null: {', '.join(odd)}." if odd else None
    finished = Moment.now()
    return Record(
        **identity(cell),
        **{**known, **dict.fromkeys(odd)},
        status=status,
        reason=" ".join(filter(None, (reason, sentence))) or None,
        role=origin.role,
        label=origin.label,
        look=origin.look,
        uses=sorted(origin.uses),
        files=sorted(files),
        code_sha256=origin.code_sha256,
        plugin_code=origin.plugin_code,
        hash_scheme=origin.hash_scheme,
        environment=origin.environment,
        git_commit=origin.git_commit,
        attempt=origin.attempt,
        started_utc=started.utc.isoformat(timespec="seconds"),
        finished_utc=finished.utc.isoformat(timespec="seconds"),
        wall_seconds=finished.clock - started.clock,
    )


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record as one flat object of JSON's types, with every field."""
    return {name: getattr(record, name) for name in _NAMES}


def record_from_json(stored: Mapping[str, Any], cell_id: str) -> Record:
    """Return the record that a stored object of this or an older schema is, of the cell with this id.

    Raises ValueError with what is wrong with it, as the end of a sentence.
    """
    version = stored.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ValueError(f"is of record schema {version}, and this is schema {SCHEMA_VERSION}")
    if stored.get("cell_id") != cell_id:
        raise ValueError(f"is of another cell ({stored.get('cell_id')})")
    try:
        return _ADAPTER.validate_json(json.dumps(migrated_record(stored)), strict=True)
    except ValidationError as error:
        odd = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors())
        raise ValueError(f"has no usable {', '.join(odd)}") from None


def completed(record: Record, cell: Cell) -> Record:
    """Return a record with every setting of its planned cell, also those that came after it was written."""
    params = completed_params(record.method, record.params, cell.params)
    return replace(record, train={**vars(cell.train), **record.train}, params={**cell.params, **params})


def differing_settings(record: Record, cell: Cell) -> list[str]:
    """Return in words the settings in which a record differs from the planned cell of its id, such as a new default."""
    asked = identity(cell)
    pairs = {name: (getattr(record, name), value) for name, value in asked.items()}
    for group in ("train", "params"):
        stored, planned = pairs.pop(group)
        pairs |= {f"{group}.{name}": (stored.get(name), planned.get(name)) for name in stored.keys() | planned.keys()}
    return [f"{name} = {old}, planned {new}" for name, (old, new) in sorted(pairs.items()) if old != new]

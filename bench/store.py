"""Run directories: the plan, one atomic record a cell, environments; and all of it as one tidy table. No torch.

    RUN/plan.json                     the resolved cells
    RUN/cells/<id>/record.json        one flat object, written aside and renamed: it is there, or it is not
    RUN/cells/<id>/rounds.jsonl       one line an evaluation
    RUN/cells/<id>/diagnostics.jsonl  one line a moment at which gradients were diagnosed
    RUN/cells/<id>/traceback.txt      of a failed cell
    RUN/environments/<hash>.json      versions and processor

A missing value is null beside a status; NaN is never written; a planned cell without a record is a row of the table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from bench.cell import SIMULATED, Cell, cell_from_json, cell_to_json
from bench.errors import StoreError
from bench.metrics import METRICS
from bench.provenance import code_sha256, environment_hash, shipped_method_file

SCHEMA_VERSION = 1
ROUNDS = "rounds.jsonl"
DIAGNOSTICS = "diagnostics.jsonl"
LAYERS = "layers.jsonl"
ADJUSTMENTS = "adjustments.jsonl"
STATUSES = ("ok", "skipped", "failed", "diverged", "timeout", "out_of_memory")
DONE = ("ok", "skipped")
VOLATILE = ("seconds", "utc", "attempt", "environment", "git")
"""A field whose name contains one of these may differ between two runs of one cell; no other may."""


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def is_volatile(field: str) -> bool:
    """Return whether a record's field may differ between two runs of one cell."""
    return any(word in field for word in VOLATILE)


def cell_dir(run: Path, cell_id: str) -> Path:
    """Return the folder of a cell's files."""
    return run / "cells" / cell_id


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run directory for this process.

    Raises StoreError where another process holds it or it cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"Another fedfore process is writing to {run}; wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise StoreError(f"Cannot write to {run} ({error.strerror}); choose another folder with --out.") from None
    try:
        yield
    finally:
        lock.release()


def write_plan(run: Path, cells: Sequence[Cell], command: str, *, extend: bool) -> list[Cell]:
    """Store the resolved cells and return all planned ones.

    Raises StoreError where RUN holds another plan, unless `extend` unites the two.
    """
    planned = {cell.id: cell for cell in cells}
    if (run / "plan.json").exists():
        before = {cell.id: cell for cell in read_plan(run)}
        if before.keys() != planned.keys() and not extend:
            raise StoreError(
                f"{run} holds another plan ({len(before)} cells, {len(before.keys() & planned.keys())} of them in "
                "common with this one); choose another --out, or unite both with --extend."
            )
        planned = before | planned
    document = {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "cells": [cell_to_json(cell) for cell in planned.values()],
    }
    write_atomically(run / "plan.json", _dump(document))
    return list(planned.values())


def _read_json(path: Path, what: str) -> Any:
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{path} does not exist: {what}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise _damaged(path) from None
    if not isinstance(value, dict):
        raise _damaged(path)
    return value


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged; move it away and run the matrix again.")


def _read_plan_document(run: Path) -> Mapping[str, Any]:
    document = _read_json(run / "plan.json", f"{run} is no run directory of fedfore")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise StoreError(
            f"{run} was written with record schema {document.get('schema_version')}, this is schema {SCHEMA_VERSION}; "
            "read it with the version of fedfore that wrote it."
        )
    return document


def read_plan(run: Path) -> list[Cell]:
    """Return the planned cells. Raises StoreError where there is no readable plan."""
    document = _read_plan_document(run)
    try:
        return [cell_from_json(cell) for cell in document["cells"]]
    except (KeyError, TypeError):
        raise _damaged(run / "plan.json") from None


def read_command(run: Path) -> str:
    """Return the command that made the run."""
    return str(_read_plan_document(run)["command"])


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write a cell's record, last of its files. Raises ValueError for a NaN or an infinity in it."""
    write_atomically(cell_dir(run, record["cell_id"]) / "record.json", _dump(record))


def read_record(run: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a cell's record, or None where there is none. Raises StoreError where it is damaged."""
    path = cell_dir(run, cell_id) / "record.json"
    return _read_json(path, "no record") if path.exists() else None


def write_notes(run: Path, cell_id: str, notes: Mapping[str, Any]) -> None:
    """Write what a method noted of itself in the cell (`notes.json`)."""
    write_atomically(cell_dir(run, cell_id) / "notes.json", _dump(notes))


def read_notes(run: Path, cell_id: str) -> dict[str, Any]:
    """Return what a method noted of itself in the cell, maybe nothing."""
    path = cell_dir(run, cell_id) / "notes.json"
    return _read_json(path, "no notes") if path.exists() else {}


def write_environment(run: Path, values: Mapping[str, object]) -> str:
    """Store an environment and return its hash."""
    name = environment_hash(values)
    path = run / "environments" / f"{name}.json"
    if not path.exists():
        write_atomically(path, _dump(values))
    return name


def read_environments(run: Path) -> dict[str, dict[str, Any]]:
    """Return the environments of a run by hash."""
    return {path.stem: _read_json(path, "no environment") for path in sorted((run / "environments").glob("*.json"))}


def is_stale(record: Mapping[str, Any], current_sha256: str | None) -> bool:
    """Return whether a record was computed with other code than the present; unknown code counts as the same."""
    return current_sha256 is not None and record.get("code_sha256") not in (None, current_sha256)


def load_table(run: Path) -> pd.DataFrame:
    """Return one row a planned cell: every record field, `train.*` and `params.*` columns, and `stale`.

    A planned cell without a record has status `missing`. Every metric of `bench.metrics` is a column. `stale` is known
    for shipped methods. Raises StoreError for a run that cannot be read.
    """
    current: dict[str, str | None] = {}
    rows = []
    for cell in read_plan(run):
        if cell.method not in current:
            file = shipped_method_file(cell.method)
            current[cell.method] = code_sha256(file) if file else None
        record = read_record(run, cell.id) or {**identity(cell), "status": "missing", "reason": "not run yet"}
        row = {name: value for name, value in record.items() if name not in ("train", "params")}
        for group in ("train", "params"):
            row |= {f"{group}.{name}": _scalar(value) for name, value in record[group].items()}
        row["stale"] = is_stale(record, current[cell.method])
        rows.append(row)
    table = pd.DataFrame(rows)
    for name in METRICS:
        table[name] = pd.to_numeric(table[name]) if name in table else float("nan")
    return table


def _scalar(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict | tuple) else value


@contextmanager
def lines_writer(run: Path, cell_id: str, name: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that appends one line to the cell's file `name`, which starts empty."""
    path = cell_dir(run, cell_id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:

        def write(line: Mapping[str, Any]) -> None:
            handle.write(json.dumps(line, allow_nan=False) + "\n")
            handle.flush()

        yield write


def load_lines(run: Path, cell_id: str, name: str) -> pd.DataFrame:
    """Return the lines of a cell's file `name` as a table, maybe empty.

    `ROUNDS` has one row an evaluation (round, data_passes, uplink_bytes, test_accuracy and more), `DIAGNOSTICS` one row
    a diagnosed moment, `LAYERS` one row a prunable layer (layer, size, kept, forward_macs_dense), `ADJUSTMENTS` one row
    a change of the mask in training (round, pruned, grown, churn). Null is NaN.
    """
    path = cell_dir(run, cell_id) / name
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        table = pd.DataFrame([json.loads(line) for line in lines])
    except json.JSONDecodeError:
        raise _damaged(path) from None
    return table.astype({name: float for name in table if table[name].isna().all()})


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

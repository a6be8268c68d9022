"""Run directories: one record a cell, lines, environments, and the plan (see `plan_file`). No torch.

    RUN/plan.json                     the resolved cells, the commands that ran them, and what tuning chose
    RUN/matrix.toml                   the matrix that was asked for last
    RUN/cells/<id>/record.json        one flat object; the folder is put in its place as a whole (see `attempts`)
    RUN/cells/<id>/rounds.jsonl       one line an evaluation; likewise the other files of lines (see `lines`)
    RUN/cells/<id>/notes.json         what the method noted of itself
    RUN/cells/<id>/traceback.txt      of a failed cell
    RUN/cells/<id>/log.txt            what the cell printed
    RUN/cells/<id>/model.safetensors  weights and mask at its end, where they were asked for
    RUN/environments/<hash>.json      versions and processor
    RUN/<name>@<hash>.partition.json  the partition files that cells name (see `partitions`)

A missing value is null beside a status; NaN is never written; a planned cell without a record is a row of the table
(see `fedfore.records.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedfore.errors import StoreError
from fedfore.records.files import (
    damaged,
    dumped,
    find_object,
    read_lines,
    read_object,
    write_atomically,
    writing_lines,
)
from fedfore.records.lines import LINES
from fedfore.records.packed import MATRIX, is_packed
from fedfore.records.provenance import environment_hash, is_environment
from fedfore.records.record import Record, record_from_json, record_to_json

RECORD = "record.json"
NOTES = "notes.json"
LOG = "log.txt"
"""What the cell printed; no data of it."""
MODEL = "model.safetensors"


def cell_dir(run: Path, cell_id: str) -> Path:
    """Return the folder of a cell's files."""
    return run / "cells" / cell_id


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run directory for this process.

    Raises StoreError where another process holds it, where it cannot be written, and for a published study.
    """
    if is_packed(run):
        raise StoreError(f"{run} is a published study and stays as it is; choose another --out.")
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


def is_held(run: Path) -> bool:
    """Return whether another process holds the run directory."""
    try:
        with FileLock(run / ".lock").acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def write_matrix(run: Path, text: str) -> None:
    """Store the matrix that was asked for last, as TOML."""
    write_atomically(run / MATRIX, text)


def write_record(run: Path, record: Record) -> None:
    """Write a cell's record, last of its files. Raises ValueError for a NaN or an infinity in it."""
    write_atomically(cell_dir(run, record.cell_id) / RECORD, dumped(record_to_json(record)))


def read_record(run: Path, cell_id: str) -> Record | None:
    """Return a cell's record, or None where there is none. Raises StoreError where what is there is no such record."""
    path = cell_dir(run, cell_id) / RECORD
    stored = find_object(path)
    try:
        return None if stored is None else record_from_json(stored, cell_id)
    except ValueError as error:
        raise StoreError(f"{path} {error}; move it away and run the matrix again.") from None


def read_stored(run: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a cell's record as it was written, of whatever schema; raises as `read_record` does."""
    return None if read_record(run, cell_id) is None else find_object(cell_dir(run, cell_id) / RECORD)


def checkpoint_file(run: Path, cell_id: str) -> Path:
    """Return the file in which a cell that has not ended keeps its state."""
    return run / "checkpoints" / f"{cell_id}.safetensors"


def data_files(folder: Path) -> list[str]:
    """Return the names of the files in a cell's folder that its record answers for."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name != LOG and not name.startswith(".")]


def lost_files(run: Path, record: Record) -> list[str]:
    """Return the files that a cell's record names and that are not whole beside it any more."""
    folder = cell_dir(run, record.cell_id)
    return [name for name in record.files if not _is_whole(folder / name)]


def _is_whole(path: Path) -> bool:
    """Return whether a file is there and, if it is one of lines, begins and ends as such."""
    try:
        if path.suffix != ".jsonl":
            return path.exists()
        content = path.read_bytes()
    except OSError:
        return False
    return not content or (content.startswith(b"{") and content.endswith(b"}\n"))


def write_notes(run: Path, cell_id: str, notes: Mapping[str, Any]) -> None:
    """Write what a method noted of itself in the cell (`notes.json`)."""
    write_atomically(cell_dir(run, cell_id) / NOTES, dumped(notes))


def read_notes(run: Path, cell_id: str) -> dict[str, Any]:
    """Return what the method noted of itself in a cell, maybe nothing. Raises StoreError for a damaged file."""
    return find_object(cell_dir(run, cell_id) / NOTES) or {}


def write_environment(run: Path, values: Mapping[str, object]) -> str:
    """Store an environment and return its hash."""
    name = environment_hash(values)
    path = run / "environments" / f"{name}.json"
    if not path.exists():
        write_atomically(path, dumped(values))
    return name


def read_environments(run: Path) -> dict[str, dict[str, Any]]:
    """Return the environments of a run by hash."""
    found = {}
    for path in sorted((run / "environments").glob("*.json")):
        found[path.stem] = read_object(path, "no environment")
        if not is_environment(found[path.stem]):
            raise damaged(path)
    return found


def lines_writer(run: Path, cell_id: str, name: str) -> AbstractContextManager[Callable[[Mapping[str, Any]], None]]:
    """Return a context that yields a function which appends one line to the cell's file `name`, which starts empty.

    Both raise StoreError where it cannot be written; the function raises ValueError for a NaN or an infinity.
    """
    return writing_lines(cell_dir(run, cell_id) / name)


def lines_files(run: Path, cell_id: str) -> list[str]:
    """Return the names of the files of lines that stand in a cell's folder, all where that cannot be looked into."""
    try:
        there = {path.name for path in cell_dir(run, cell_id).iterdir()}
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return list(LINES)
    return [name for name in LINES if name in there]


def read_cell_lines(run: Path, cell_id: str, name: str) -> list[dict[str, Any]]:
    """Return the lines of a cell's file `name`, none where it is absent. Raises StoreError for a damaged file."""
    path = cell_dir(run, cell_id) / name
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        problem = LINES[name].problem(line)
        if problem:
            raise damaged(path, number, why=problem)
    return lines

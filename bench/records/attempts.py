"""Attempts at cells: written aside, and put in the place of the cell's folder as a whole in the end. No torch.

    RUN/attempts/<process>/cells/<id>/   what a worker is writing; it has ended once its record is there
    RUN/attempts/<process>/environments/ what other machines are that run cells
    RUN/replaced/cells/<id>/             the folder that is being replaced, for a moment
    RUN/failed/cells/<id>/               the last attempt that failed where a finished cell stands, or timed out where
                                         a checkpoint waits
    RUN/unusable/cells/<id>/             a cell's folder that was damaged when it ran again
    RUN/checkpoints/<id>.safetensors     the state of a cell that has not ended

Each of the three is laid out like a run, so what reads and writes cells reads and writes them. A process may end
between any two steps: `recover` then goes on from what it finds.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from fedfore.errors import StoreError
from fedfore.records.files import writing
from fedfore.records.heartbeat import HEARTBEAT
from fedfore.records.record import DONE, Record
from fedfore.records.run_folder import (
    RECORD,
    cell_dir,
    checkpoint_file,
    lost_files,
    read_environments,
    read_record,
    write_environment,
)

FINAL = (*DONE, "diverged")
"""What a cell ends with that would end so again."""
TRACEBACK = "traceback.txt"


def attempts(run: Path) -> Path:
    """Return where the attempts that this process starts are written."""
    return run / "attempts" / str(os.getpid())


def failed(run: Path) -> Path:
    """Return where attempts lie that failed and replaced nothing."""
    return run / "failed"


def failed_attempts(run: Path) -> list[str]:
    """Return the cells of which an attempt failed and replaced nothing, sorted."""
    return sorted(path.parent.name for path in failed(run).glob(f"cells/*/{RECORD}"))


def unusable(run: Path) -> Path:
    """Return where folders of cells lie that were damaged when they ran again."""
    return run / "unusable"


def _replaced(run: Path) -> Path:
    return run / "replaced"


def begin(aside: Path, cell_id: str) -> None:
    """Make an empty folder for an attempt. Raises StoreError where it cannot be made."""
    folder = cell_dir(aside, cell_id)
    _remove(folder)
    with writing(folder):
        folder.mkdir(parents=True)


def settle(run: Path, aside: Path, cell_id: str) -> Path | None:
    """Put an attempt that has ended where it belongs, and return that folder; None where it has no record.

    It replaces the cell's folder, unless it failed and a finished cell stands there: then that is left as it is, and
    the attempt lies under `failed`. So does one that timed out and left a checkpoint: the cell counts as missing.
    A cell that ends for good has no checkpoint any more. Raises StoreError where the folders cannot be moved.
    """
    attempt, cell = cell_dir(aside, cell_id), cell_dir(run, cell_id)
    record = find_record(aside, cell_id)
    if record is None:
        return None
    _remove(attempt / HEARTBEAT)
    for values in read_environments(aside).values():
        write_environment(run, values)
    last_failed = cell_dir(failed(run), cell_id)
    if record.status not in DONE and (goes_on(run, record) or is_finished(run, cell_id)):
        _remove(last_failed)
        _move(attempt, last_failed)
        if not is_finished(run, cell_id):
            _remove(cell)
        return last_failed
    if record.status in FINAL:
        _remove(checkpoint_file(run, cell_id))
        _remove_parts(run, cell_id)
    old = cell_dir(_replaced(run), cell_id)
    _remove(old)
    stood = find_record(run, cell_id)
    if (cell / RECORD).exists() and (stood is None or lost_files(run, stood)):
        _remove(cell_dir(unusable(run), cell_id))
        _move(cell, cell_dir(unusable(run), cell_id))
    if cell.exists() or cell.is_symlink():
        _move(cell, old)
    _move(attempt, cell)
    _remove(old)
    _remove(last_failed)
    return cell


def recover(run: Path) -> None:
    """Put what a process left that ended without warning where it belongs, and clear the rest away.

    Only for the process that holds the run's lock. Raises StoreError where the folders cannot be moved.
    """
    for old in sorted(_replaced(run).glob("cells/*")):
        if not cell_dir(run, old.name).exists():
            _move(old, cell_dir(run, old.name))
    _remove_parts(run, "*")
    for attempt in sorted(run.glob("attempts/*/cells/*")):
        settle(run, attempt.parent.parent, attempt.name)
    clear(run)


def clear(run: Path) -> None:
    """Remove the folders of attempts under way; what failed stays, and so do checkpoints."""
    for folder in (run / "attempts", _replaced(run)):
        _remove(folder)
    for folder in (run / "checkpoints", failed(run) / "cells", failed(run)):
        with suppress(OSError):
            folder.rmdir()


def _remove_parts(run: Path, cell_id: str) -> None:
    """Remove what a process has left that died while it wrote a checkpoint of such a cell."""
    checkpoint = checkpoint_file(run, cell_id)
    for part in checkpoint.parent.glob(f".{checkpoint.name}.*"):
        _remove(part)


def find_record(run: Path, cell_id: str) -> Record | None:
    """Return a cell's record, or None where there is none that can be read."""
    try:
        return read_record(run, cell_id)
    except StoreError:
        return None


def goes_on(run: Path, record: Record) -> bool:
    """Return whether a record is of an attempt that timed out, from whose checkpoint the cell goes on."""
    return record.status == "timeout" and checkpoint_file(run, record.cell_id).exists()


def is_finished(run: Path, cell_id: str) -> bool:
    """Return whether a cell has a record that says `ok` or `skipped`."""
    record = find_record(run, cell_id)
    return record is not None and record.status in DONE


def file_of_attempt(run: Path, record: Record, name: str) -> Path | None:
    """Return a file that the attempt of this record has left, such as its traceback, or None where there is none."""
    for place in (run, failed(run)):
        path = cell_dir(place, record.cell_id) / name
        found = find_record(place, record.cell_id)
        if path.is_file() and found is not None and found.started_utc == record.started_utc:
            return path
    return None


def _move(source: Path, target: Path) -> Path:
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        return source.rename(target)


def _remove(folder: Path) -> None:
    with writing(folder):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)

"""One cell in a worker process: from a job to a folder aside with a record in it, whatever happens."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedfore.cell import Cell
from fedfore.contract.border import unchanged_process, words
from fedfore.contract.registry import MethodEntry, discover, lookup
from fedfore.errors import Diverged, PluginError, Skip, StoreError, printable
from fedfore.execution.metering import metered_fields
from fedfore.federation.assembly import federation_of
from fedfore.federation.loop import Federation
from fedfore.records import attempts
from fedfore.records.code_hash import code_sha256
from fedfore.records.files import plain_notes, write_atomically
from fedfore.records.lines import DIAGNOSTICS, ROUNDS
from fedfore.records.record import Origin, Record, Status, new_record
from fedfore.records.run_folder import cell_dir, lines_writer, write_notes, write_record
from fedfore.tasks.datasets import spec
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import load

METERED_ONLY = "The protocol says train.meter_only = true: nothing was trained."
LOGS = (ROUNDS, DIAGNOSTICS)
"""The files that are written while a cell runs; the others are written at its end."""
CHANGED = "the code changed while the run was going on; start it again with --rerun failed, or leave the code alone"


@dataclass(frozen=True)
class Job:
    """What a worker is given: a cell, what its record says of its origin, and the folder in which it writes aside."""

    cell: Cell
    aside: Path
    origin: Origin
    device: str
    data_dir: Path | None
    plugins: tuple[Path, ...]


@cache
def _dataset(name: str, data_dir: Path | None) -> Dataset:
    return load(name, data_dir)


_code = cache(code_sha256)
"""The hash of a method's code when this worker first met it."""


@cache
def _methods(plugins: tuple[Path, ...]) -> dict[str, MethodEntry]:
    return discover(plugins)


def run_job(job: Job) -> Record:
    """Run one cell in this process, on one thread, and write its record: the one place that catches everything."""
    torch.set_num_threads(1)
    started = datetime.now(UTC)
    measured: dict[str, Any] = {}
    trace = None
    status: Status
    try:
        attempts.begin(job.aside, job.cell.id)
        measured = _measure(job)
        status, reason = "ok", METERED_ONLY if job.cell.train.meter_only else None
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Diverged as error:
        status, reason, measured = "diverged", str(error), dict(error.measured)
    except StoreError as error:
        return _record(job, "failed", str(error), {}, started)
    except BaseException as error:  # noqa: BLE001
        reason, trace = words(error), traceback.format_exc()
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in reason
        status = "out_of_memory" if out_of_memory else "failed"
    return conclude(job, status, reason, measured, started, trace)


def _measure(job: Job) -> dict[str, Any]:
    """Return the measured fields of a cell, and write its files aside.

    Raises StoreError where these cannot be written, PluginError where the code is not that of the run's start, and
    Diverged, with the fields that hold nevertheless, where training did.
    """
    cell = job.cell
    entry = _methods(job.plugins)[cell.method]
    if _code(entry.file) != job.origin.code_sha256:
        raise PluginError(CHANGED)
    method = lookup({cell.method: entry}, cell.method)
    if cell.train.meter_only:
        return metered_fields(cell, method, torch.device(job.device))
    dataset = _dataset(cell.dataset, job.data_dir)
    folder = cell_dir(job.aside, cell.id)
    with ExitStack() as open_files:
        log = {name: open_files.enter_context(lines_writer(job.aside, cell.id, name)) for name in LOGS}
        open_files.enter_context(unchanged_process(method.__name__))
        federation = federation_of(cell, method, dataset, torch.device(job.device))
        _run(federation, log)
    for name, lines in federation.lines().items():
        with lines_writer(job.aside, cell.id, name) as write:
            for line in lines:
                write(line)
    notes = plain_notes(federation.server.notes)
    if notes:
        write_notes(job.aside, cell.id, notes)
    if not all((folder / name).exists() for name in LOGS):
        raise StoreError(f"{folder} was removed while the cell ran; run the matrix again.")
    return federation.fields()


def _run(federation: Federation, log: Mapping[str, Callable[[Mapping[str, Any]], None]]) -> None:
    """Run a federation to its end, and write the lines of its log as they come.

    Raises Diverged with the fields that hold of what was spent.
    """
    written = dict.fromkeys(log, 0)
    is_running = True
    while is_running:
        try:
            is_running = federation.advance()
        except Diverged as error:
            raise Diverged(str(error), federation.spent_fields()) from error
        finally:
            for name, lines in federation.log().items():
                for line in lines[written[name] :]:
                    log[name](line)
                written[name] = len(lines)


def conclude(
    job: Job,
    status: Status,
    reason: str | None,
    measured: Mapping[str, Any],
    started: datetime,
    trace: str | None = None,
) -> Record:
    """Write the record of an attempt, last of its files, and return it; as a failed one where that cannot be done."""
    folder = cell_dir(job.aside, job.cell.id)
    try:
        if trace is not None:
            write_atomically(folder / "traceback.txt", trace)
        record = _record(job, status, reason, measured, started)
        write_record(job.aside, record)
    except StoreError as error:
        return _record(job, "failed", " ".join(filter(None, (reason, str(error)))), {}, started)
    return record


def _record(job: Job, status: Status, reason: str | None, measured: Mapping[str, Any], started: datetime) -> Record:
    folder = cell_dir(job.aside, job.cell.id)
    files = [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
    known = {**measured, "chance_accuracy": 1 / spec(job.cell.dataset).num_classes}
    return new_record(job.cell, job.origin, status, printable(reason) if reason else None, known, started, files)

"""One cell in a worker process: from a job to a folder aside with a record in it, whatever happens."""

from __future__ import annotations

import resource
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import torch

from fedfore.contract.border import unchanged_process, words
from fedfore.contract.registry import discover, lookup
from fedfore.errors import Diverged, FedForeError, PluginError, Skip, StoreError, printable
from fedfore.execution.checkpoint import write_model
from fedfore.execution.job import Job
from fedfore.execution.keeper import Keeper, Stopped, TimedOut
from fedfore.execution.metering import metered_fields
from fedfore.execution.plugged import plugin_code
from fedfore.federation.assembly import federation_of
from fedfore.federation.clients import Clients
from fedfore.federation.loop import Federation
from fedfore.records import attempts
from fedfore.records.code_hash import code_sha256
from fedfore.records.files import plain_notes, write_atomically
from fedfore.records.lines import DIAGNOSTICS, ROUNDS
from fedfore.records.record import Moment, Record, Status, new_record
from fedfore.records.run_folder import MODEL, cell_dir, data_files, lines_writer, write_notes, write_record
from fedfore.tasks.datasets import know, spec
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import load

METERED_ONLY = "The protocol says train.meter_only = true: nothing was trained."
LOGS = (ROUNDS, DIAGNOSTICS)
"""The files that are written while a cell runs; the others are written at its end."""
CHANGED = (
    "the code here is not that with which the run began; start it again with --rerun failed, "
    "and have the same code on all machines"
)


@cache
def _dataset(name: str, data_dir: Path | None, code: str | None) -> Dataset:
    """Return a data set, the one of a plug-in as its code of this hash reads it."""
    del code
    return load(name, data_dir)


_code = cache(code_sha256)
"""The hash of a method's code when this worker first met it."""


def prepared(job: Job) -> Record | None:
    """Make the folder of an attempt; return the record of its failure where that cannot be done."""
    try:
        attempts.begin(job.aside, job.cell.id)
    except StoreError as error:
        return unrecorded(job, str(error), Moment.now())
    return None


def run_job(job: Job, should_stop: Callable[[], bool] = lambda: False) -> Record | None:
    """Run one cell in this process, on one thread, and write its record: the one place that catches everything.

    Its folder is there (see `prepared`). None is returned, and nothing recorded, where it was stopped: its checkpoint
    tells how far it has come.
    """
    torch.set_num_threads(1)
    if job.data is not None:
        know(job.data)
    started = Moment.now()
    measured: dict[str, Any] = {}
    trace = None
    status: Status
    try:
        measured = _measure(job, Keeper(job, cell_dir(job.aside, job.cell.id), should_stop))
        status, reason = "ok", METERED_ONLY if job.cell.train.meter_only else None
    except Stopped:
        return None
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Diverged as error:
        status, reason, measured = "diverged", str(error), dict(error.measured)
    except TimedOut:
        status, reason = "timeout", late_words(job)
    except StoreError as error:
        return unrecorded(job, str(error), started)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and parent_process() is None:
            raise  # whoever started this process stops it, and no cell alone
        reason, trace = words(error), traceback.format_exc()
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in reason
        status = "out_of_memory" if out_of_memory else "failed"
    host = {"attempt_resident_bytes": _resident_bytes(), "attempt_processes": job.processes}
    return conclude(job, status, reason, {**measured, **host}, started, trace)


def _resident_bytes() -> int:
    """Return the largest resident set so far of this process, or of one that was forked from it."""
    users = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in users) * 1024


def unrecorded(job: Job, reason: str, started: Moment) -> Record:
    """Return the record of an attempt that failed as nothing of it could be written."""
    return _record(job, "failed", reason, {}, started)


def late_words(job: Job) -> str:
    """Return the reason of a cell that timed out."""
    goes_on = "; the same command goes on from its checkpoint" if job.checkpoint.exists() else ""
    return f"longer than --timeout {job.timeout_seconds or 0.0:g} seconds{goes_on}"


def _measure(job: Job, keeper: Keeper) -> dict[str, Any]:
    """Return the measured fields of a cell, and write its files aside.

    Raises StoreError where these cannot be written, PluginError where the code is not that of the run's start, Stopped
    and TimedOut as `Keeper` does, and Diverged, with the fields that hold nevertheless, where training did.
    """
    cell = job.cell
    entry = discover(job.plugins, only=cell.method)[cell.method]
    others = plugin_code(cell, lambda plugin: _code(plugin.file))
    if (_code(entry.file), others) != (job.origin.code_sha256, job.origin.plugin_code):
        raise PluginError(CHANGED)
    method = lookup({cell.method: entry}, cell.method)
    if cell.train.meter_only:
        return metered_fields(cell, method, torch.device(job.device))
    dataset = _dataset(cell.dataset, job.data_dir, (others or {}).get(f"dataset {cell.dataset}"))
    if job.partition is not None:
        dataset = dataset.owned(job.partition.owners)
    folder = cell_dir(job.aside, cell.id)
    with ExitStack() as open_files:
        log = {name: open_files.enter_context(lines_writer(job.aside, cell.id, name)) for name in LOGS}
        open_files.enter_context(unchanged_process(method.__name__))
        clients = partial(Clients, processes=job.processes)
        federation = federation_of(cell, method, dataset, torch.device(job.device), clients=clients)
        keeper.resume(federation)
        _run(federation, log, keeper)
    for name, lines in federation.lines().items():
        with lines_writer(job.aside, cell.id, name) as write:
            for line in lines:
                write(line)
    notes = plain_notes(federation.server.notes)
    if notes:
        write_notes(job.aside, cell.id, notes)
    if job.save_model:
        write_model(folder / MODEL, federation.model, federation.mask)
    if not all((folder / name).exists() for name in LOGS):
        raise StoreError(f"{folder} was removed while the cell ran; run the matrix again.")
    return federation.fields()


def _run(federation: Federation, log: Mapping[str, Callable[[Mapping[str, Any]], None]], keeper: Keeper) -> None:
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
        if is_running:
            keeper.after_step(federation)


def conclude(
    job: Job,
    status: Status,
    reason: str | None,
    measured: Mapping[str, Any],
    started: Moment,
    trace: str | None = None,
) -> Record:
    """Write the record of an attempt, last of its files, and return it; as a failed one where that cannot be done."""
    folder = cell_dir(job.aside, job.cell.id)
    try:
        if trace is not None:
            write_atomically(folder / attempts.TRACEBACK, trace)
        record = _record(job, status, reason, measured, started)
        write_record(job.aside, record)
    except StoreError as error:
        return unrecorded(job, " ".join(filter(None, (reason, str(error)))), started)
    return record


def _record(job: Job, status: Status, reason: str | None, measured: Mapping[str, Any], started: Moment) -> Record:
    folder = cell_dir(job.aside, job.cell.id)
    known = {**measured, "chance_accuracy": _chance(job)}
    return new_record(
        job.cell, job.origin, status, printable(reason) if reason else None, known, started, data_files(folder)
    )


def _chance(job: Job) -> float | None:
    """Return the accuracy of guessing; None where the data set is of a plug-in that cannot be used."""
    try:
        return 1 / (job.data or spec(job.cell.dataset)).num_classes
    except FedForeError:
        return None

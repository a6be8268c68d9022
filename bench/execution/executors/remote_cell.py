"""A cell on another machine: it runs there in a process of its own, and its files come back, or lie in a shared RUN."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from fedfore.errors import StoreError
from fedfore.execution.executors.executor import Ended
from fedfore.execution.executors.processes import Processes
from fedfore.execution.job import Job
from fedfore.execution.worker import prepared
from fedfore.records.attempts import FINAL
from fedfore.records.files import write_atomically
from fedfore.records.provenance import environment
from fedfore.records.record import Record
from fedfore.records.run_folder import RECORD, cell_dir, checkpoint_file, write_environment, write_record


@dataclass(frozen=True)
class Parcel:
    """What comes back of an attempt: its record, the other files of its folder, and what its machine is.

    `checkpoint` is the state that it left, None where it ended for good or left none.
    """

    record: Record
    files: Mapping[str, bytes]
    environment: Mapping[str, Any]
    checkpoint: bytes | None


def run_in_parcel(job: Job, checkpoint: bytes | None) -> Parcel:
    """Run a cell in a temporary folder of this machine, from a checkpoint if one is given, and return all it wrote."""
    with TemporaryDirectory(prefix="fedfore-") as folder:
        place = Path(folder)
        here = replace(job, aside=place, checkpoint=checkpoint_file(place, job.cell.id))
        if checkpoint is not None:
            write_atomically(here.checkpoint, checkpoint)
        here, values = _of_this_machine(here)
        record = _ended(here)
        written = [file for file in cell_dir(place, job.cell.id).glob("[!.]*") if file.is_file()]
        files = {file.name: file.read_bytes() for file in written if file.name != RECORD}
        goes_on = record.status not in FINAL and here.checkpoint.exists()
        return Parcel(record, files, values, here.checkpoint.read_bytes() if goes_on else None)


def unpacked(job: Job, parcel: Parcel) -> Record:
    """Write what came back of an attempt into the job's folder aside; return its record, as a failed one where that
    cannot be done.
    """
    refused = prepared(job)
    if refused is not None:
        return refused
    try:
        write_environment(job.aside, parcel.environment)
        for name, content in parcel.files.items():
            write_atomically(cell_dir(job.aside, job.cell.id) / name, content)
        if parcel.checkpoint is not None:
            write_atomically(job.checkpoint, parcel.checkpoint)
        write_record(job.aside, parcel.record)
    except StoreError as error:
        return replace(parcel.record, status="failed", reason=str(error))
    return parcel.record


def run_in_shared_folder(job: Job) -> Ended:
    """Run a cell in the run's folder, which this machine sees too, in a folder aside that is this attempt's own.

    So a machine that was given up, and may still write, disturbs nobody. Return the job with that folder.
    """
    here, _ = _of_this_machine(replace(job, aside=job.aside.with_name(f"{job.aside.name}-{uuid4().hex[:8]}")))
    return here, _ended(here)


def _of_this_machine(job: Job) -> tuple[Job, Mapping[str, Any]]:
    """Store what this machine is in a job's folder aside; return the job whose record names it, and what it is."""
    values = environment() | {"device": job.device}
    name = write_environment(job.aside, values)
    return replace(job, origin=replace(job.origin, environment=name)), values


def _ended(job: Job) -> Record:
    with closing(Processes(1).map([job])) as ending:
        ((_, record),) = ending
    return record

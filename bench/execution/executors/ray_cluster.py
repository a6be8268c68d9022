"""Cells as tasks of a Ray cluster, each in a process of its own on some node. Imports Ray: only for who asks for it."""

from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from fedfore.errors import ConfigError, printable
from fedfore.execution.executors.cell_process import GRACE_SECONDS
from fedfore.execution.executors.executor import Ended
from fedfore.execution.executors.machine import usable_cpus
from fedfore.execution.executors.remote_cell import Parcel, run_in_parcel, run_in_shared_folder, unpacked
from fedfore.execution.job import Job
from fedfore.execution.worker import conclude, prepared
from fedfore.records.record import Moment, Record, Status

LOCAL = "local"
"""The address of a Ray that is started here, and ends with the run."""
RETRIES = 3
"""How often a cell runs again whose node or worker was lost."""
CONNECT_SECONDS = 10
STOP_SECONDS = 2 * GRACE_SECONDS
OBJECT_STORE_BYTES = 2**28
QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass(frozen=True)
class RayCluster:
    """At most `workers` cells at a time, None as many as there are CPUs, on the nodes of the Ray at `address`.

    `is_shared`: all nodes see the run's folder under its path, and cells write there; else a cell writes into a
    temporary folder of its node, and its files come back at its end. A cell takes a CPU, and `gpus` where it runs on
    such a device.
    """

    address: str
    workers: int | None = None
    is_shared: bool = False
    gpus: float = 1.0

    def map(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Yield each job when it has ended. Raises ConfigError where there is no such cluster, or none with a GPU."""
        if not jobs:
            return
        gpus = 0 if jobs[0].device == "cpu" else self.gpus
        with _connected(self.address):
            _require_gpus(self.address, jobs[0].device, gpus)
            task = _task(run_in_shared_folder if self.is_shared else run_in_parcel, gpus)
            waiting, running = deque(jobs), dict[Any, tuple[Job, Moment]]()
            try:
                while waiting or running:
                    while waiting and len(running) < (self.workers or len(jobs)):
                        job = waiting.popleft()
                        given = () if self.is_shared else (_checkpoint(job),)
                        running[task.remote(job, *given)] = (job, Moment.now())
                    ended, _ = ray.wait(list(running))
                    for reference in ended:
                        yield _outcome(reference, *running.pop(reference))
            finally:
                _stop(list(running))


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Be a driver of the cluster, whose end is that of what it runs. Ray leaves SIGTERM to whom it was left before."""
    before = signal.getsignal(signal.SIGTERM)
    own: dict[str, Any] = {"num_cpus": usable_cpus(), "object_store_memory": OBJECT_STORE_BYTES}
    try:
        _require_listener(address)
        ray.init(address, **QUIET, **({"include_dashboard": False, **own} if address == LOCAL else {}))
    except (OSError, ImportError, RuntimeError, ValueError, RayError) as error:
        reason = printable(str(error).strip().partition("\n")[0]).rstrip(".")
        raise ConfigError(f"--executor: there is no Ray to be reached at {address} ({reason}).") from None
    finally:
        if signal.getsignal(signal.SIGTERM) is not before:
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError where nobody listens at an address; Ray would try for many minutes."""
    host, given, port = address.removeprefix("ray://").rpartition(":")
    if given:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _require_gpus(address: str, device: str, gpus: float) -> None:
    if ":" in device:
        raise ConfigError(f"--device {device}: which GPU a cell gets is up to Ray; say --device cuda.")
    if gpus > ray.cluster_resources().get("GPU", 0):
        raise ConfigError(f"--device cuda cannot be used there: the Ray at {address} has no {gpus:g} GPUs.")


def _task(function: Any, gpus: float) -> Any:
    """Return a remote function; a worker that had a GPU ends with its cell, as the next one may be given another."""
    return ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES, max_calls=1 if gpus else 0)(function)


def _checkpoint(job: Job) -> bytes | None:
    return job.checkpoint.read_bytes() if job.checkpoint.exists() else None


def _outcome(reference: Any, job: Job, started: Moment) -> Ended:
    """Return a job whose task has ended, with its record: a failed one that says why where nothing came back."""
    try:
        result: Parcel | Ended = ray.get(reference)
    except RayError as error:
        return job, _lost(job, error, started)
    return (job, unpacked(job, result)) if isinstance(result, Parcel) else result


def _lost(job: Job, error: RayError, started: Moment) -> Record:
    status: Status = "failed"
    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, BaseException) else error
        reason = f"its node could not run it ({type(cause).__name__}: {cause}); install the same fedfore on all nodes"
    elif isinstance(error, OutOfMemoryError):
        status, reason = "out_of_memory", "its node had too little memory for it; give Ray fewer CPUs there"
    else:
        reason = f"its node was lost {RETRIES + 1} times ({type(error).__name__}); run it again with --rerun failed"
    return prepared(job) or conclude(job, status, reason, {}, started)


def _stop(references: list[Any]) -> None:
    """Cancel these tasks: those that run let their cells write checkpoints and end; kill what has not ended then."""
    with suppress(RayError):
        for force in (False, True):
            for reference in references:
                ray.cancel(reference, force=force)
            if references:
                _, references = ray.wait(references, num_returns=len(references), timeout=STOP_SECONDS)

"""Cells in processes of this machine, as many at a time as fit: each is alone in its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence

from fedfore.execution.executors.cell_process import CellProcess, stop_all, wait_for_any
from fedfore.execution.executors.executor import Ended
from fedfore.execution.executors.machine import available_memory, resident_bytes
from fedfore.execution.job import Job
from fedfore.execution.worker import prepared
from fedfore.records.heartbeat import read_heartbeat
from fedfore.records.run_folder import cell_dir

LOOK_SECONDS = 0.5
SPARE = 1.1
"""Free memory that another cell wants, over the largest resident set of one so far."""


class Processes:
    """At most `workers` cells at a time, and fewer where memory is short: one is always run.

    `peak` is the largest resident set in bytes of a cell that has ended, 0 before one has.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.peak = 0

    def map(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        waiting, running = deque(jobs), list[CellProcess]()
        try:
            while waiting or running:
                while waiting and self._has_room(running):
                    job = waiting.popleft()
                    refused = prepared(job)
                    if refused is None:
                        running.append(CellProcess(job))
                        running[-1].start()
                    else:
                        yield job, refused
                wait_for_any(running, LOOK_SECONDS)
                for cell in [one for one in running if one.has_ended]:
                    record = cell.record()
                    running.remove(cell)
                    self.peak = max(self.peak, int(record.attempt_resident_bytes or 0))
                    yield cell.job, record
        finally:
            stop_all(running)

    def _has_room(self, running: Sequence[CellProcess]) -> bool:
        """Return whether another cell may start. The first of a kind shows how much memory one takes."""
        if not running:
            return True
        if len(running) >= self.workers:
            return False
        free = available_memory()
        if free is None:
            return True
        if not self.peak and not any(_has_trained(cell.job) for cell in running):
            return False
        peak = max(self.peak, *(resident_bytes(cell.pid, peak=True) for cell in running))
        wanted = peak * max(cell.job.processes for cell in running)
        promised = sum(max(0, wanted - resident_bytes(cell.pid)) for cell in running)
        return free - promised >= SPARE * wanted


def _has_trained(job: Job) -> bool:
    beat = read_heartbeat(cell_dir(job.aside, job.cell.id))
    return beat is not None and beat.phase == "train"

"""Cells in this process, one after the other: a breakpoint in a method stops there."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from fedfore.execution import worker
from fedfore.execution.executors.executor import Ended
from fedfore.execution.job import Job


class Inline:
    """No worker at all: what a cell does to this process, other cells see, and Ctrl-C ends it where it is."""

    def map(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        for job in jobs:
            record = worker.prepared(job) or worker.run_job(job)
            assert record is not None, "nobody asks a cell of this process to stop"
            yield job, record

"""What an executor is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from fedfore.execution.job import Job
from fedfore.records.record import Record

Ended = tuple[Job, Record]
"""A job, and the record of how it ended, which lies in the job's folder aside unless it could not be written."""


class Executor(Protocol):
    """Runs cells; one that fails, dies or takes too long has a record that says so and harms no other."""

    def map(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Yield each job when it has ended. Closing the generator stops the others, which keep their checkpoints."""
        ...

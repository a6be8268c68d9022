"""What is due between two steps of a cell: a heartbeat, a checkpoint, an end before its time."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from fedfore.errors import StoreError
from fedfore.execution.checkpoint import Stamp, read_checkpoint, write_checkpoint
from fedfore.execution.job import Job
from fedfore.federation.loop import Federation
from fedfore.records.heartbeat import Heartbeat, seconds_now, write_heartbeat
from fedfore.records.lines import ROUNDS

MOST_OVERHEAD = 0.01
"""Share of a cell's time that its checkpoints may take, beyond the first."""
BEAT_SECONDS = 0.5


class Stopped(Exception):
    """The cell was asked to end; its state is kept, and it has no result."""


class TimedOut(Exception):
    """The cell took longer than it may; its state is kept."""


class Keeper:
    """Looks after one attempt at a cell. `should_stop` says whether somebody asked for its end."""

    def __init__(self, job: Job, folder: Path, should_stop: Callable[[], bool]) -> None:
        self.job = job
        self.folder = folder
        self.should_stop = should_stop
        self.began_at = self._paced_at = 0.0
        self.began_seconds = self._paced_seconds = seconds_now()
        self._start = self._saved = time.monotonic()
        self._cost = 0.0
        self._beaten = -BEAT_SECONDS

    def resume(self, federation: Federation) -> None:
        """Go on from the cell's checkpoint, if there is one. Raises StoreError where it is damaged."""
        if self.job.checkpoint.exists():
            federation.load_state_dict(read_checkpoint(self.job.checkpoint, torch.device(self.job.device)))
            self.began_at = self._paced_at = federation.ledger.progress
            self._paced_seconds = seconds_now()

    def after_step(self, federation: Federation) -> None:
        """Do what is due. Raises Stopped and TimedOut, both after a checkpoint."""
        if federation.totals["train"].rounds <= 1:
            self._paced_at, self._paced_seconds = federation.ledger.progress, seconds_now()
        now, limit = time.monotonic(), self.job.timeout_seconds
        is_late, stops = limit is not None and now - self._start >= limit, self.should_stop()
        if is_late or stops or now - self._saved >= max(self.job.checkpoint_seconds, self._cost / MOST_OVERHEAD):
            self._save(federation)
        if stops:
            raise Stopped
        if is_late:
            raise TimedOut
        if now - self._beaten >= BEAT_SECONDS:
            self._beaten = now
            write_heartbeat(self.folder, self._heartbeat(federation))

    def _save(self, federation: Federation) -> None:
        """Write a checkpoint; where that cannot be done, the cell goes on without, and its log says so."""
        start = time.monotonic()
        try:
            write_checkpoint(self.job.checkpoint, federation.state_dict(), stamp_of(self.job))
        except StoreError as error:
            warnings.warn(f"No checkpoint was written: {error}", RuntimeWarning, stacklevel=2)
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def _heartbeat(self, federation: Federation) -> Heartbeat:
        trained, evaluations = federation.totals["train"].rounds, federation.log().get(ROUNDS, ())
        last = evaluations[-1] if evaluations else {}
        accuracy = last.get("test_accuracy")
        return Heartbeat(
            cell_id=self.job.cell.id,
            phase="train" if trained else "setup",
            round=trained or federation.totals["setup"].rounds,
            progress=federation.ledger.progress,
            began_at=self.began_at,
            began_seconds=self.began_seconds,
            paced_at=self._paced_at,
            paced_seconds=self._paced_seconds,
            seconds=seconds_now(),
            accuracy=last.get("validation_accuracy") if accuracy is None else accuracy,
        )


def stamp_of(job: Job) -> Stamp:
    """Return the stamp of the checkpoints of a cell."""
    code, others = job.origin.code_sha256, job.origin.plugin_code
    if others:
        code = hashlib.sha256(json.dumps([code, others], sort_keys=True).encode()).hexdigest()
    return Stamp(job.cell.id, code, job.origin.hash_scheme)

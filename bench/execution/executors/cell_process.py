"""A cell in a process of its own: it shares nothing with other cells that could leak, and prints into its log."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait

from fedfore.execution.executors.warm_server import CONTEXT, TO_STARTER, end_with_the_server, for_the_server
from fedfore.execution.job import Job
from fedfore.execution.worker import conclude, late_words, run_job, unrecorded
from fedfore.records import attempts
from fedfore.records.record import Moment, Record, Status
from fedfore.records.run_folder import LOG, cell_dir

GRACE_SECONDS = 5.0
"""What a cell has to come to the end of its round, when it is to end early, before it is killed."""
MOST_LOG_BYTES = 4 * 2**20
CHUNK = 2**16


class CellProcess:
    """A cell that is to run, runs or has run. `started` is when its process was asked for.

    Whoever starts one holds it before, so that an interrupt at any instant finds it among those to stop.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.started = Moment.now()
        self._is_late = False
        self._log_bytes = 0
        self._output, self._written = CONTEXT.Pipe(duplex=False)
        os.set_blocking(self._output.fileno(), False)
        self._unrecorded, self._said = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_live, args=(job, self._written, self._said))

    def start(self) -> None:
        """Start its process."""
        with for_the_server():
            self._process.start()
            self._written.close()
            self._said.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid or 0

    @property
    def has_ended(self) -> bool:
        """Whether its process is gone."""
        return not (self._process.pid and self._process.is_alive())

    def handles(self) -> tuple[int, ...]:
        """Return what becomes readable when it prints or ends."""
        output = () if self._output.closed else (self._output.fileno(),)
        return (*output, self._process.sentinel)

    def attend(self) -> None:
        """Take what it has printed, and kill it where it has not ended in time."""
        self._take_output()
        limit = self.job.timeout_seconds
        if limit is not None and time.monotonic() > self.started.clock + limit + GRACE_SECONDS and not self.has_ended:
            self._is_late = True
            self.kill()

    def ask_to_stop(self) -> None:
        """Let it write a checkpoint at the end of its round, and end."""
        if not self.has_ended:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if not self.has_ended:
            self._process.kill()
            self._process.join()

    def record(self) -> Record:
        """Return the record of a cell that has ended: its own, if that was the last thing it wrote."""
        self._take_output()
        self._output.close()
        self._process.join()
        written = attempts.find_record(self.job.aside, self.job.cell.id)
        if written is not None:
            return written
        with suppress(EOFError), self._unrecorded:
            if self._unrecorded.poll():
                return unrecorded(self.job, self._unrecorded.recv(), self.started)
        status: Status = "timeout" if self._is_late else "failed"
        reason = late_words(self.job) if self._is_late else _death_words(self._process.exitcode)
        return conclude(self.job, status, reason, {}, self.started)

    def _take_output(self) -> None:
        while not self._output.closed:
            try:
                part = os.read(self._output.fileno(), CHUNK)
            except BlockingIOError:
                return
            if not part:
                self._output.close()
                return
            self._keep(part)

    def _keep(self, part: bytes) -> None:
        """Append to the log, up to its largest size; a log that cannot be written is done without."""
        left = MOST_LOG_BYTES - self._log_bytes
        self._log_bytes += len(part)
        if left <= 0:
            return
        end = b"" if len(part) <= left else b"\n[The cell printed more than this log holds.]\n"
        try:
            with (cell_dir(self.job.aside, self.job.cell.id) / LOG).open("ab") as log:
                log.write(part[:left] + end)
        except OSError:
            self._log_bytes = MOST_LOG_BYTES


def wait_for_any(running: list[CellProcess], seconds: float) -> None:
    """Wait until one of these cells prints or ends, at most so long, and attend to all of them."""
    wait([handle for cell in running for handle in cell.handles()], timeout=seconds)
    for cell in running:
        cell.attend()


def stop_all(running: list[CellProcess]) -> None:
    """Let these cells write their checkpoints and end; kill those that have not ended after `GRACE_SECONDS`."""
    for cell in running:
        cell.ask_to_stop()
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        while not all(cell.has_ended for cell in running) and time.monotonic() < deadline:
            wait_for_any([cell for cell in running if not cell.has_ended], 0.1)
    finally:
        for cell in running:
            cell.kill()


def _death_words(code: int | None) -> str:
    how = f"exit status {code}" if code is None or code >= 0 else f"signal {signal.Signals(-code).name}"
    return f"the worker process died ({how}); rerun with --rerun failed"


def _live(job: Job, output: Connection, said: Connection) -> None:
    """Run the cell in its process, which ends with its starter and hears of SIGTERM alone."""
    end_with_the_server()
    threading.Thread(target=_die_with_starter, daemon=True).start()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TO_STARTER)
    record = run_job(job, stop.is_set)
    if record is None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    elif attempts.find_record(job.aside, job.cell.id) is None:
        said.send(str(record.reason))


def _die_with_starter() -> None:
    starter = parent_process()
    if starter is not None:
        starter.join()
    os.kill(os.getpid(), signal.SIGKILL)

"""Run a plan: preflight, order, isolate, resume, workers. One cell may fail; the matrix goes on and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from fedfore.cell import Cell
from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError, StoreError
from fedfore.execution.checkpoint import unusable
from fedfore.execution.executors.executor import Executor
from fedfore.execution.job import CHECKPOINT_SECONDS, Job
from fedfore.execution.keeper import stamp_of
from fedfore.execution.matrix import PlannedCell
from fedfore.execution.only import Only
from fedfore.execution.partition_names import named_partition
from fedfore.execution.plugged import code_files, plugin_code
from fedfore.execution.worker import conclude
from fedfore.records import attempts
from fedfore.records.choices import Tuning
from fedfore.records.code_hash import HASH_SCHEME
from fedfore.records.files import set_aside, write_atomically
from fedfore.records.partitions import partition_path
from fedfore.records.plan_file import write_plan
from fedfore.records.provenance import environment, git_commit
from fedfore.records.reader import Reader
from fedfore.records.record import DONE, Moment, Origin, Record
from fedfore.records.run_folder import cell_dir, checkpoint_file, locked, lost_files, write_environment, write_matrix
from fedfore.records.table import PresentCode, is_stale, present_code, staleness
from fedfore.tasks.datasets import spec
from fedfore.tasks.files import ensure_present
from fedfore.tasks.own_arrays import is_own
from fedfore.tasks.partition_file import PartitionFile

Rerun = Literal["missing", "failed", "stale", "all"]


@dataclass(frozen=True)
class RunOptions:
    """Where and how a plan runs; none of it is part of a cell's identity.

    Cells run `elsewhere` where devices and data are those of other machines, of which this one knows nothing.
    timeout_seconds limits the wall-clock time of an attempt at a cell; None does not. matrix is the text of the matrix,
    tuning what it tunes, and partitions its partition files by name and hash, all to be stored. Cells that are settled
    are kept, whatever rerun says. `only` limits `run_stages` to some cells of the first plan that it makes.
    `processes` share the clients of a cell's round.
    """

    run: Path
    command: str
    executor: Executor
    elsewhere: bool = False
    device: str = "cpu"
    rerun: Rerun = "missing"
    data_dir: Path | None = None
    plugins: tuple[Path, ...] = ()
    extend: bool = False
    timeout_seconds: float | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    save_model: bool = False
    processes: int = 1
    matrix: str | None = None
    tuning: Tuning | None = None
    partitions: Mapping[str, PartitionFile] = field(default_factory=dict)
    settled: frozenset[str] = frozenset()
    only: Only | None = None


@dataclass(frozen=True)
class Progress:
    """Called by `run_plan`: `start(launched, kept, stale among kept)` once, `done(record)` after a launched cell,
    `said(sentence)` for what is to be known.
    """

    start: Callable[[int, int, int], None] = lambda launched, kept, stale: None
    done: Callable[[Record], None] = lambda record: None
    said: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class Outcome:
    """What lies in the run folder at the end, whatever the plan that put it there, and what went wrong on the way.

    `records` are of all planned cells that have one, in the plan's order, `missing` the ids of the others; `failures`
    the records of attempts that failed and are not among these: a finished cell was left as it was, a checkpoint waits
    to be gone on from, or nothing could be written.
    """

    records: list[Record]
    missing: list[str]
    failures: list[Record]

    @property
    def is_complete(self) -> bool:
        """Whether every planned cell says `ok` or `skipped`, and no attempt failed."""
        return not (self.missing or self.failures or self.unfinished)

    @property
    def unfinished(self) -> list[Record]:
        """The records that do not say `ok` or `skipped`."""
        return [record for record in self.records if record.status not in DONE]

    def of(self, cells: Set[str]) -> Outcome:
        """Return what is said of these cells."""
        records = [record for record in self.records if record.cell_id in cells]
        return replace(self, records=records, missing=[name for name in self.missing if name in cells])


def preflight(cells: Sequence[Cell], options: RunOptions) -> None:
    """Raise one sentence for whatever would fail before the first of these cells: no data, no such device."""
    if not cells or options.elsewhere:
        return
    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {options.device} cannot be used here: {reason}.") from None
    for name in sorted({cell.dataset for cell in cells if not cell.train.meter_only}):
        ensure_present(name, options.data_dir)


def run_plan(
    planned: Sequence[PlannedCell],
    methods: Mapping[str, MethodEntry],
    options: RunOptions,
    progress: Progress = Progress(),
    reader: Reader | None = None,
) -> Outcome:
    """Run the cells that `rerun` selects and return what then lies in the run folder.

    Hashes and commit are those of the start. `reader` is one of the run folder, for who has it already. Raises
    StoreError where the run directory cannot be used. An interrupt stops the workers and is passed on; what was
    finished is kept.
    """
    options = replace(options, run=options.run.absolute())
    run, commit, reader = options.run, git_commit(), reader or Reader(options.run)
    used = {item.cell.method: methods[item.cell.method] for item in planned}
    files = code_files(used, [item.cell for item in planned])
    present = present_code(files)
    preflight(
        [item.cell for item in planned if item.skip is None and selected(item, options, present, reader)], options
    )
    with locked(run):
        everything = write_plan(
            run,
            [item.cell for item in planned],
            options.command,
            extend=options.extend,
            plugins={name: file for name, file in files.items() if name not in used or used[name].role == "plugin"},
            defaults={name: asdict(entry.method.Config()) for name, entry in used.items() if entry.method},
            tuning=options.tuning,
        )
        if options.matrix is not None:
            write_matrix(run, options.matrix)
        for key, partition in options.partitions.items():
            write_atomically(partition_path(run, key), partition.text())
        attempts.recover(run)
        environment_name = write_environment(run, environment() | {"device": options.device})
        to_run = [item for item in planned if selected(item, options, present, reader)]
        jobs = {
            item.cell.id: _job(item.cell, used[item.cell.method], present, commit, environment_name, options, reader)
            for item in to_run
        }
        for item in to_run:
            if item.skip is not None:
                job = jobs.pop(item.cell.id)
                _settled(run, job, conclude(job, "skipped", item.skip, {}, Moment.now()))
        others = [item.cell for item in planned if item.cell.id not in jobs]
        kept = [cell for cell in others if reader.find(cell.id) is not None]
        for job in jobs.values():
            _forget_unusable(job, progress)
            _name_damaged(reader, job, options, progress)
        progress.start(len(jobs), len(kept), sum(_is_stale(reader, cell, present) for cell in kept))
        ended = _run_jobs(_shuffled(list(jobs.values())), options, progress)
        attempts.clear(run)
        found = {cell.id: reader.find(cell.id) for cell in everything}
        records = [record for record in found.values() if record is not None]
        return Outcome(
            records,
            [name for name, record in found.items() if record is None],
            [record for record in ended if record.status not in DONE and not _is_same(record, found)],
        )


def _is_same(record: Record, found: Mapping[str, Record | None]) -> bool:
    stored = found[record.cell_id]
    names = ("status", "started_utc", "attempt")
    return stored is not None and all(getattr(stored, name) == getattr(record, name) for name in names)


def _job(
    cell: Cell,
    entry: MethodEntry,
    present: PresentCode,
    commit: str | None,
    environment_name: str,
    options: RunOptions,
    reader: Reader,
) -> Job:
    before = reader.find(cell.id)
    method = entry.method
    origin = Origin(
        role=entry.role,
        uses=tuple(method.uses) if method else (),
        label=method.label if method else None,
        look=asdict(method.look) if method and method.look else None,
        code_sha256=present(cell.method, HASH_SCHEME),
        plugin_code=plugin_code(cell, lambda plugin: present(plugin.key, HASH_SCHEME)),
        hash_scheme=HASH_SCHEME,
        git_commit=commit,
        environment=environment_name,
        attempt=1 + (before.attempt if before else 0),
    )
    return Job(
        cell=cell,
        aside=attempts.attempts(options.run),
        origin=origin,
        device=options.device,
        data_dir=options.data_dir,
        plugins=options.plugins,
        checkpoint=checkpoint_file(options.run, cell.id),
        checkpoint_seconds=options.checkpoint_seconds,
        timeout_seconds=options.timeout_seconds,
        save_model=options.save_model,
        processes=options.processes,
        partition=named_partition(options.run, cell),
        data=spec(cell.dataset) if is_own(cell.dataset) else None,
    )


def _forget_unusable(job: Job, progress: Progress) -> None:
    """Set a checkpoint aside from which the cell cannot go on, and say so."""
    reason = unusable(job.checkpoint, stamp_of(job)) if job.checkpoint.exists() else None
    if reason is not None:
        progress.said(reason)
        set_aside(job.checkpoint)


def _name_damaged(reader: Reader, job: Job, options: RunOptions, progress: Progress) -> None:
    record = reader.find(job.cell.id)
    lost = lost_files(options.run, record) if record is not None else []
    if lost:
        progress.said(
            f"{job.cell.id} runs again: not whole of it {'is' if len(lost) == 1 else 'are'} {', '.join(lost)}."
        )


def selected(item: PlannedCell, options: RunOptions, present: PresentCode, reader: Reader) -> bool:
    """Return whether a planned cell is to run, by what lies in the run folder and by `rerun`."""
    run, cell, rerun = options.run, item.cell, options.rerun
    if cell.id in options.settled:
        return False
    record = reader.find(cell.id)
    if record is None or rerun == "all" or lost_files(run, record) or attempts.goes_on(run, record):
        return True
    if rerun == "stale":
        return is_stale(staleness(record, cell, present))
    failed_since = cell_dir(attempts.failed(run), cell.id).exists()
    return (rerun == "failed" or item.skip is not None) and (record.status not in DONE or failed_since)


def _is_stale(reader: Reader, cell: Cell, present: PresentCode) -> bool:
    record = reader.find(cell.id)
    return record is not None and is_stale(staleness(record, cell, present))


def _shuffled(jobs: Sequence[Job]) -> list[Job]:
    """Order jobs by the hash in their ids: cheap and dear cells mix, so the mean time so far predicts what is left."""
    return sorted(jobs, key=lambda job: job.cell.id.rpartition("-")[2])


def _run_jobs(jobs: Sequence[Job], options: RunOptions, progress: Progress) -> list[Record]:
    """Run the jobs and return their records as they ended."""
    ended = []
    with closing(options.executor.map(jobs)) as ending:
        for job, record in ending:
            ended.append(_settled(options.run, job, record))
            progress.done(ended[-1])
    return ended


def _settled(run: Path, job: Job, record: Record) -> Record:
    """Put an ended attempt where it belongs and return its record, as a failed one where that cannot be done."""
    try:
        attempts.settle(run, job.aside, job.cell.id)
    except StoreError as error:
        return replace(record, status="failed", reason=str(error))
    return record

"""Run a plan: preflight, order, isolate, resume, workers. One cell may fail; the matrix goes on and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from pebble import ProcessExpired, ProcessPool

from bench import data, store
from bench.border import unchanged_process, words
from bench.cell import Cell
from bench.errors import ConfigError, Diverged, Skip
from bench.federated import Federation
from bench.matrix import PlannedCell
from bench.metering import metered_fields
from bench.metrics import METRICS
from bench.provenance import code_sha256, environment, git_commit
from bench.record import adjustment_lines, diagnosis_line, layer_lines, measured_fields, round_line
from bench.registry import MethodEntry, discover, lookup

Rerun = Literal["missing", "failed", "stale", "all"]
METERED_ONLY = "The protocol says train.meter_only = true: nothing was trained."
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class RunOptions:
    """Where and how a plan runs; none of it is part of a cell's identity.

    timeout_seconds limits one cell's wall-clock time; None does not.
    """

    run: Path
    command: str
    workers: int
    device: str = "cpu"
    rerun: Rerun = "missing"
    data_dir: Path | None = None
    plugins: tuple[Path, ...] = ()
    extend: bool = False
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Job:
    """What a worker is given: a cell and where its record goes."""

    cell: Cell
    run: Path
    environment: str
    attempt: int
    device: str
    data_dir: Path | None
    plugins: tuple[Path, ...]


@dataclass(frozen=True)
class Progress:
    """Called by `run_plan`: `start(launched, kept)` once, `done(record)` after every launched cell."""

    start: Callable[[int, int], None] = lambda launched, kept: None
    done: Callable[[Mapping[str, Any]], None] = lambda record: None


def available_cpus() -> int:
    """Return the CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def preflight(cells: Sequence[Cell], options: RunOptions) -> None:
    """Raise one sentence for whatever would fail before the first of these cells: no data, no such device."""
    if not cells:
        return
    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {options.device} cannot be used here: {reason}.") from None
    for name in sorted({cell.dataset for cell in cells if not cell.train.meter_only}):
        data.ensure_present(name, options.data_dir)


def run_plan(
    planned: Sequence[PlannedCell],
    methods: Mapping[str, MethodEntry],
    options: RunOptions,
    progress: Progress = Progress(),
) -> list[dict[str, Any]]:
    """Run the cells that `rerun` selects and return the records of all planned cells, in the plan's order.

    Raises StoreError where the run directory cannot be used. An interrupt stops the workers and is passed on; what was
    finished is kept.
    """
    run = options.run
    before = {item.cell.id: store.read_record(run, item.cell.id) for item in planned}
    chosen = [
        item.cell
        for item in planned
        if item.skip is None and _selected(before[item.cell.id], methods[item.cell.method], options.rerun)
    ]
    preflight(chosen, options)
    with store.locked(run):
        everything = store.write_plan(run, [p.cell for p in planned], options.command, extend=options.extend)
        environment_name = store.write_environment(run, environment() | {"device": options.device})
        for item in planned:
            if item.skip is not None and before[item.cell.id] is None:
                job = _job(item.cell, None, environment_name, options)
                _finish(job, methods[item.cell.method], "skipped", item.skip, {}, 0.0)
        launched = [_job(cell, before[cell.id], environment_name, options) for cell in chosen]
        progress.start(len(launched), len(planned) - len(launched))
        if launched:
            _run_jobs(_shuffled(launched), methods, options, progress)
        found = [store.read_record(run, cell.id) for cell in everything]
    return [record for record in found if record is not None]


def _job(cell: Cell, before: Mapping[str, Any] | None, environment_name: str, options: RunOptions) -> Job:
    attempt = 1 + (before["attempt"] if before else 0)
    return Job(cell, options.run, environment_name, attempt, options.device, options.data_dir, options.plugins)


def _selected(record: Mapping[str, Any] | None, entry: MethodEntry, rerun: Rerun) -> bool:
    if record is None or rerun == "all":
        return True
    if rerun == "stale":
        return store.is_stale(record, code_sha256(entry.file))
    return rerun == "failed" and record["status"] not in store.DONE


def _shuffled(jobs: Sequence[Job]) -> list[Job]:
    """Order jobs by the hash in their ids: cheap and dear cells mix, so the mean time so far predicts what is left."""
    return sorted(jobs, key=lambda job: job.cell.id.rpartition("-")[2])


def _run_jobs(jobs: Sequence[Job], methods: Mapping[str, MethodEntry], options: RunOptions, progress: Progress) -> None:
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    workers = min(options.workers, len(jobs))
    pool = ProcessPool(max_workers=workers, context=get_context("spawn"), initializer=_ignore_interrupts)
    try:
        futures = {pool.schedule(run_job, args=(job,), timeout=options.timeout_seconds): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            try:
                progress.done(future.result())
            except ProcessExpired as error:
                reason = f"the worker process died ({_exit_words(error.exitcode)}); rerun with --rerun failed"
                progress.done(_finish(job, methods[job.cell.method], "failed", reason, {}, 0.0))
            except FutureTimeout:
                limit = options.timeout_seconds or 0.0
                reason = f"longer than --timeout {limit:g} seconds"
                progress.done(_finish(job, methods[job.cell.method], "timeout", reason, {}, limit))
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _exit_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit status {code}"
    return f"signal {signal.Signals(-code).name}"


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _dataset(name: str, data_dir: Path | None) -> data.Dataset:
    return data.load(name, data_dir)


@cache
def _methods(plugins: tuple[Path, ...]) -> dict[str, MethodEntry]:
    return discover(plugins)


def run_job(job: Job) -> dict[str, Any]:
    """Run one cell in this process, on one thread, and write its record: the one place that catches everything."""
    torch.set_num_threads(1)
    entry = _methods(job.plugins)[job.cell.method]
    folder = store.cell_dir(job.run, job.cell.id)
    started = time.perf_counter()
    measured: dict[str, Any] = {}
    trace = None
    try:
        measured = _measure(job, entry)
        status, reason = "ok", METERED_ONLY if job.cell.train.meter_only else None
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except BaseException as error:  # noqa: BLE001
        reason, trace = words(error), traceback.format_exc().encode(errors="backslashreplace").decode()
        out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in reason
        status = "out_of_memory" if out_of_memory else "failed"
    if trace is not None:
        store.write_atomically(folder / "traceback.txt", trace)
    else:
        (folder / "traceback.txt").unlink(missing_ok=True)
    return _finish(job, entry, status, reason, measured, time.perf_counter() - started)


def _measure(job: Job, entry: MethodEntry) -> dict[str, Any]:
    cell = job.cell
    method = lookup({cell.method: entry}, cell.method)
    if cell.train.meter_only:
        return metered_fields(cell, method, torch.device(job.device))
    dataset = _dataset(cell.dataset, job.data_dir)
    with (
        store.lines_writer(job.run, cell.id, store.ROUNDS) as rounds,
        store.lines_writer(job.run, cell.id, store.DIAGNOSTICS) as diagnostics,
        unchanged_process(method.__name__),
    ):
        result = Federation(
            cell,
            method,
            dataset,
            torch.device(job.device),
            on_point=lambda point: rounds(round_line(point)),
            on_diagnosis=lambda diagnosis: diagnostics(diagnosis_line(diagnosis)),
        ).run()
    with store.lines_writer(job.run, cell.id, store.LAYERS) as layers:
        for line in layer_lines(result):
            layers(line)
    if result.mask_changes.changes:
        with store.lines_writer(job.run, cell.id, store.ADJUSTMENTS) as adjustments:
            for line in adjustment_lines(result):
                adjustments(line)
    if result.notes:
        store.write_notes(job.run, cell.id, result.notes)
    return measured_fields(cell, result)


def _finish(
    job: Job, entry: MethodEntry, status: str, reason: str | None, measured: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Write and return the record of a cell."""
    record = {
        **store.identity(job.cell),
        "role": entry.role,
        "uses": sorted(entry.method.uses) if entry.method else [],
        "status": status,
        "reason": reason,
        **dict.fromkeys(METRICS),
        **measured,
        "code_sha256": code_sha256(entry.file),
        "environment": job.environment,
        "git_commit": git_commit(),
        "attempt": job.attempt,
        "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": seconds,
    }
    store.write_record(job.run, record)
    return record

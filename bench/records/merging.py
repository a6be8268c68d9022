"""Runs of several machines united into one: whose record of a cell is taken, and what is refused. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedfore.errors import StoreError
from fedfore.records.attempts import FINAL, find_record
from fedfore.records.choices import Tuning
from fedfore.records.files import writing
from fedfore.records.live import LiveRun
from fedfore.records.packed import MATRIX, is_packed
from fedfore.records.partitions import copy_partitions
from fedfore.records.plan_file import Asked, require_same_plan, write_plan
from fedfore.records.record import is_volatile, record_to_json
from fedfore.records.run_folder import cell_dir, is_held, locked, write_environment, write_matrix


@dataclass(frozen=True)
class Merged:
    """How many cells the united plan has, and how many of them a record."""

    planned: int
    recorded: int


def merge(runs: Sequence[Path], out: Path, *, extend: bool = False) -> Merged:
    """Unite live runs of one plan in a new folder; with `extend` the plans may differ, and are united too.

    Each planned cell comes from the first run in which it ended for good, or else failed; a damaged record counts as
    none, and one whose lines are damaged comes last. Checkpoints, attempts and reports are not copied. Raises
    StoreError, before anything is written, for what is no run or is being written to, for plans that cannot be united,
    for a cell that ended differently in two runs, and where `out` holds something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StoreError(f"{out} is there already and not empty; choose another --out.")
    within = next((run for run in runs if run.resolve() in out.resolve().parents), None)
    if within is not None:
        raise StoreError(f"{out} lies in {within}, a run of its own; choose another --out.")
    opened = [_opened(run) for run in runs]
    tuning = _united_plan(opened, extend=extend)
    cells = {cell.id: cell for run in opened for cell in run.plan()}
    sources = {name: source for name in cells if (source := _source(opened, name)) is not None}
    environments = {name: values for run in opened for name, values in run.environments().items()}
    matrices = [run.path / MATRIX for run in opened if (run.path / MATRIX).is_file()]
    commands = dict.fromkeys(command for run in opened for command in run.commands())
    plugins = {name: file for run in opened for name, file in run.plugins().items()}
    with locked(out):
        for values in environments.values():
            write_environment(out, values)
        for name, source in sources.items():
            with writing(cell_dir(out, name)):
                shutil.copytree(cell_dir(source, name), cell_dir(out, name), ignore=shutil.ignore_patterns(".*"))
        for run in opened:
            copy_partitions(run.path, out)
        if matrices:
            write_matrix(out, matrices[-1].read_text(encoding="utf-8"))
        for command in commands:
            write_plan(out, list(cells.values()), command, extend=False, plugins=plugins, tuning=tuning)
    return Merged(len(cells), len(sources))


def _opened(path: Path) -> LiveRun:
    if is_packed(path):
        raise StoreError(f"{path} is a published study; lay it out as a run with fedfore run --from first.")
    if path.is_dir() and is_held(path):
        raise StoreError(f"Another fedfore process is writing to {path}; wait for it, and merge then.")
    return LiveRun(path)


def _united_plan(runs: Sequence[LiveRun], *, extend: bool) -> Tuning | None:
    """Return the tuning of the plan that these runs have in common, the one that has come furthest."""
    first = runs[0]
    for other in runs[1:]:
        plans = (Asked({cell.id for cell in run.plan()}, run.tuning()) for run in (first, other))
        require_same_plan(other.path, *plans, extend=extend)
    found = {run.path: tuning for run in runs if (tuning := run.tuning()) is not None}
    chosen = {path: tuning for path, tuning in found.items() if tuning.choices is not None}
    for path, tuning in chosen.items():
        if tuning != next(iter(chosen.values())):
            raise StoreError(f"The trials of {path} chose otherwise than those of {next(iter(chosen))}; leave one out.")
    return next(iter((*chosen.values(), *found.values())), None)


def _source(runs: Sequence[LiveRun], cell_id: str) -> Path | None:
    """Return the run that a cell is taken from, None where no run has a record of it."""
    found = {run.path: record for run in runs if (record := find_record(run.path, cell_id)) is not None}
    ended = {
        run.path: record_to_json(record)
        for run in runs
        if (record := found.get(run.path)) is not None and record.status in FINAL and not run.lost_files(cell_id)
    }
    first = next(iter(ended), None)
    for path in ended:
        field = _differing(ended[first], ended[path]) if first else None
        if field is not None:
            raise StoreError(
                f"{cell_id}: {field} in {path} is not what it is in {first}; leave one of these runs out, or run the "
                f"cell again there with --only {cell_id} --rerun all."
            )
    return first or next(iter(found), None)


def _differing(one: Mapping[str, object], other: Mapping[str, object]) -> str | None:
    """Return the first field in which two records of a cell differ, and must not."""
    return next((name for name in one if one[name] != other[name] and not is_volatile(name)), None)

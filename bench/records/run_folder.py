"""Run directories: the plan, one record a cell, lines, environments. No torch.

    RUN/plan.json                     the resolved cells, the commands that ran them, and what tuning chose
    RUN/matrix.toml                   the matrix that was asked for last
    RUN/cells/<id>/record.json        one flat object; the folder is put in its place as a whole (see `attempts`)
    RUN/cells/<id>/rounds.jsonl       one line an evaluation; likewise the other files of lines (see `lines`)
    RUN/cells/<id>/notes.json         what the method noted of itself
    RUN/cells/<id>/traceback.txt      of a failed cell
    RUN/cells/<id>/log.txt            what the cell printed
    RUN/cells/<id>/model.safetensors  weights and mask at its end, where they were asked for
    RUN/environments/<hash>.json      versions and processor

A missing value is null beside a status; NaN is never written; a planned cell without a record is a row of the table
(see `fedfore.records.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fedfore.cell import Cell, cell_from_json, cell_to_json
from fedfore.errors import ConfigError, DamagedError, StoreError
from fedfore.records.choices import TUNING, Tuning, tuning_from_json, tuning_to_json
from fedfore.records.files import (
    damaged,
    dumped,
    find_object,
    read_lines,
    read_object,
    set_aside,
    write_atomically,
    writing_lines,
)
from fedfore.records.lines import LINES
from fedfore.records.migration import SCHEMA_VERSION, migrated_cells, migrated_plan
from fedfore.records.packed import MATRIX, is_packed
from fedfore.records.provenance import environment_hash, is_environment
from fedfore.records.record import Record, record_from_json, record_to_json

RECORD = "record.json"
NOTES = "notes.json"
LOG = "log.txt"
"""What the cell printed; no data of it."""
MODEL = "model.safetensors"


def cell_dir(run: Path, cell_id: str) -> Path:
    """Return the folder of a cell's files."""
    return run / "cells" / cell_id


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run directory for this process.

    Raises StoreError where another process holds it, where it cannot be written, and for a published study.
    """
    if is_packed(run):
        raise StoreError(f"{run} is a published study and stays as it is; choose another --out.")
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"Another fedfore process is writing to {run}; wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise StoreError(f"Cannot write to {run} ({error.strerror}); choose another folder with --out.") from None
    try:
        yield
    finally:
        lock.release()


def is_held(run: Path) -> bool:
    """Return whether another process holds the run directory."""
    try:
        with FileLock(run / ".lock").acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def write_plan(
    run: Path,
    cells: Sequence[Cell],
    command: str,
    *,
    extend: bool,
    plugins: Mapping[str, Path] | None = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
    tuning: Tuning | None = None,
) -> list[Cell]:
    """Store the resolved cells and return all planned ones.

    The command joins those that were stored before. `plugins` are the files of methods that do not ship with the suite;
    `defaults` gives each method's parameters, with which cells are completed that were planned before it had them.
    The plan of an earlier stage of the same `tuning` gives way to this one. Raises StoreError where RUN holds another
    plan, unless `extend` unites the two.
    """
    planned = {cell.id: cell for cell in cells}
    commands: list[str] = []
    files = {name: str(file) for name, file in (plugins or {}).items()}
    if (run / "plan.json").exists():
        before = {cell.id: _with_defaults(cell, defaults or {}) for cell in read_plan(run)}
        require_same_plan(run, Asked(before.keys(), read_tuning(run)), Asked(planned.keys(), tuning), extend=extend)
        planned = planned if tuning and tuning.is_by_trials else before | planned
        commands = read_commands(run)
        files = {**{name: str(file) for name, file in read_plugins(run).items()}, **files}
    document = {
        "schema_version": SCHEMA_VERSION,
        "commands": [*(known for known in commands if known != command), command],
        "plugins": files,
        "cells": [cell_to_json(cell) for cell in planned.values()],
        **({} if tuning is None else {TUNING: tuning_to_json(tuning)}),
    }
    write_atomically(run / "plan.json", dumped(document))
    return list(planned.values())


@dataclass(frozen=True)
class Asked:
    """What a plan asks for: the ids of its cells, which grow as it tunes, and its tuning, if it has one."""

    ids: Set[str]
    tuning: Tuning | None = None


def require_same_plan(run: Path, before: Asked, now: Asked, *, extend: bool = False) -> None:
    """Raise StoreError where a run or study holds another plan than this one, unless `extend` may unite the two.

    Plans with trials are the same if they ask for the same, in whatever stage they are, and are never united.
    """
    one, other = before.tuning, now.tuning
    if any(tuning and tuning.is_by_trials for tuning in (one, other)):
        if not (one and one.asks_as(other)):
            raise StoreError(
                f"{run} holds another plan, whose [tune], [grid] or [params] are not those of this one; choose another "
                "--out, as plans that tune are not united."
            )
    elif extend and one != other:
        raise StoreError(f"{run} holds a plan with other choices of tuning than this one's; choose another --out.")
    elif before.ids != now.ids and not extend:
        raise StoreError(
            f"{run} holds another plan ({len(before.ids)} cells, {len(before.ids & now.ids)} of them in common with "
            "this one); choose another --out, or unite both with --extend."
        )


def set_damaged_plan_aside(run: Path) -> str | None:
    """Give a plan that is damaged another name; return a sentence that says so, or None where there is none.

    Raises StoreError where another process holds the run, or for a plan of a later version.
    """
    plan = run / "plan.json"
    if not plan.exists():
        return None
    with locked(run):
        try:
            read_plan(run), read_tuning(run), read_commands(run), read_plugins(run)
        except DamagedError as error:
            aside = set_aside(plan)
            return f"{str(error).partition(';')[0]}; it was set aside as {aside.name}, and the matrix is planned anew."
    return None


def write_matrix(run: Path, text: str) -> None:
    """Store the matrix that was asked for last, as TOML."""
    write_atomically(run / MATRIX, text)


def _with_defaults(cell: Cell, defaults: Mapping[str, Mapping[str, Any]]) -> Cell:
    return replace(cell, params={**defaults.get(cell.method, {}), **cell.params})


def read_plan_document(run: Path) -> Mapping[str, Any]:
    """Return what is stored of a plan, in this schema. Raises StoreError where that cannot be read."""
    document = read_object(run / "plan.json", f"{run} is no run directory of fedfore")
    version = document.get("schema_version")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise StoreError(
            f"{run} was written with record schema {version}, this is schema {SCHEMA_VERSION}; read it with the "
            "version of fedfore that wrote it."
        )
    return migrated_plan(document)


def read_plan(run: Path) -> list[Cell]:
    """Return the planned cells. Raises StoreError where there is no readable plan."""
    document = read_plan_document(run)
    try:
        cells = migrated_cells([cell_from_json(cell) for cell in document["cells"]])
        if all(Path(cell.id).name == cell.id for cell in cells):
            return cells
    except ConfigError as error:
        raise DamagedError(f"{run / 'plan.json'} cannot be read: {error}") from None
    except (AttributeError, KeyError, TypeError):
        pass
    raise damaged(run / "plan.json")


def read_tuning(run: Path) -> Tuning | None:
    """Return what the plan tunes and what was chosen, or None where it tunes nothing. Raises StoreError."""
    stored = read_plan_document(run).get(TUNING)
    try:
        return None if stored is None else tuning_from_json(stored)
    except ValueError as error:
        raise damaged(run / "plan.json", why=f"its {TUNING} is none: {error}") from None


def read_commands(run: Path) -> list[str]:
    """Return the commands that made the run, the latest last."""
    document = read_plan_document(run)
    commands = document.get("commands")
    if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
        raise damaged(run / "plan.json")
    return commands


def read_plugins(run: Path) -> dict[str, Path]:
    """Return the files of the run's methods that do not ship with the suite, where they were on this machine."""
    files = read_plan_document(run).get("plugins")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise damaged(run / "plan.json")
    return {name: Path(file) for name, file in files.items()}


def write_record(run: Path, record: Record) -> None:
    """Write a cell's record, last of its files. Raises ValueError for a NaN or an infinity in it."""
    write_atomically(cell_dir(run, record.cell_id) / RECORD, dumped(record_to_json(record)))


def read_record(run: Path, cell_id: str) -> Record | None:
    """Return a cell's record, or None where there is none. Raises StoreError where what is there is no such record."""
    path = cell_dir(run, cell_id) / RECORD
    stored = find_object(path)
    try:
        return None if stored is None else record_from_json(stored, cell_id)
    except ValueError as error:
        raise StoreError(f"{path} {error}; move it away and run the matrix again.") from None


def read_stored(run: Path, cell_id: str) -> dict[str, Any] | None:
    """Return a cell's record as it was written, of whatever schema; raises as `read_record` does."""
    return None if read_record(run, cell_id) is None else find_object(cell_dir(run, cell_id) / RECORD)


def checkpoint_file(run: Path, cell_id: str) -> Path:
    """Return the file in which a cell that has not ended keeps its state."""
    return run / "checkpoints" / f"{cell_id}.safetensors"


def data_files(folder: Path) -> list[str]:
    """Return the names of the files in a cell's folder that its record answers for."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [name for name in names if name != LOG and not name.startswith(".")]


def lost_files(run: Path, record: Record) -> list[str]:
    """Return the files that a cell's record names and that are not beside it any more."""
    folder = cell_dir(run, record.cell_id)
    return [name for name in record.files if not (folder / name).exists()]


def write_notes(run: Path, cell_id: str, notes: Mapping[str, Any]) -> None:
    """Write what a method noted of itself in the cell (`notes.json`)."""
    write_atomically(cell_dir(run, cell_id) / NOTES, dumped(notes))


def read_notes(run: Path, cell_id: str) -> dict[str, Any]:
    """Return what the method noted of itself in a cell, maybe nothing. Raises StoreError for a damaged file."""
    return find_object(cell_dir(run, cell_id) / NOTES) or {}


def write_environment(run: Path, values: Mapping[str, object]) -> str:
    """Store an environment and return its hash."""
    name = environment_hash(values)
    path = run / "environments" / f"{name}.json"
    if not path.exists():
        write_atomically(path, dumped(values))
    return name


def read_environments(run: Path) -> dict[str, dict[str, Any]]:
    """Return the environments of a run by hash."""
    found = {}
    for path in sorted((run / "environments").glob("*.json")):
        found[path.stem] = read_object(path, "no environment")
        if not is_environment(found[path.stem]):
            raise damaged(path)
    return found


def lines_writer(run: Path, cell_id: str, name: str) -> AbstractContextManager[Callable[[Mapping[str, Any]], None]]:
    """Return a context that yields a function which appends one line to the cell's file `name`, which starts empty.

    Both raise StoreError where it cannot be written; the function raises ValueError for a NaN or an infinity.
    """
    return writing_lines(cell_dir(run, cell_id) / name)


def read_cell_lines(run: Path, cell_id: str, name: str) -> list[dict[str, Any]]:
    """Return the lines of a cell's file `name`, none where it is absent. Raises StoreError for a damaged file."""
    path = cell_dir(run, cell_id) / name
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        problem = LINES[name].problem(line)
        if problem:
            raise damaged(path, number, why=problem)
    return lines

"""The plan of a run: its cells, the commands that asked for them, and what tuning chose. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedfore.cell import Cell, cell_from_json, cell_to_json
from fedfore.errors import ConfigError, DamagedError, StoreError
from fedfore.records.choices import TUNING, Tuning, tuning_from_json, tuning_to_json
from fedfore.records.files import damaged, dumped, read_object, set_aside, version, write_atomically
from fedfore.records.migration import SCHEMA_VERSION, migrated_cells, migrated_plan
from fedfore.records.run_folder import locked


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
    if not _says(run / "plan.json", document):
        write_atomically(run / "plan.json", dumped(document))
    return list(planned.values())


def _says(path: Path, document: Mapping[str, Any]) -> bool:
    """Return whether a plan's file says this already."""
    now = version(path)
    return now is not None and json.dumps(_stored(path, now), sort_keys=True) == json.dumps(document, sort_keys=True)


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


def _with_defaults(cell: Cell, defaults: Mapping[str, Mapping[str, Any]]) -> Cell:
    return replace(cell, params={**defaults.get(cell.method, {}), **cell.params})


def read_plan_document(run: Path) -> Mapping[str, Any]:
    """Return what is stored of a plan, in this schema. Raises StoreError where that cannot be read."""
    document = _stored(run / "plan.json", version(run / "plan.json"))
    schema = document.get("schema_version")
    if not isinstance(schema, int) or not 1 <= schema <= SCHEMA_VERSION:
        raise StoreError(
            f"{run} was written with record schema {schema}, this is schema {SCHEMA_VERSION}; read it with the "
            "version of fedfore that wrote it."
        )
    return migrated_plan(document)


@lru_cache(maxsize=1)
def _stored(path: Path, now: tuple[int, int, int] | None) -> Mapping[str, Any]:
    """Return what is stored of a plan, parsed once as long as its file is that of the version `now`."""
    del now
    return read_object(path, f"{path.parent} is no run directory of fedfore")


def read_plan(run: Path) -> list[Cell]:
    """Return the planned cells. Raises StoreError where there is no readable plan."""
    return list(_cells(run, version(run / "plan.json")))


@lru_cache(maxsize=1)
def _cells(run: Path, now: tuple[int, int, int] | None) -> tuple[Cell, ...]:
    """Return the planned cells of the version `now` of a plan's file."""
    del now
    document = read_plan_document(run)
    try:
        cells = migrated_cells([cell_from_json(cell) for cell in document["cells"]])
        if all(Path(cell.id).name == cell.id for cell in cells):
            return tuple(cells)
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

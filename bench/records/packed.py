"""Packed studies: what is published of a run, in a few files that one can read, search and compare. No torch.

    STUDY/cells.jsonl         a line a record, as it was written, without what is null; sorted by id
    STUDY/rounds.jsonl        a line an evaluation, with its `cell_id`; likewise the other lines files of the cells
    STUDY/notes.jsonl         a line a cell that has notes
    STUDY/plan.json           `order`: the ids of the planned cells; `missing`: those without a record, resolved;
                              `tuning`: the choices and the trials that gave them, where the matrix tunes
    STUDY/environments.json   versions and processors by hash
    STUDY/commands.json       the commands that made the run
    STUDY/matrix.toml         the matrix, as it was read
    STUDY/*.partition.json    the partition files that it names
    STUDY/checksums.json      hashes of these files (see `manifest`)

Lines files without a line are left out. A study's card (README.md) and its figures lie beside them.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from fedfore.cell import Cell, cell_from_json
from fedfore.errors import ConfigError, StoreError
from fedfore.records.choices import TUNING, Tuning, tuning_from_json
from fedfore.records.files import RESTORE, damaged, find_value, read_lines
from fedfore.records.lines import LINES
from fedfore.records.migration import migrated_cells
from fedfore.records.provenance import is_environment
from fedfore.records.record import Record, cell_of, record_from_json
from fedfore.records.run import Run

CELLS = "cells.jsonl"
NOTES = "notes.jsonl"
PLAN = "plan.json"
COMMANDS = "commands.json"
ENVIRONMENTS = "environments.json"
MATRIX = "matrix.toml"
_Lines = dict[str, list[dict[str, Any]]]


def is_packed(folder: Path) -> bool:
    """Return whether a folder holds a packed study."""
    return (folder / CELLS).is_file()


class PackedRun(Run):
    """A packed study. Each of its files is read once, at the first question about it."""

    is_published = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lines: dict[str, _Lines | StoreError] = {}

    def plan(self) -> list[Cell]:
        plan = self._value(PLAN, dict)
        try:
            missing = {cell["id"]: cell_from_json(cell) for cell in plan["missing"]}
            lost = [name for name in plan["order"] if name not in missing and name not in self._records]
            if lost:
                raise StoreError(f"{self.path / CELLS} has no line of {lost[0]}, a cell of {PLAN}; {RESTORE}.")
            return migrated_cells([missing.get(name) or cell_of(self._records[name]) for name in plan["order"]])
        except ConfigError as error:
            raise StoreError(f"{self.path} cannot be read: {error}") from None
        except (AttributeError, KeyError, TypeError):
            raise damaged(self.path / PLAN, mend=RESTORE) from None

    def commands(self) -> list[str]:
        commands: list[str] = self._value(COMMANDS, list)
        if not all(isinstance(command, str) for command in commands):
            raise damaged(self.path / COMMANDS, mend=RESTORE)
        return commands

    def environments(self) -> dict[str, dict[str, Any]]:
        environments: dict[str, dict[str, Any]] = self._value(ENVIRONMENTS, dict)
        if not all(is_environment(values) for values in environments.values()):
            raise damaged(self.path / ENVIRONMENTS, mend=RESTORE)
        return environments

    def plugins(self) -> dict[str, Path]:
        return {}

    def tuning(self) -> Tuning | None:
        stored = self._value(PLAN, dict).get(TUNING)
        try:
            return None if stored is None else tuning_from_json(stored)
        except ValueError as error:
            raise damaged(self.path / PLAN, mend=RESTORE, why=f"its {TUNING} is none: {error}") from None

    def recorded(self) -> list[str]:
        return sorted(self._records)

    def stored(self, cell_id: str) -> dict[str, Any] | None:
        """Return a record as it was written, without what is null."""
        if cell_id not in self._records:
            return None
        (line,) = self._lines_by_cell(CELLS)[cell_id]
        return {"cell_id": cell_id, **line}

    def found(self, cell_id: str) -> Record | None:
        return self._records.get(cell_id)

    def lines(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        return self._lines_by_cell(name).get(cell_id, [])

    def cells_with_lines(self, name: str) -> list[str]:
        """Return the cells that the file `name` has lines of, in its order."""
        return list(self._lines_by_cell(name))

    def notes(self, cell_id: str) -> dict[str, Any]:
        (found,) = self._lines_by_cell(NOTES).get(cell_id, [{"notes": {}}])
        notes: dict[str, Any] = found["notes"]
        return notes

    def lost_files(self, cell_id: str) -> list[str]:
        del cell_id
        return []

    def failed_attempts(self) -> list[str]:
        return []

    @cached_property
    def _records(self) -> dict[str, Record]:
        found = {}
        for number, (name, (line,)) in enumerate(self._lines_by_cell(CELLS).items(), 1):
            try:
                found[name] = record_from_json({"cell_id": name, **line}, name)
            except ValueError as error:
                raise damaged(self.path / CELLS, number, RESTORE, f"its record {error}") from None
        return found

    def _lines_by_cell(self, name: str) -> _Lines:
        """Return the lines of a file by cell, without their `cell_id`."""
        if name not in self._lines:
            try:
                self._lines[name] = _read(self.path / name)
            except StoreError as error:
                self._lines[name] = error
        found = self._lines[name]
        if isinstance(found, StoreError):
            raise found
        return found

    def _value(self, name: str, kind: type) -> Any:
        value = find_value(self.path / name, RESTORE)
        if not isinstance(value, kind):
            raise damaged(self.path / name, mend=RESTORE)
        return value


def _read(path: Path) -> _Lines:
    """Return the lines of a packed file by cell, without their `cell_id`. Raises StoreError naming the damaged line."""
    found: _Lines = {}
    for number, line in enumerate(read_lines(path, RESTORE), 1):
        cell_id = line.pop("cell_id", None)
        problem = _problem(path.name, cell_id, line, found)
        if problem:
            raise damaged(path, number, RESTORE, problem)
        found.setdefault(cell_id, []).append(line)
    return found


def _problem(name: str, cell_id: object, line: dict[str, Any], before: _Lines) -> str | None:
    """Return what makes a line none of the packed file `name`, in words, or None where it is one."""
    if not isinstance(cell_id, str):
        return f"cell_id cannot be {cell_id!r}"
    if name in LINES:
        return LINES[name].problem(line)
    if cell_id in before:
        return f"{cell_id} has a line already"
    return None if name != NOTES or isinstance(line.get("notes"), dict) else "it lacks notes"

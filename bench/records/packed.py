"""Packed studies: what is published of a run, in a few files that one can read, search and compare. No torch.

    STUDY/cells.jsonl         a line a record, as it was written, without what is null; sorted by id
    STUDY/rounds.jsonl        a line an evaluation, with its `cell_id`; likewise the other lines files of the cells
    STUDY/notes.jsonl         a line a cell that has notes
    STUDY/plan.json           `order`: the ids of the planned cells; `missing`: those without a record, resolved
    STUDY/environments.json   versions and processors by hash
    STUDY/commands.json       the commands that made the run
    STUDY/matrix.toml         the matrix, as it was read

Lines files without a line are left out. A study's card (README.md) and its figures lie beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedfore.cell import Cell, cell_from_json
from fedfore.errors import ConfigError, StoreError
from fedfore.records.files import RESTORE, damaged, find_value, read_lines
from fedfore.records.metrics import METRICS
from fedfore.records.migration import migrated_cells
from fedfore.records.run import Run
from fedfore.records.schema import cell_of, is_environment, is_line, wrong_content

CELLS = "cells.jsonl"
NOTES = "notes.jsonl"
PLAN = "plan.json"
COMMANDS = "commands.json"
ENVIRONMENTS = "environments.json"
MATRIX = "matrix.toml"
_NULLS = dict.fromkeys((*METRICS, "estimator", "reason", "method_variant", "code_sha256", "git_commit"))
_Lines = dict[str, list[dict[str, Any]]]


def is_packed(folder: Path) -> bool:
    """Return whether a folder holds a packed study."""
    return (folder / CELLS).is_file()


class PackedRun(Run):
    """A packed study. Each of its files is read once, at the first question about it."""

    is_published = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._files: dict[str, _Lines | StoreError] = {}

    def plan(self) -> list[Cell]:
        plan = self._value(PLAN, dict)
        try:
            missing = {cell["id"]: cell_from_json(cell) for cell in plan["missing"]}
            return migrated_cells([missing.get(name) or cell_of(self._record(name)) for name in plan["order"]])
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

    def recorded(self) -> list[str]:
        return sorted(self._lines_by_cell(CELLS))

    def stored(self, cell_id: str) -> dict[str, Any] | None:
        return self._record(cell_id) if cell_id in self._lines_by_cell(CELLS) else None

    def lines(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        return self._lines_by_cell(name).get(cell_id, [])

    def notes(self, cell_id: str) -> dict[str, Any]:
        (found,) = self._lines_by_cell(NOTES).get(cell_id, [{"notes": {}}])
        notes: dict[str, Any] = found["notes"]
        return notes

    def lost_files(self, cell_id: str) -> list[str]:
        del cell_id
        return []

    def _record(self, cell_id: str) -> dict[str, Any]:
        (line,) = self._lines_by_cell(CELLS)[cell_id]
        return dict(sorted({**_NULLS, "cell_id": cell_id, **line}.items()))

    def _lines_by_cell(self, name: str) -> _Lines:
        """Return the lines of a file by cell, without their `cell_id`."""
        if name not in self._files:
            try:
                self._files[name] = _read(self.path / name)
            except StoreError as error:
                self._files[name] = error
        found = self._files[name]
        if isinstance(found, StoreError):
            raise found
        return found

    def _value(self, name: str, kind: type) -> Any:
        value = find_value(self.path / name, RESTORE)
        if not isinstance(value, kind):
            raise damaged(self.path / name, mend=RESTORE)
        return value


def _is_record(cell_id: str, line: Mapping[str, Any]) -> bool:
    return wrong_content({**_NULLS, "cell_id": cell_id, **line}, cell_id) is None


def _is_notes(cell_id: str, line: Mapping[str, Any]) -> bool:
    return isinstance(line.get("notes"), dict)


_ONCE: Mapping[str, Callable[[str, Mapping[str, Any]], bool]] = {CELLS: _is_record, NOTES: _is_notes}
"""The files with one line a cell, and what tells such a line."""


def _read(path: Path) -> _Lines:
    """Return the lines of a packed file by cell, without their `cell_id`. Raises StoreError naming the damaged line."""
    found: _Lines = {}
    for number, line in enumerate(read_lines(path, RESTORE), 1):
        cell_id = line.pop("cell_id", None)
        if path.name in _ONCE:
            good = isinstance(cell_id, str) and cell_id not in found and _ONCE[path.name](cell_id, line)
        else:
            good = isinstance(cell_id, str) and is_line(line, path.name)
        if not good:
            raise damaged(path, number, RESTORE)
        found.setdefault(cell_id, []).append(line)
    return found

"""A published study that is to be checked: its records, what made them, and where the history is."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedfore.contract.registry import MethodEntry
from fedfore.execution.matrix_file import read_matrix
from fedfore.execution.overrides import apply_override
from fedfore.records.history import newest
from fedfore.records.origins import commits_of
from fedfore.records.packed import MATRIX
from fedfore.records.run import Run


@dataclass(frozen=True)
class Asked:
    """What the last command of a study asked for: its matrix, and what it changed there; `extends` an earlier plan."""

    matrix: str
    overrides: tuple[str, ...] = ()
    extends: bool = False

    def overridden(self, document: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> dict[str, Any]:
        """Return a matrix document with what the command changed in it. Raises ConfigError where it cannot."""
        changed = deepcopy(dict(document))
        for override in self.overrides:
            apply_override(changed, override, methods)
        return changed


@dataclass(frozen=True)
class Subject:
    """A published study, the command that made it, the present methods, and the checkout whose history tells."""

    run: Run
    asked: Asked
    methods: Mapping[str, MethodEntry]
    checkout: Path

    @cached_property
    def records(self) -> list[Mapping[str, Any]]:
        """The records, by id. Raises StoreError where one cannot be read."""
        return [record for name in self.run.recorded() if (record := self.run.stored(name)) is not None]

    @cached_property
    def document(self) -> dict[str, Any]:
        """The study's matrix, which holds what the command changed. Raises ConfigError where it cannot be read."""
        return read_matrix(self.run.path / MATRIX)

    @property
    def commit(self) -> str:
        """The latest commit that the records name. Raises HistoryError where the history does not tell."""
        return newest(self.checkout, commits_of(self.records))

"""A live run as its readers see it: what `fedfore run` has put into its folder so far (see `run_folder`). No torch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from fedfore.cell import Cell
from fedfore.errors import StoreError
from fedfore.records import attempts, plan_file, run_folder
from fedfore.records.choices import Tuning
from fedfore.records.lines import LINES
from fedfore.records.record import Record
from fedfore.records.run import Run


class LiveRun(Run):
    """A folder that a matrix runs into. Plan and records are read once, at the first question about them.

    What is written later is seen by a run that is opened anew. `known` are records that were read just now.
    """

    is_published = False

    def __init__(self, path: Path, known: Iterable[Record] = ()) -> None:
        super().__init__(path)
        self._found: dict[str, Record | None] = {record.cell_id: record for record in known}
        self._problems: dict[tuple[str, str], str | None] = {}
        """What is wrong with each lines file that has been read, by cell and name; None where nothing is."""

    def plan(self) -> list[Cell]:
        return self._plan

    def commands(self) -> list[str]:
        return plan_file.read_commands(self.path)

    def environments(self) -> dict[str, dict[str, Any]]:
        return run_folder.read_environments(self.path)

    def plugins(self) -> dict[str, Path]:
        return plan_file.read_plugins(self.path)

    def tuning(self) -> Tuning | None:
        return self._tuning

    def recorded(self) -> list[str]:
        return sorted(path.parent.name for path in self.path.glob("cells/*/record.json"))

    def stored(self, cell_id: str) -> dict[str, Any] | None:
        return run_folder.read_stored(self.path, cell_id)

    def found(self, cell_id: str) -> Record | None:
        if cell_id not in self._found:
            self._found[cell_id] = run_folder.read_record(self.path, cell_id)
        return self._found[cell_id]

    def lines(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        self._problems[cell_id, name] = None
        try:
            return run_folder.read_cell_lines(self.path, cell_id, name)
        except StoreError as error:
            self._problems[cell_id, name] = str(error)
            raise

    def damaged_lines(self) -> list[str]:
        known = self._problems
        for cell in self.plan():
            for name in run_folder.lines_files(self.path, cell.id):
                if (cell.id, name) not in known:
                    with suppress(StoreError):
                        self.lines(cell.id, name)
        sentences = (known.get((cell.id, name)) for cell in self.plan() for name in LINES)
        return list(dict.fromkeys(filter(None, sentences)))

    def notes(self, cell_id: str) -> dict[str, Any]:
        return run_folder.read_notes(self.path, cell_id)

    def lost_files(self, cell_id: str) -> list[str]:
        record = self.found(cell_id)
        return [] if record is None else run_folder.lost_files(self.path, record)

    def failed_attempts(self) -> list[str]:
        return attempts.failed_attempts(self.path)

    @cached_property
    def _tuning(self) -> Tuning | None:
        return plan_file.read_tuning(self.path)

    @cached_property
    def _plan(self) -> list[Cell]:
        return plan_file.read_plan(self.path)

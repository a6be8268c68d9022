"""A live run as its readers see it: what `fedfore run` has put into its folder so far (see `run_folder`). No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedfore.cell import Cell
from fedfore.records import run_folder
from fedfore.records.choices import Tuning
from fedfore.records.record import Record
from fedfore.records.run import Run


class LiveRun(Run):
    """A folder that a matrix runs into. Everything is read anew at each call, as it may have grown."""

    is_published = False

    def plan(self) -> list[Cell]:
        return run_folder.read_plan(self.path)

    def commands(self) -> list[str]:
        return run_folder.read_commands(self.path)

    def environments(self) -> dict[str, dict[str, Any]]:
        return run_folder.read_environments(self.path)

    def plugins(self) -> dict[str, Path]:
        return run_folder.read_plugins(self.path)

    def tuning(self) -> Tuning | None:
        return run_folder.read_tuning(self.path)

    def recorded(self) -> list[str]:
        return sorted(path.parent.name for path in self.path.glob("cells/*/record.json"))

    def stored(self, cell_id: str) -> dict[str, Any] | None:
        return run_folder.read_stored(self.path, cell_id)

    def found(self, cell_id: str) -> Record | None:
        return run_folder.read_record(self.path, cell_id)

    def lines(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        return run_folder.read_cell_lines(self.path, cell_id, name)

    def notes(self, cell_id: str) -> dict[str, Any]:
        return run_folder.read_notes(self.path, cell_id)

    def lost_files(self, cell_id: str) -> list[str]:
        return run_folder.lost_files(self.path, cell_id)

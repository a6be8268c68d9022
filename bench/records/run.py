"""A run as its readers see it, live or packed. No torch, and pandas only for tables: workers write without it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedfore.cell import Cell
from fedfore.errors import StoreError
from fedfore.records.choices import Tuning
from fedfore.records.lines import LINES
from fedfore.records.record import Record, completed

if TYPE_CHECKING:
    import pandas as pd

NOT_RUN = "not run yet"


class Run(ABC):
    """A folder with the cells of a plan. Every method raises StoreError for what is there and cannot be read.

    `path` is the folder, `table` what `fedfore.records.table.load_table` made of it, once it has. `is_published`:
    whether it is a packed study, judged at its own commit and never stale.
    """

    is_published: bool

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: pd.DataFrame | None = None

    @abstractmethod
    def plan(self) -> list[Cell]:
        """Return the planned cells, in their matrix's order."""

    @abstractmethod
    def commands(self) -> list[str]:
        """Return the commands that made the run, the latest last."""

    @abstractmethod
    def environments(self) -> dict[str, dict[str, Any]]:
        """Return versions and processors by their hash."""

    @abstractmethod
    def plugins(self) -> dict[str, Path]:
        """Return the files of methods that do not ship with the suite, where they were on this machine."""

    @abstractmethod
    def tuning(self) -> Tuning | None:
        """Return what its plan tunes and what was chosen, or None where it tunes nothing."""

    @abstractmethod
    def recorded(self) -> list[str]:
        """Return the ids of the cells that have a record, planned or not, sorted."""

    @abstractmethod
    def stored(self, cell_id: str) -> dict[str, Any] | None:
        """Return a cell's record as it was written, of whatever schema, or None where there is none."""

    @abstractmethod
    def found(self, cell_id: str) -> Record | None:
        """Return a cell's record, or None where there is none."""

    @abstractmethod
    def lines(self, cell_id: str, name: str) -> list[dict[str, Any]]:
        """Return the objects in a cell's lines of the file `name`, none where it has no such file."""

    @abstractmethod
    def notes(self, cell_id: str) -> dict[str, Any]:
        """Return what the method noted of itself in a cell, maybe nothing."""

    @abstractmethod
    def lost_files(self, cell_id: str) -> list[str]:
        """Return the files that a cell's record names and that are not there any more."""

    @abstractmethod
    def failed_attempts(self) -> list[str]:
        """Return the cells of which an attempt failed beside a record or a checkpoint, sorted."""

    def record(self, cell: Cell) -> Record | None:
        """Return a planned cell's record with every setting of the cell, or None where there is none."""
        found = self.found(cell.id)
        return None if found is None else completed(found, cell)

    def orphans(self) -> list[str]:
        """Return the ids of the records that the plan does not hold, sorted."""
        planned = {cell.id for cell in self.plan()}
        return [name for name in self.recorded() if name not in planned]

    def table_of_lines(self, cell_id: str, name: str) -> pd.DataFrame:
        """Return a cell's lines of the file `name` (see `lines.LINES`), a row each, maybe none. Null is NaN."""
        import pandas as pd

        table = pd.DataFrame(self.lines(cell_id, name))
        return table.astype({column: float for column in table if table[column].isna().all()})

    def is_unfinished(self) -> bool:
        """Return whether planned cells have no record, or are not known yet because tuning has not chosen."""
        tuning = self.tuning()
        return (tuning is not None and tuning.choices is None) or any(
            self.found(cell.id) is None for cell in self.plan()
        )

    def damaged_lines(self) -> list[str]:
        """Return a sentence on each file of lines that cannot be read."""
        sentences: dict[str, None] = {}
        for cell in self.plan():
            for name in LINES:
                try:
                    self.lines(cell.id, name)
                except StoreError as error:
                    sentences[str(error)] = None
        return list(sentences)

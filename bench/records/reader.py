"""The records of a run that goes on: each is read again only where its file is another one by now. No torch."""

from __future__ import annotations

from pathlib import Path

from fedfore.records.attempts import find_record
from fedfore.records.files import version
from fedfore.records.record import Record
from fedfore.records.run_folder import RECORD, cell_dir


class Reader:
    """Reads the records in a run folder. A record takes its file's place as a whole, by which a new one is known."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._known: dict[str, tuple[tuple[int, int, int] | None, Record | None]] = {}

    def find(self, cell_id: str) -> Record | None:
        """Return a cell's record as it is now, or None where there is none that can be read."""
        now = version(cell_dir(self._run, cell_id) / RECORD)
        known = self._known.get(cell_id)
        if known is None or known[0] != now:
            known = self._known[cell_id] = (now, find_record(self._run, cell_id))
        return known[1]

"""The lines files of cells as figures read them: one that is damaged costs its own cell's lines and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pandas as pd

from fedfore.errors import StoreError
from fedfore.records.store import Run


def lines_of(run: Run, cell_ids: Iterable[str], name: str) -> pd.DataFrame:
    """Return one row a readable line of the file `name` of these cells: its values and `cell_id`. Null is NaN.

    Without a line it has no column but `cell_id`.
    """
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for cell_id in cell_ids:
        with suppress(StoreError):
            for line in run.lines(cell_id, name):
                rows.append({**line, "cell_id": cell_id})
                names.update(dict.fromkeys(line))
        if rows:
            names["cell_id"] = None
    table = pd.DataFrame(rows, columns=list(names) or ["cell_id"])
    return table.astype({column: float for column in table if len(table) and table[column].isna().all()})


def damaged_files(run: Run) -> list[str]:
    """Return a sentence on each lines file of the run that cannot be read."""
    return [f"Left out: {sentence}" for sentence in run.damaged_lines()]

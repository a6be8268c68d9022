"""The lines files of cells as figures read them: one that is damaged costs its own cell's lines and nothing else."""

from __future__ import annotations

import pandas as pd

from fedfore.errors import StoreError
from fedfore.records.store import Run


def readable_lines(run: Run, cell_id: str, name: str) -> pd.DataFrame:
    """Return `fedfore.records.run.Run.table_of_lines`, or an empty table where the file is damaged."""
    try:
        return run.table_of_lines(cell_id, name)
    except StoreError:
        return pd.DataFrame()


def damaged_files(run: Run) -> list[str]:
    """Return a sentence on each lines file of the run that cannot be read."""
    return [f"Left out: {sentence}" for sentence in run.damaged_lines()]

"""The lines files of cells as figures read them: one that is damaged costs its own cell's lines and nothing else."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fedfore.errors import StoreError
from fedfore.records.store import DIAGNOSTICS, LAYERS, ROUNDS, cell_dir, load_lines, read_plan


def readable_lines(run: Path, cell_id: str, name: str) -> pd.DataFrame:
    """Return `fedfore.records.store.load_lines`, or an empty table where the file is damaged."""
    try:
        return load_lines(run, cell_id, name)
    except StoreError:
        return pd.DataFrame()


def damaged_files(run: Path) -> list[str]:
    """Return a sentence on each lines file of the run that cannot be read."""
    found = []
    for cell in read_plan(run):
        for name in (ROUNDS, DIAGNOSTICS, LAYERS):
            try:
                load_lines(run, cell.id, name)
            except StoreError:
                path = cell_dir(run, cell.id) / name
                found.append(f"{path} is damaged and left out; remove its folder and run the matrix again.")
    return found

"""What was evaluated and diagnosed along training, and what it had cost by then: of cells, of all seeds of a point."""

from __future__ import annotations

import pandas as pd

from fedfore.plots.lines import lines_of
from fedfore.records.store import DIAGNOSTICS, ROUNDS, Run

ACCURACY = "test_accuracy"
COSTS = ("rounds", "data_passes", "total_bytes", "device_flops")
"""The columns of `evaluations` that say what training had cost, setup included."""
_COLUMNS = ["cell_id", "place", *COSTS, ACCURACY]


def evaluations(run: Run, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row an evaluation of these cells: `cell_id`, `place` among the cell's, `COSTS` and the test accuracy.

    `place` 0 is the model that training starts from, after setup. Bytes are of both directions; rounds are those of
    setup and of training. Cells without a readable file have no row.
    """
    lines = lines_of(run, cells["cell_id"], ROUNDS)
    if lines.empty:
        return pd.DataFrame(columns=_COLUMNS)
    setups = dict(zip(cells["cell_id"], cells["setup_rounds"].fillna(0), strict=True))
    lines = lines.assign(
        place=lines.groupby("cell_id").cumcount(),
        rounds=lines["round"] + lines["cell_id"].map(setups),
        total_bytes=lines["uplink_bytes"] + lines["downlink_bytes"],
    )
    return lines[_COLUMNS]


def diagnosed(run: Run, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row a diagnosed moment of these cells, with the cell's columns beside it; none has but `cell_id`."""
    lines = lines_of(run, cells["cell_id"], DIAGNOSTICS)
    if lines.empty:
        return lines
    return lines.merge(cells.drop(columns=set(lines) - {"cell_id"}, errors="ignore"), on="cell_id").copy()


def mean_line(lines: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over cells at each place that all of them have: `COSTS` and accuracy, in the order of places.

    Cells of one point are evaluated at the same shares of the budget, so that no value between evaluations is made up.
    """
    cells = lines["cell_id"].nunique()
    groups = lines.groupby("place")[[*COSTS, ACCURACY]]
    return groups.mean()[groups.size() == cells].reset_index()

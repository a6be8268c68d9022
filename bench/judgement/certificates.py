"""Which results of simulated estimators stand for what devices would compute.

`directional` and `moment` compute the limit sigma -> 0 of the scalars that a device gets by finite differences. Scalars
that differ from it by a relative error r add r^2 to the estimate's own relative variance, (P + 1) / K at P parameters
and K perturbations. A point, all seeds of one setting together, is certified where r is small at every milestone of
training. A point that is not is shown with a mark, and is no part of any comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from fedfore.errors import StoreError
from fedfore.judgement.selection import is_trained
from fedfore.records.store import DIAGNOSTICS, Run

MOST_SCALAR_ERROR = 0.10
"""The largest relative error of a certified point's scalars: it adds 1% to the estimate's own variance."""
SIMULATING = ("directional", "moment")
"""The estimators that need a certificate: `finite_difference` is the real thing, `exact` a control without noise."""
Certificate = Literal["certified", "uncertified", "unknown"]
WITHHELD: tuple[Certificate, ...] = ("uncertified", "unknown")
"""Certificates that keep a point out of comparisons."""


def certificate(seeds: Sequence[pd.Series[float]]) -> Certificate:
    """Return whether a point is certified, from its seeds' `fd_scalar_error` by milestone, NaN where not measured.

    Certified: at every milestone the geometric mean over seeds is at most `MOST_SCALAR_ERROR`, and no seed's error is
    unknown. Uncertified: at some milestone the mean over what is known is larger.
    """
    if all(own.empty for own in seeds):
        return "unknown"
    errors = pd.concat(list(seeds), axis=1)
    with np.errstate(divide="ignore"):
        means = np.exp(np.log(errors).mean(axis=1))
    if bool((means > MOST_SCALAR_ERROR).any()):
        return "uncertified"
    return "unknown" if any(own.empty or own.isna().any() for own in seeds) else "certified"


def certificates(cells: pd.DataFrame, point: Sequence[str]) -> pd.Series[str]:
    """Return the certificate of each cell's point, empty for a cell that needs none or has nothing to certify.

    `cells` are rows of an `evidence` table, `point` the columns that say which differ in nothing but the seed.
    """
    found = pd.Series("", cells.index, dtype=object)
    needing = cells[needs_certificate(cells)]
    groups = needing[[*point, "scalar_errors"]].groupby(list(point), observed=True, dropna=False)
    for _, errors in groups["scalar_errors"]:
        found[errors.index] = certificate(list(errors))
    return found


def needs_certificate(cells: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows trained to their end by a simulated estimator."""
    return cells["status"].eq("ok") & is_trained(cells) & cells["estimator"].isin(SIMULATING)


def scalar_errors(run: Run, cell_id: str) -> pd.Series[float]:
    """Return a cell's `fd_scalar_error` by milestone, NaN where not measured; empty where nothing is known."""
    try:
        lines = run.lines(cell_id, DIAGNOSTICS)
    except StoreError:
        lines = []
    moments = pd.Index([line["moment"] for line in lines], dtype=float)
    return pd.Series([line.get("fd_scalar_error") for line in lines], moments, dtype=float)

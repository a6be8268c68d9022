"""Costs in Python: what `fedfore cost` prints of a device, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from fedfore.execution.cost import Point, cost_document, cost_record
from fedfore.execution.given import as_overrides
from fedfore.plots.cost_table import cost_frame, cost_table
from fedfore.python.methods import methods_of


@dataclass(frozen=True, eq=False)
class Cost:
    """What a device would pay: `record` has the fields of a record that need no training."""

    record: Mapping[str, Any]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a cost, with its unit and what it says."""
        return cost_frame(self.record)

    def __repr__(self) -> str:
        return cost_table(self.record)

    def _repr_html_(self) -> str:
        return self.frame.to_html(index=False, border=0)


def cost(
    model: str,
    *,
    set: Mapping[str, Any] = {},
    plugins: Sequence[str | Path] = (),
    run: str | Path | None = None,
    **point: Unpack[Point],
) -> Cost:
    """Return what a device would pay in a method, without training and without data files.

    `set` changes keys by their dotted names, such as {"params.baffle.num_perturbations": 100}. The layer densities are
    ERK's, or those of the mask that `run` holds at `alpha` and `seed`. Raises ConfigError for what makes no single
    cell, StoreError where the run has no such mask.
    """
    document = cost_document(model, point, as_overrides(set))
    with methods_of([Path(folder) for folder in plugins]) as methods:
        return Cost(cost_record(document, methods, Path(run) if run else None))

"""Costs in Python: what `fedfore cost` prints of a device, without training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.contract.config import validated
from fedfore.execution.cost import Point, cost_document, cost_record
from fedfore.execution.given import as_overrides
from fedfore.plots.cards.published import run_folders
from fedfore.plots.cost_table import cost_frame, cost_table
from fedfore.python.arguments import Folders, folders, typed
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


@typed
def cost(
    model: str,
    *,
    method: str = "fedavg",
    set: Mapping[str, Any] = {},
    plugins: Folders = (),
    data_dir: str | Path | None = None,
    run: str | Path | None = None,
    **point: Any,
) -> Cost:
    """Return what a device would pay in a method, without training and without data files.

    `point` is where: dataset ("cifar10"), sparsity (0.0), batch (32), the examples of a batch. `set` changes keys by
    their dotted names, such as {"params.baffle.num_perturbations": 100}; `data_dir` is where arrays of your own lie.
    The layer densities are ERK's, or those of the mask that `run` holds at alpha and seed (0). Raises ConfigError for
    what makes no single cell, StoreError where the run has no such mask.
    """
    asked = validated(Point, {"methods": [method], **point}, "cost")
    document = cost_document(model, asked, as_overrides(set), Path(data_dir) if data_dir else None)
    (stored,) = run_folders([run]) if run else (None,)
    with methods_of(folders(plugins)) as methods:
        return Cost(cost_record(document, methods, stored))

"""Older records and plans as of today: renamed keys, and keys that came later, with the value that changes nothing.

A key that a record lacks takes the value that it stood for before there was the key (`LATER`), else that of the planned
cell with the record's id: ids leave defaults out, so the two can differ in nothing but defaults. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from fedfore.cell import Cell

RENAMED: Mapping[str, Mapping[str, str]] = {"fed_ntk_zo": {"micro_batch": "scoring_micro_batch"}}
"""Parameters of a method by their older names."""
_ZEROTH_ORDER = {"init_scale": 1.0, "precision": "float32"}
LATER: Mapping[str, Mapping[str, Any]] = {"baffle": _ZEROTH_ORDER, "baffle_erk": _ZEROTH_ORDER}
"""Parameters that a method got after records of it had been published, with what those records did."""


def migrated_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a stored plan, with one set of parameters a method as far as `LATER` goes."""
    renamed = [replace(cell, params=_renamed(cell.method, cell.params)) for cell in cells]
    keys: dict[str, set[str]] = {}
    for cell in renamed:
        keys.setdefault(cell.method, set()).update(cell.params)
    return [replace(cell, params=_completed(cell.method, cell.params, keys[cell.method])) for cell in renamed]


def migrated_record(record: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Return a record with every setting of its planned cell, under the names that it has there."""
    params = _completed(cell.method, _renamed(cell.method, record["params"]), cell.params)
    return {
        **record,
        "train": {**asdict(cell.train), **record["train"]},
        "params": {**cell.params, **params},
    }


def _renamed(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    names = RENAMED.get(method, {})
    return {names.get(name, name): value for name, value in params.items()}


def _completed(method: str, params: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    later = LATER.get(method, {})
    return {**{name: later[name] for name in keys if name in later}, **params}

"""Older records and plans as of today: one step a version of the schema, and settings that came later. No torch.

A setting that a record lacks takes the value that it stood for before there was the key (`LATER`), else that of the
planned cell with the record's id: ids leave defaults out, so the two can differ in nothing but defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedfore.cell import Cell

SCHEMA_VERSION = 3
CLASSES: Mapping[str, int] = {"digits": 10, "mnist": 10, "fashion_mnist": 10, "cifar10": 10, "cifar100": 100}
"""Classes of the data sets that there were when records did not say what chance is."""
RENAMED: Mapping[str, Mapping[str, str]] = {"fed_ntk_zo": {"micro_batch": "scoring_micro_batch"}}
"""Parameters of a method by their older names."""
_ZEROTH_ORDER = {"init_scale": 1.0, "precision": "float32"}
LATER: Mapping[str, Mapping[str, Any]] = {"baffle": _ZEROTH_ORDER, "baffle_erk": _ZEROTH_ORDER}
"""Parameters that a method got after records of it had been published, with what those records did."""
_Step = Callable[[Mapping[str, Any]], dict[str, Any]]


def migrated_record(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored record of any schema as one of this schema, whose numbers are the same."""
    return _migrated(stored, _RECORD_STEPS)


def migrated_plan(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a live run of any schema as one of this schema."""
    return _migrated(stored, _PLAN_STEPS)


def migrated_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of a stored plan, with one set of parameters a method as far as `LATER` goes."""
    renamed = [replace(cell, params=_renamed(cell.method, cell.params)) for cell in cells]
    keys: dict[str, set[str]] = {}
    for cell in renamed:
        keys.setdefault(cell.method, set()).update(cell.params)
    return [replace(cell, params=completed_params(cell.method, cell.params, keys[cell.method])) for cell in renamed]


def completed_params(method: str, params: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of a method, with those of `keys` that came later as what the record stood for."""
    later = LATER.get(method, {})
    return {**{name: later[name] for name in keys if name in later}, **params}


def _migrated(stored: Mapping[str, Any], steps: Mapping[int, _Step]) -> dict[str, Any]:
    new = dict(stored)
    while new["schema_version"] in steps:
        new = {**steps[new["schema_version"]](new), "schema_version": new["schema_version"] + 1}
    return new


def _record_from_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """Name what the first records left out, and leave out what they judged cell by cell.

    Code was hashed by its bytes; the files beside the record were not listed. Whether a simulated estimator is
    certified is a matter of all seeds of a point, and follows from `fd_scalar_error`.
    """
    new = {"hash_scheme": 1, "files": [], **old}
    new.pop("estimator_uncertified", None)
    if isinstance(new.get("params"), Mapping):
        new["params"] = _renamed(new.get("method"), new["params"])
    return new


def _record_from_2(old: Mapping[str, Any]) -> dict[str, Any]:
    """Name the old headline, the mean of the last 5 evaluations, what it is; the present one cannot be known.

    Its span goes with it. What chance is follows from the data set.
    """
    classes = CLASSES.get(str(old.get("dataset")))
    return {
        **old,
        "test_accuracy": None,
        "test_accuracy_last5": old.get("test_accuracy"),
        "test_accuracy_span": None,
        "chance_accuracy": 1 / classes if classes else None,
    }


def _plan_from_1(old: Mapping[str, Any]) -> dict[str, Any]:
    """Make one command a list of commands; the first plans named no files of plug-ins."""
    new = {"plugins": {}, "commands": [old.get("command")], **old}
    new.pop("command", None)
    return new


_RECORD_STEPS: Mapping[int, _Step] = {1: _record_from_1, 2: _record_from_2}
_PLAN_STEPS: Mapping[int, _Step] = {1: _plan_from_1, 2: dict}


def _renamed(method: object, params: Mapping[str, Any]) -> dict[str, Any]:
    names = RENAMED.get(str(method), {})
    return {names.get(name, name): value for name, value in params.items()}

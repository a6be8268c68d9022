"""A matrix as a document: its tables, its axes, and the mistakes that show before anything is resolved.

`[grid]` holds lists, `[train]` the protocol (see `fedfore.cell.Protocol`), `[params]` the keys of methods: those that
stand directly in it are defaults for every method of the grid that has them, those of `[params.<method>]` are that
method's own and win. An axis of the grid is one of `AXES`, `"train.<key>"`, `"params.<key>"` or
`"params.<method>.<key>"`. `[tune]` says which keys are tuned (see `tune_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from fedfore.cell import Protocol
from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.contrasts import TABLES as JUDGED

REQUIRED_AXES = ("method", "dataset", "model")
AXES = (*REQUIRED_AXES, "sparsity", "alpha", "seed", "estimator")
TRAIN_KEYS = (*(item.name for item in fields(Protocol)), "estimator")
TUNE, FROM, CHOICE = "tune", "from", "choice"
"""The table of tuning, and its keys where it takes the choices of a published study."""
DATA = "data"
"""The table that describes arrays of one's own; reading a matrix makes it (see `data_names`)."""
TABLES = ("grid", "train", "params", TUNE, *JUDGED, DATA)
"""The tables that a matrix can have."""
BUDGETS = frozenset({"train.data_passes", "train.rounds"})
"""The keys of which one is the budget."""
UNTRAINED = frozenset({"train.setup_only", "train.meter_only"})
"""The keys that, when true, leave no budget."""
INT64 = range(-(2**63), 2**63)
"""The whole numbers that TOML promises to carry."""


def table_of(document: Mapping[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the table in which an axis could stand as a single value, maybe an empty one, and its name there."""
    *tables, last = ("train", key) if key == "estimator" else key.split(".")
    place: Any = document if tables else {}
    for table in tables:
        place = place.get(table) if isinstance(place, dict) else None
    return (place if isinstance(place, dict) else {}), last


def with_values(document: Mapping[str, Any], key: str, new: Callable[[str], str]) -> dict[str, Any]:
    """Return a document whose texts under a key, single or in lists, in any table, are what `new` makes of them."""

    def value(given: Any) -> Any:
        if isinstance(given, list):
            return [value(one) for one in given]
        return new(given) if isinstance(given, str) else given

    def walked(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {name: value(own) if name == key else walked(own) for name, own in part.items()}
        return [walked(one) for one in part] if isinstance(part, list) else part

    return {name: walked(part) for name, part in document.items()}


def axis_owner(key: str) -> str:
    """Return the method whose own key an axis "params.<method>.<key>" is; "" for another axis."""
    table, _, rest = key.partition(".")
    owner, dot, _ = rest.partition(".")
    return owner if table == "params" and dot else ""


def shared_key(key: str) -> str:
    """Return the key of methods that "params.<key>" is for all of them; "" for another one."""
    table, dot, rest = key.partition(".")
    return rest if table == "params" and dot and "." not in rest else ""


def names_of(block: Mapping[str, Any]) -> list[str]:
    """Return the names in a block's list of methods; none where that is no list."""
    names = block.get("method")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def grid_blocks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the [grid] blocks of a document. Raises ConfigError where there is none."""
    grid = document.get("grid")
    blocks = [block for block in (grid if isinstance(grid, list) else [grid]) if isinstance(block, dict) and block]
    if not blocks:
        raise ConfigError("A matrix needs a [grid] table with lists for method, dataset and model.")
    return blocks


def check_document(document: Mapping[str, Any]) -> None:
    """Raise ConfigError for an unknown table, for a number beyond 64 bits and for a setting that nothing could use.

    Such a setting stands in [train] or [params.<method>] although every block of the grid has an axis in its place.
    """
    for table in document:
        if table not in TABLES:
            raise ConfigError(f"A matrix has no table [{table}].{suggestion(table, TABLES)}")
    _check_integers(document, "")
    blocks = grid_blocks(document)
    for key in dict.fromkeys(key for block in blocks for key in block):
        single, last = table_of(document, key)
        owner = axis_owner(key)
        users = [block for block in blocks if not owner or owner in names_of(block)]
        if last in single and users and all(key in block for block in users):
            where = f"params.{owner}" if owner else "params" if shared_key(key) else "train"
            raise ConfigError(f'"{key}" is an axis of [grid], and "{last}" stands in [{where}]; leave one of them out.')


def _check_integers(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_integers(part, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for part in value:
            _check_integers(part, where)
    elif isinstance(value, int) and value not in INT64:
        raise ConfigError(f"{where} holds a whole number of {value.bit_length()} bits; at most 63 can be used.")

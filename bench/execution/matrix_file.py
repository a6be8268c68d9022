"""Matrix files as they are written: found by name or path, read as TOML, changed by `--set`, and not resolved."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

from fedfore.cell import Protocol
from fedfore.errors import ConfigError, suggestion

REQUIRED_AXES = ("method", "dataset", "model")
AXES = (*REQUIRED_AXES, "sparsity", "alpha", "seed", "estimator")
TRAIN_KEYS = (*(item.name for item in fields(Protocol)), "estimator")
BUDGETS = frozenset({"train.data_passes", "train.rounds"})
"""The keys of which one is the budget."""
UNTRAINED = frozenset({"train.setup_only", "train.meter_only"})
"""The keys that, when true, leave no budget."""
INT64 = range(-(2**63), 2**63)
"""The whole numbers that TOML promises to carry."""


def named_matrices() -> dict[str, Path]:
    """Return the matrices that ship with the suite, by name."""
    folder = Path(str(resources.files("fedfore.matrices")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_matrix(matrix: str) -> Path:
    """Return the file of a named matrix or of a path. Raises ConfigError where there is none."""
    named = named_matrices()
    if matrix in named:
        return named[matrix]
    path = Path(matrix)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise ConfigError(f'The matrix file "{matrix}" cannot be reached ({error.strerror}).') from None
    raise ConfigError(
        f'There is no matrix file "{matrix}" and no shipped matrix of that name.{suggestion(matrix, named)}'
    )


def read_matrix(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a matrix file, which is UTF-8, and apply `key=value` overrides (`--set`), the values in TOML syntax.

    An axis, or any dotted key with a list, replaces what the grid has; other keys are dotted paths into the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is no valid TOML: a number is too long, or lists are too deep.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    for override in overrides:
        apply_override(document, override)
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Change a matrix document by one `key=value` (see `read_matrix`). Raises ConfigError for a key it cannot have.

    An axis that is set takes the place of the same key in [train] or [params.<method>]; a method's own axis goes into
    the blocks of that method, and leaves those that a new list of methods takes it out of. A budget takes the place of
    the other one, and `setup_only` or `meter_only` that of any.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f'--set takes key=value, got "{override}".')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    blocks = grid_blocks(document)
    if key in BUDGETS or (key in UNTRAINED and value is True):
        _remove(document, blocks, BUDGETS - {key})
    if key in AXES or any(key in block for block in blocks) or (isinstance(value, list) and "." in key):
        _set_axis(document, blocks, key, value if isinstance(value, list) else [value])
        return
    *tables, last = key.split(".")
    if not tables:
        raise ConfigError(f'--set {override}: there is no key "{key}".{_meant(key)}')
    place = document
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ConfigError(f'--set {override}: "{table}" is no table.')
    place[last] = value


def _meant(key: str) -> str:
    if key in TRAIN_KEYS:
        return f' Did you mean "train.{key}"?'
    hint = suggestion(key, (*AXES, *(f"train.{name}" for name in TRAIN_KEYS)))
    return f"{hint} A method's own key is params.<method>.{key}."


def _set_axis(document: dict[str, Any], blocks: Sequence[dict[str, Any]], key: str, values: list[Any]) -> None:
    owner = axis_owner(key)
    having = [block for block in blocks if owner in _methods(block)] if owner else []
    for block in having or blocks:
        block[key] = values
    _remove_single(document, key)
    if key == "method":
        for block in blocks:
            for axis in [axis for axis in block if axis_owner(axis) and axis_owner(axis) not in values]:
                del block[axis]


def _remove(document: Mapping[str, Any], blocks: Sequence[dict[str, Any]], keys: Collection[str]) -> None:
    for key in keys:
        _remove_single(document, key)
        for block in blocks:
            block.pop(key, None)


def _remove_single(document: Mapping[str, Any], key: str) -> None:
    table, last = _table_of(document, key)
    table.pop(last, None)


def _table_of(document: Mapping[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the table in which an axis could stand as a single value, maybe an empty one, and its name there."""
    *tables, last = ("train", key) if key == "estimator" else key.split(".")
    place: Any = document if tables else {}
    for table in tables:
        place = place.get(table) if isinstance(place, dict) else None
    return (place if isinstance(place, dict) else {}), last


def axis_owner(key: str) -> str:
    """Return the method whose own key an axis "params.<method>.<key>" is; "" for another axis."""
    table, _, rest = key.partition(".")
    owner, dot, _ = rest.partition(".")
    return owner if table == "params" and dot else ""


def _methods(block: Mapping[str, Any]) -> list[Any]:
    names = block.get("method")
    return names if isinstance(names, list) else []


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
        if table not in ("grid", "train", "params"):
            raise ConfigError(f"A matrix has no table [{table}].{suggestion(table, ('grid', 'train', 'params'))}")
    _check_integers(document, "")
    blocks = grid_blocks(document)
    for key in dict.fromkeys(key for block in blocks for key in block):
        single, last = _table_of(document, key)
        owner = axis_owner(key)
        users = [block for block in blocks if not owner or owner in _methods(block)]
        if last in single and users and all(key in block for block in users):
            where = f"params.{owner}" if owner else "train"
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

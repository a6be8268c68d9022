"""Keys that methods share: written once, in `[params]` or as an axis "params.<key>", for every method that has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from typing import Any

from fedfore.contract.method import Method
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.document import grid_blocks, names_of, shared_key


def spelt_out(document: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> dict[str, Any]:
    """Return a matrix with every shared key in the tables and axes of the methods of its grid that have it.

    A method's own entry wins. Raises ConfigError for a shared key that no method of the grid has, and for an axis of
    which every method has an own entry.
    """
    params, blocks = document.get("params", {}), grid_blocks(document)
    if not isinstance(params, dict):
        raise ConfigError("[params] must be a table.")
    shared = {key: value for key, value in params.items() if not isinstance(value, dict)}
    own = {name: table for name, table in params.items() if isinstance(table, dict)}
    axes = [axis for block in blocks for axis in block if shared_key(axis)]
    sharing = blocks if shared or axes else []
    known = {name: keys_of(lookup(methods, name)) for block in sharing for name in names_of(block)}
    for key in (*shared, *map(shared_key, axes)):
        _require_known(key, known, methods)
    defaults = {name: {key: shared[key] for key in shared if key in keys} for name, keys in known.items()}
    return {
        **document,
        "params": {name: {**defaults.get(name, {}), **own.get(name, {})} for name in {**own, **defaults}},
        "grid": [dict(_axes(block, own, known)) for block in blocks],
    }


def keys_of(method: type[Method] | None) -> Collection[str]:
    """Return the keys of a method's Config; none of a method that cannot be used."""
    return [item.name for item in fields(method.Config)] if method else ()


def _require_known(key: str, known: Mapping[str, Collection[str]], methods: Mapping[str, MethodEntry]) -> None:
    keys = {key for keys in known.values() for key in keys}
    if key in methods:
        raise ConfigError(
            f'params.{key} is no table: "{key}" is a method; write params.{key}.<key>, or [params.{key}].'
        )
    if key not in keys:
        raise ConfigError(f'params.{key}: no method of the grid has a key "{key}".{suggestion(key, keys)}')


def _axes(
    block: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], known: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, Any]]:
    for axis, values in block.items():
        key = shared_key(axis)
        if not key:
            yield axis, values
            continue
        having = {name: f"params.{name}.{key}" for name in names_of(block) if key in known[name]}
        free = [own_axis for name, own_axis in having.items() if own_axis not in block and key not in own.get(name, {})]
        if having and not free:
            raise ConfigError(f'"{axis}" is an axis of [grid], and every method that has it sets it; leave one out.')
        yield from ((own_axis, values) for own_axis in free)

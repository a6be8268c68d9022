"""Changes of a matrix document by `--set key=value`, and by `--set key=`, which leaves a key at its default."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.document import (
    AXES,
    BUDGETS,
    FROM,
    REQUIRED_AXES,
    TRAIN_KEYS,
    TUNE,
    UNTRAINED,
    axis_owner,
    grid_blocks,
    names_of,
    shared_key,
    table_of,
)
from fedfore.execution.shared_params import keys_of
from fedfore.execution.tune_table import Tune
from fedfore.judgement.contrasts import TABLES as JUDGED

Blocks = Sequence[dict[str, Any]]

TABLES = ("train", "params", TUNE, *JUDGED)
"""The tables that a matrix may leave out."""


def apply_override(document: dict[str, Any], override: str, methods: Mapping[str, MethodEntry] = {}) -> None:
    """Change a matrix document by one `key=value`, the value in TOML syntax, or raise ConfigError for its key.

    An axis, or any dotted key with a list, replaces what the grid has; other keys, and those of [tune], are dotted
    paths into the file. An axis that is set takes the place of the same key in [train] or [params.<method>]; a method's
    own axis goes into the blocks of that method, and leaves those that a new list of methods takes it out of, as does a
    shared key that only `methods` of the old list have. A budget takes the place of the other one, and `setup_only` or
    `meter_only` that of any. `params.<key>` takes the place of that key of every method.

    `key=`, without a value, unsets a key, an axis or a whole table wherever the matrix has it.
    """
    key, equals, text = override.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise ConfigError(f'--set takes key=value, or key= for its default, got "{override}".')
    blocks = grid_blocks(document)
    if not text:
        _unset(document, blocks, key, methods)
        return
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    if key in BUDGETS or (key in UNTRAINED and value is True):
        _remove(document, blocks, BUDGETS - {key})
    for holder, name in list(_own_places(document, blocks, shared_key(key))):
        del holder[name]
    is_list = isinstance(value, list) and "." in key and key.partition(".")[0] != TUNE
    if key in AXES or any(key in block for block in blocks) or is_list:
        keys_before = _keys(blocks, methods)
        _set_axis(document, blocks, key, value if isinstance(value, list) else [value])
        for lost in keys_before - _keys(blocks, methods):
            _remove(document, blocks, {f"params.{lost}"})
        return
    *tables, last = key.split(".")
    if not tables:
        raise ConfigError(f'--set {override}: there is no key "{key}".{_meant(key)}')
    place: Any = document
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ConfigError(f'--set {override}: "{table}" is no table.')
    place[last] = value


def _meant(key: str) -> str:
    if key in TRAIN_KEYS:
        return f' Did you mean "train.{key}"?'
    hint = suggestion(key, (*AXES, *(f"train.{name}" for name in TRAIN_KEYS)))
    return f"{hint} A key of all methods is params.{key}, a method's own params.<method>.{key}."


def _unset(document: dict[str, Any], blocks: Blocks, key: str, methods: Mapping[str, MethodEntry]) -> None:
    if key in REQUIRED_AXES:
        raise ConfigError(f'--set {key}=: the axis "{key}" has no default; give a list of names.')
    if key == "grid":
        raise ConfigError("--set grid=: the grid has no default; it needs its lists of method, dataset and model.")
    places = list(_places(document, blocks, key))
    if not places:
        _check_known(blocks, key, methods)
        raise ConfigError(f"--set {key}=: {_why_not_set(document, blocks, key)}")
    for table, name in places:
        del table[name]


def _check_known(blocks: Blocks, key: str, methods: Mapping[str, MethodEntry]) -> None:
    """Raise ConfigError where no matrix could set a key; keys of methods are looked for in `methods`, if there are."""
    table, _, name = key.partition(".")
    if key in (*AXES, *TABLES):
        return
    if table not in TABLES:
        raise ConfigError(f'--set {key}=: there is no key "{key}".{_meant(key)}')
    where, known = "[train] has", set(TRAIN_KEYS)
    if table == TUNE:
        where, known = "[tune] has", {FROM, *(item.name for item in fields(Tune))}
        name = name.partition(".")[0]
    if table == "params":
        where, known = "no method of the grid has", _keys(blocks, methods) | set(methods)
        if owner := axis_owner(key):
            where, known = f"[params.{owner}] has", set(keys_of(lookup(methods, owner)) if methods else ())
            name = name.partition(".")[2]
        if not methods:
            return
    if name not in known:
        a_key = "a key" if where.startswith("no ") else "no key"
        raise ConfigError(f'--set {key}=: {where} {a_key} "{name}".{suggestion(name, sorted(known))}')


def _why_not_set(document: Mapping[str, Any], blocks: Blocks, key: str) -> str:
    owner = axis_owner(key)
    shared = f"params.{key.split('.', 2)[2]}" if owner else ""
    table, last = table_of(document, shared)
    if any(owner in names_of(block) and (last in table or shared in block) for block in blocks):
        return f"{owner}'s {last} comes from {shared}; unset that, or give {owner} a value of its own."
    return f'the matrix does not set "{key}", whose default holds already.'


def _places(document: dict[str, Any], blocks: Blocks, key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each table, and its entry, in which a document sets a key or something below it."""
    yield from ((block, axis) for block in blocks for axis in block if axis == key or axis.startswith(f"{key}."))
    table, last = (document, key) if key in TABLES else table_of(document, key)
    if last in table:
        yield table, last
    yield from _own_places(document, blocks, shared_key(key))


def _own_places(document: Mapping[str, Any], blocks: Blocks, shared: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each table, and its entry, in which a method has a key of its own that all methods may share."""
    if not shared:
        return
    for block in blocks:
        yield from ((block, axis) for axis in block if axis_owner(axis) and axis.split(".", 2)[2] == shared)
    params = document.get("params", {})
    for table in params.values() if isinstance(params, dict) else ():
        if isinstance(table, dict) and shared in table:
            yield table, shared


def _set_axis(document: dict[str, Any], blocks: Blocks, key: str, values: list[Any]) -> None:
    owner = axis_owner(key)
    having = [block for block in blocks if owner in names_of(block)] if owner else []
    for block in having or blocks:
        block[key] = values
    _remove_single(document, key)
    if key == "method":
        for block in blocks:
            for axis in [axis for axis in block if axis_owner(axis) and axis_owner(axis) not in values]:
                del block[axis]


def _keys(blocks: Blocks, methods: Mapping[str, MethodEntry]) -> set[str]:
    """Return every key that a method of the grid has, as far as `methods` holds it."""
    entries = [methods[name] for block in blocks for name in names_of(block) if name in methods]
    return {key for entry in entries for key in keys_of(entry.method)}


def _remove(document: Mapping[str, Any], blocks: Blocks, keys: Collection[str]) -> None:
    for key in keys:
        _remove_single(document, key)
        for block in blocks:
            block.pop(key, None)


def _remove_single(document: Mapping[str, Any], key: str) -> None:
    table, last = table_of(document, key)
    table.pop(last, None)

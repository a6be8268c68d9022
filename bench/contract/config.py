"""Configurations are frozen dataclasses: how one is made from a table of a matrix, and what its keys declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedfore.contract.border import words
from fedfore.errors import ConfigError, suggestion
from fedfore.primitives.keys import Key

_FINITE = ConfigDict(allow_inf_nan=False)


def validated(kind: type, given: Mapping[str, Any], where: str) -> Any:
    """Return the frozen dataclass `kind` made from `given`, strictly typed; raise ConfigError with one sentence."""
    known = [item.name for item in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            raise ConfigError(f'[{where}] has no key "{key}".{suggestion(key, known)}')
    values = {}
    for key, value in given.items():
        plain = tuple(value) if isinstance(value, list) else value
        try:
            values[key] = _adapter(kind, key).validate_python(plain, strict=True)
        except ValidationError as error:
            raise ConfigError(
                f"{where}.{key} = {value!r}: {_lower(error.errors()[0]['msg'].replace('tuple', 'list'))}."
            ) from None
    try:
        return kind(**values)
    except ValueError as error:
        raise ConfigError(f"[{where}]: {error}.") from None
    except Exception as error:
        raise ConfigError(f"[{where}]: {words(error)}.") from error


@cache
def _adapter(kind: type, key: str) -> TypeAdapter[Any]:
    return TypeAdapter(_hints(kind)[key], config=_FINITE)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _lower(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


@cache
def declared_keys(kind: type) -> Mapping[str, Key]:
    """Return the keys of a configuration that declare something of themselves (see `Key`), by name."""
    return {name: own for name, hint in key_types(kind).items() for own in unfolded(hint)[1] if isinstance(own, Key)}


def key_types(kind: type) -> dict[str, Any]:
    """Return the types of a configuration's keys, by name, with what is written beside them."""
    hints = _hints(kind)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def unfolded(hint: Any) -> tuple[list[Any], list[Any]]:
    """Return the plain types of which a type is the union, and what is written beside them, the outermost last."""
    if get_origin(hint) is Annotated:
        types, beside = unfolded(hint.__origin__)
        return types, [*beside, *hint.__metadata__]
    if get_origin(hint) not in (Union, UnionType):
        return [hint], []
    parts = [unfolded(part) for part in get_args(hint)]
    return [one for types, _ in parts for one in types], [one for _, beside in parts for one in beside]

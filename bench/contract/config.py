"""Configurations are frozen dataclasses: how one is made from a table of a matrix, and what its keys declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

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
            raise ConfigError(f"{where}.{key} = {value!r}: {_lower(error.errors()[0]['msg'])}.") from None
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
    names = {item.name for item in dataclasses.fields(kind)}
    said = {name: getattr(hint, "__metadata__", ()) for name, hint in _hints(kind).items() if name in names}
    return {name: own for name, of_key in said.items() for own in of_key if isinstance(own, Key)}

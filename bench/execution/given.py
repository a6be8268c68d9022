"""Matrices and changes of them that are given as values in Python, as a TOML file and `--set` would say the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedfore.errors import ConfigError


def as_document(matrix: Mapping[str, Any]) -> dict[str, Any]:
    """Return a matrix as TOML would have it: tables, lists, numbers, texts. NumPy's values become Python's.

    Raises ConfigError for a value that no TOML file could hold.
    """
    return {str(name): _plain(value, str(name)) for name, value in matrix.items()}


def as_overrides(changes: Mapping[str, Any]) -> list[str]:
    """Return changes by dotted keys as `--set` takes them; None leaves a key at its default.

    Raises ConfigError for a value that no TOML file could hold, and for a table.
    """
    texts = []
    for key, value in changes.items():
        plain = None if value is None else _plain(value, key)
        if isinstance(plain, dict):
            name = next(iter(plain), "key")
            raise ConfigError(f'"{key}" is set to a table; name its keys one by one, such as "{key}.{name}".')
        texts.append(f"{key}={'' if value is None else json.dumps(plain, ensure_ascii=False)}")
    return texts


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part, f"{where}.{name}") for name, part in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Sequence):
        return [_plain(part, where) for part in value]
    raise ConfigError(
        f"{where} is {value!r}, which no matrix file could hold; give finite numbers, texts, lists or tables."
    )

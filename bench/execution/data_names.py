"""Arrays of one's own in a matrix: `dataset = "npz:PATH"` becomes "npz:PATH@HASH", and [data] says what they are.

So the matrix that a run stores can be planned, and a study of it verified, where the data are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedfore.errors import ConfigError
from fedfore.execution.document import DATA, with_values
from fedfore.tasks import own_arrays
from fedfore.tasks.datasets import know, own_spec

KEY = "dataset"


def with_data(document: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Return a matrix whose own data stand by path and hash wherever it names a data set, and are described in [data].

    They are read below the data folder `root`, unless they stand so already. Raises ConfigError or DataError.
    """
    found: dict[str, dict[str, Any]] = dict(document.get(DATA, {}))
    keys = {name: name for name in found}

    def named(name: str) -> str:
        if not own_arrays.is_own(name):
            return name
        if name not in keys:
            keys[name], description = own_arrays.described(name, root)
            found[keys[name]] = description
            if own_arrays.content_hash(name) and keys[name] != name:
                raise ConfigError(f'Data set "{name}" has another content in {root}, that of {keys[name]}.')
        return keys[name]

    changed = with_values(document, KEY, named)
    return {**changed, DATA: found} if found else changed


def know_data(document: Mapping[str, Any]) -> None:
    """Make the data that a matrix describes known to this process. Raises ConfigError for what is no description."""
    described = document.get(DATA, {})
    if not isinstance(described, Mapping):
        raise ConfigError(f"[{DATA}] must be a table.")
    for name, description in described.items():
        if not (own_arrays.content_hash(name) and isinstance(description, Mapping)):
            raise ConfigError(f'[{DATA}] describes arrays of one\'s own by path and hash, and "{name}" is none.')
        know(own_spec(name, description))


def without_hashes(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a matrix as it is asked for, whatever content its own data have."""
    return with_values({key: part for key, part in document.items() if key != DATA}, KEY, own_arrays.asked)

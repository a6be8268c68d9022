"""Matrix files as they are written: found by name or path, read as TOML, changed by `--set`, and not resolved."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w

from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.choice_files import inlined, text_in
from fedfore.execution.data_names import with_data
from fedfore.execution.overrides import apply_override
from fedfore.execution.partition_names import beside, pinned
from fedfore.matrices import named_matrices
from fedfore.tasks.files import data_root
from fedfore.tasks.partition_file import PartitionFile


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


def matrix_text(path: Path, document: Mapping[str, Any]) -> str:
    """Return a matrix, read from a file as `document`, as TOML: the file as it is, or, where something was overridden
    or inlined, written anew.

    A first line that says what the matrix asks stays.
    """
    text = path.read_text(encoding="utf-8-sig")
    if document == tomllib.loads(text):
        return text
    first, end, _ = text.partition("\n")
    return f"{first}{2 * end}{tomli_w.dumps(document)}" if first.startswith("#") else tomli_w.dumps(document)


def read_matrix(path: Path, overrides: Sequence[str] = (), methods: Mapping[str, MethodEntry] = {}) -> dict[str, Any]:
    """Read a matrix file, which is UTF-8, and apply `key=value` overrides (`--set`), the values in TOML syntax.

    An axis, or any dotted key with a list, replaces what the grid has; other keys are dotted paths into the file.
    Choices that it takes from a study are in it (see `choice_files`), and its partition files stand by name and hash.
    """
    return matrix_and_partitions(path, overrides, methods)[0]


def matrix_and_partitions(
    path: Path,
    overrides: Sequence[str] = (),
    methods: Mapping[str, MethodEntry] = {},
    data_dir: Path | None = None,
) -> tuple[dict[str, Any], dict[str, PartitionFile]]:
    """Return a matrix as `read_matrix` does, and its partition files by name and hash, as far as they are at hand.

    Arrays of one's own are read in the data folder, and stand by path and hash (see `data_names`).
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is no valid TOML: a number is too long, or lists are too deep.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    return changed(document, overrides, methods, path.parent, data_dir)


def changed(
    document: dict[str, Any],
    overrides: Sequence[str],
    methods: Mapping[str, MethodEntry],
    folder: Path,
    data_dir: Path | None = None,
) -> tuple[dict[str, Any], dict[str, PartitionFile]]:
    """Return a matrix document after these overrides, and its partition files, as `matrix_and_partitions` does.

    The choices that it takes from a study, and its partition files, are found from `folder`.
    """
    for override in overrides:
        apply_override(document, override, methods)
    document = with_data(inlined(document, partial(text_in, folder)), data_root(data_dir))
    return pinned(document, beside(folder))

"""Partition files of a matrix: `alpha = "file:PATH"` becomes "file:NAME@HASH", so that content tells cells apart."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fedfore.cell import Cell
from fedfore.errors import ConfigError, HistoryError
from fedfore.execution.document import with_values
from fedfore.records.history import file_at
from fedfore.records.partitions import partition_path
from fedfore.tasks.datasets import spec
from fedfore.tasks.heterogeneity import FILE, heterogeneity, is_pinned
from fedfore.tasks.partition_file import PartitionFile, parsed, read_partition

ALPHA = "alpha"
Find = Callable[[str], PartitionFile | None]
"""From what stands behind "file:" to the partition; None where it is a name and hash, and its file is not at hand."""


def pinned(document: Mapping[str, Any], find: Find) -> tuple[dict[str, Any], dict[str, PartitionFile]]:
    """Return a matrix whose partition files, wherever it has an `alpha`, stand by name and hash; and them, by these."""
    files: dict[str, PartitionFile] = {}

    def named(alpha: str) -> str:
        kind, colon, name = alpha.strip().partition(":")
        if f"{kind}{colon}" != FILE:
            return alpha
        found = find(name)
        if found is None:
            return f"{FILE}{name}"
        files[found.key] = found
        return f"{FILE}{found.key}"

    return with_values(document, ALPHA, named), files


def beside(folder: Path) -> Find:
    """Return what finds the partition files of a matrix: beside it, in its folder, else where the command runs.

    Those that a run or study keeps, by name and hash, are beside its matrix.
    """

    def find(name: str) -> PartitionFile | None:
        if is_pinned(name):
            kept = partition_path(folder, name)
            return kept_partition(kept, name) if kept.is_file() else None
        if not name:
            raise ConfigError(f'alpha = "{FILE}" names no file; give its path.')
        places = (folder / name, Path(name))
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ConfigError(f'alpha = "{FILE}{name}": there is no such file beside the matrix, nor here.')
        return read_partition(file)

    return find


def committed(checkout: Path, commit: str, matrix: str) -> Find:
    """Return what finds the partition files of a matrix in the tree of a commit, as `beside` does in folders.

    It raises HistoryError where the commit has no such file.
    """

    def find(name: str) -> PartitionFile | None:
        if is_pinned(name):
            return None
        for folder in (PurePosixPath(matrix).parent, PurePosixPath()):
            content = file_at(checkout, commit, posixpath.normpath(folder / name))
            if content is not None:
                return parsed(Path(name), content)
        raise HistoryError(
            f"Commit {commit[:12]} has no partition file {name}; it is committed before it runs, with its matrix."
        )

    return find


def require_partitions(cells: Iterable[Cell], partitions: Mapping[str, PartitionFile]) -> None:
    """Raise ConfigError for the first cell that could not have its partition file, as far as these are at hand."""
    for cell in cells:
        found = partitions.get(heterogeneity(cell.alpha).file or "")
        if found is not None and not cell.train.meter_only:
            try:
                found.require_fit(
                    cell.dataset, spec(cell.dataset).num_train, cell.train.clients, cell.train.min_client_examples
                )
            except ConfigError as error:
                raise ConfigError(f"{cell.id}: {error}") from None


def named_partition(run: Path, cell: Cell) -> PartitionFile | None:
    """Return the partition file that a cell names, as its run or study keeps it; None where it names none.

    Raises ConfigError where it is not kept there.
    """
    key = heterogeneity(cell.alpha).file
    return None if key is None else kept_partition(partition_path(run, key), key)


def named_partitions(run: Path, cells: Iterable[Cell]) -> dict[str, PartitionFile]:
    """Return the partition files that some cells name, by name and hash. Raises as `named_partition` does."""
    found = (named_partition(run, cell) for cell in cells)
    return {partition.key: partition for partition in found if partition is not None}


def kept_partition(path: Path, key: str) -> PartitionFile:
    """Return a partition that a run or study keeps. Raises ConfigError where it is not that of this name and hash."""
    found = read_partition(path)
    if found.key != key:
        raise ConfigError(f"{path} is not what its name says, but {found.key}; restore it.")
    return found

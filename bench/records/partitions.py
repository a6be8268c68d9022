"""Partition files that a run's cells name, kept in its folder, and in the study's, by name and content. No torch.

RUN/<name>@<hash>.partition.json     as `fedfore.tasks.partition_file` describes it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedfore.errors import StoreError
from fedfore.records.files import write_atomically

SUFFIX = ".partition.json"


def partition_path(folder: Path, key: str) -> Path:
    """Return where a run or study keeps the partition of this name and hash."""
    return folder / f"{key}{SUFFIX}"


def stored_partitions(folder: Path) -> Mapping[str, str]:
    """Return the texts of the partition files of a run or study, by their file's name. Raises StoreError."""
    try:
        return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"*@*{SUFFIX}"))}
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"A partition file of {folder} cannot be read ({error}).") from None


def copy_partitions(source: Path, target: Path) -> None:
    """Copy the partition files of a run or study into another folder. Raises StoreError where that cannot be done."""
    for name, text in stored_partitions(source).items():
        write_atomically(target / name, text)

"""The files of data sets: where they lie, and whether they are those that were published. No torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fedfore.errors import DataError
from fedfore.tasks.datasets import spec


def data_root(data_dir: Path | None = None) -> Path:
    """Return the folder of the data files: `data_dir`, else $FEDFORE_DATA, else ~/.cache/fedfore/data.

    A `~` stays as it is where the system knows no home folder.
    """
    chosen = data_dir or os.environ.get("FEDFORE_DATA") or "~/.cache/fedfore/data"
    return Path(os.path.expanduser(chosen))  # noqa: PTH111 - Path.expanduser raises where there is no home folder


def ensure_present(name: str, data_dir: Path | None = None) -> None:
    """Raise DataError unless every file of the data set is in the data folder, bit for bit as published."""
    wanted, root = spec(name), data_root(data_dir)
    if wanted.read is None:
        raise DataError(
            f'Data set "{name}" has no reader: give its entry in bench/tasks/datasets.py a function `read`.'
        )
    for file, md5 in wanted.files.items():
        fault = file_fault(root / file, md5)
        if fault:
            raise DataError(
                f'Data set "{name}" is not usable in {root}: {file} {fault}; '
                f"run `fedfore data get {name}`, or name the folder that holds it with --data-dir or FEDFORE_DATA."
            )


def file_fault(path: Path, md5: str) -> str | None:
    """Return what is wrong with a file that should have this MD5 sum (hexadecimal), as a verb phrase, or None."""
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == md5 else "is damaged"

"""The hashes of a packed study's data: which files are not as they were published, and in which cells. No torch.

`files` has the SHA-256 of every data file; `cells` has, of every cell, the beginning of the SHA-256 of its lines in all
of them. A card and its figures follow from the data and are not listed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedfore.errors import StoreError
from fedfore.records.files import RESTORE, damaged, dumped, find_value, write_atomically

CHECKSUMS = "checksums.json"
BESIDE = frozenset({CHECKSUMS, "README.md", "card.toml", "figures"})
"""What lies in a study's folder and is no data."""
SHORT = 16
"""Hexadecimal digits of a cell's hash."""
NAMED = 3
"""How many cells a sentence names."""
_CELL = re.compile(rb'\{"cell_id": "([^"]+)"')


def manifest(contents: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """Return the hashes of the data files with these contents, as they are stored."""
    return {
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "cells": _cells(contents),
    }


def write_manifest(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the hashes of a study's data files. Raises StoreError where they cannot be written."""
    write_atomically(folder / CHECKSUMS, dumped(manifest(contents)))


def data_files(folder: Path) -> dict[str, bytes]:
    """Return the contents of a study's data files by name. Raises StoreError where one cannot be read."""
    try:
        return {
            path.name: path.read_bytes() if path.is_file() else b""
            for path in sorted(folder.iterdir())
            if path.name not in BESIDE and not path.name.startswith(".")
        }
    except OSError as error:
        raise StoreError(f"Cannot read {error.filename}: {error.strerror or error}.") from None


def manifest_problems(folder: Path) -> Iterator[str]:
    """Yield a sentence on each data file of a study that is not as it was published, is missing, or was not published.

    Raises StoreError for what cannot be read.
    """
    stored, contents = _stored(folder), data_files(folder)
    present = manifest(contents)
    cells = sorted(
        name
        for name in stored["cells"].keys() | present["cells"].keys()
        if stored["cells"].get(name) != present["cells"].get(name)
    )
    for name in sorted(stored["files"].keys() | present["files"].keys()):
        if name not in contents:
            yield f"{name} is missing, which {CHECKSUMS} lists; restore it, as with `git checkout`."
        elif name not in stored["files"]:
            yield f"{name} is no file that was published, as {CHECKSUMS} lists none of that name; remove it."
        elif stored["files"][name] != present["files"][name]:
            where = f" in the lines of {_some(cells)}" if cells and name.endswith(".jsonl") else ""
            yield f"{name} is not as it was published{where}; restore it, as with `git checkout`."
    if cells and stored["files"] == present["files"]:
        yield f"{CHECKSUMS} has another hash of {_some(cells)} than its files give; restore it, as with `git checkout`."


def _cells(contents: Mapping[str, bytes]) -> dict[str, str]:
    hashes: dict[str, Any] = {}
    for name in sorted(contents):
        for line in contents[name].splitlines() if name.endswith(".jsonl") else ():
            found = _CELL.match(line)
            if found:
                cell = found[1].decode(errors="replace")
                hashes.setdefault(cell, hashlib.sha256()).update(name.encode() + b"\0" + line + b"\n")
    return {cell: digest.hexdigest()[:SHORT] for cell, digest in hashes.items()}


def _stored(folder: Path) -> dict[str, dict[str, str]]:
    stored = find_value(folder / CHECKSUMS, RESTORE)
    if stored is None:
        raise StoreError(f"{folder} has no {CHECKSUMS}, so nothing tells whether its data are whole; restore it.")
    if not isinstance(stored, dict) or not all(isinstance(stored.get(part), dict) for part in ("files", "cells")):
        raise damaged(folder / CHECKSUMS, mend=RESTORE)
    return stored


def _some(cells: list[str]) -> str:
    return ", ".join(cells[:NAMED]) + (f" and {len(cells) - NAMED} more cells" if len(cells) > NAMED else "")

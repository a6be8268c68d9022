"""Files that are whole or absent: atomic writes, JSON objects and JSON lines, and one sentence for whatever fails."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedfore.errors import StoreError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part; text in UTF-8.

    Raises StoreError where it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as handle:
                handle.write(content if isinstance(content, bytes) else content.encode(errors="backslashreplace"))
                handle.flush()
                os.fsync(handle.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system refuses (a full disk, a missing permission) into a StoreError with one sentence."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"Cannot write {path}: {error.strerror or error}.") from error


def dumped(value: object) -> str:
    """Return a value as JSON with sorted keys. Raises ValueError for a NaN or an infinity in it."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def damaged(path: Path) -> StoreError:
    """Return the error of a file whose content is not what was written there."""
    return StoreError(f"{path} is damaged; move it away and run the matrix again.")


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises StoreError, with `what` where there is none, and never waits."""
    value = find_object(path)
    if value is None:
        raise StoreError(f"{path} does not exist: {what}.")
    return value


def find_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None where there is no file. Raises StoreError, and never waits."""
    text = _text(path)
    value = {} if text is None else _parsed(path, text)
    if not isinstance(value, dict):
        raise damaged(path)
    return None if text is None else value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects in the lines of a file, none where it is absent. Raises StoreError, and never waits."""
    lines = [_parsed(path, line) for line in (_text(path) or "").splitlines()]
    if not all(isinstance(line, dict) for line in lines):
        raise damaged(path)
    return lines


def _text(path: Path) -> str | None:
    """Return a file's text, or None where there is no such file; of a fifo, from which reading waits, nothing."""
    try:
        if path.exists() and not path.is_file():
            raise damaged(path)
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError:
        raise damaged(path) from None
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror or error}.") from None


def _parsed(path: Path, text: str) -> Any:
    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise damaged(path)
        return value

    try:
        return json.loads(text, parse_constant=number, parse_float=number)
    except (ValueError, RecursionError):  # no JSON, or a whole number that Python refuses to read
        raise damaged(path) from None


@contextmanager
def writing_lines(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that appends a JSON line to the file, which starts empty; raises as `write_atomically` does."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w", encoding="utf-8")

    def write(line: Mapping[str, Any]) -> None:
        text = json.dumps(line, allow_nan=False) + "\n"
        with writing(path):
            handle.write(text)
            handle.flush()

    try:
        yield write
    finally:
        with writing(path):
            handle.close()

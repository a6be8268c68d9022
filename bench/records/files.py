"""Files that are whole or absent: atomic writes, JSON objects and JSON lines, and one sentence for whatever fails."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedfore.errors import DamagedError, StoreError

RUN_AGAIN = "move it away and run the matrix again"
RESTORE = "it is part of a published study, so restore it, as with `git checkout`"


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


def version(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from one that took its place, or None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def set_aside(path: Path) -> Path:
    """Give a file or folder that cannot be used another name beside it, in the place of an earlier one; return that.

    Raises StoreError where that cannot be done.
    """
    aside = path.with_name(f"{path.name}.unusable")
    with writing(aside):
        if aside.is_dir() and not aside.is_symlink():
            shutil.rmtree(aside)
        return path.replace(aside)


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


def plain_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a method noted as JSON can hold it: numbers that are not finite as text."""
    return {key: _plain(value) for key, value in notes.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return plain_notes(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def damaged(path: Path, line: int | None = None, mend: str = RUN_AGAIN, why: str | None = None) -> DamagedError:
    """Return the error of a file whose content, in that line, is not what was written there.

    `mend` says what to do, `why` what is wrong, where that is known.
    """
    return DamagedError(f"{path} is damaged{f' in line {line}' if line else ''}{f' ({why})' if why else ''}; {mend}.")


def read_object(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises StoreError, with `what` where there is none, and never waits."""
    value = find_object(path)
    if value is None:
        raise StoreError(f"{path} does not exist: {what}.")
    return value


def find_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None where there is no file. Raises StoreError, and never waits."""
    value = find_value(path)
    if not isinstance(value, dict | None):
        raise damaged(path)
    return value


def find_value(path: Path, mend: str = RUN_AGAIN) -> Any:
    """Return the JSON value in a file, or None where there is no file. Raises StoreError, and never waits."""
    text = _text(path, mend)
    try:
        return None if text is None else _parsed(text)
    except ValueError:
        raise damaged(path, mend=mend) from None


def read_lines(path: Path, mend: str = RUN_AGAIN) -> list[dict[str, Any]]:
    """Return the JSON objects in the lines of a file, none where it is absent. Raises StoreError, and never waits."""
    lines = []
    for number, text in enumerate((_text(path, mend) or "").splitlines(), 1):
        try:
            lines.append(_parsed(text))
        except ValueError:
            raise damaged(path, number, mend, "it is no JSON") from None
        if not isinstance(lines[-1], dict):
            raise damaged(path, number, mend, "it is no object")
    return lines


def _text(path: Path, mend: str) -> str | None:
    """Return a file's text, or None where there is no such file; of a fifo, from which reading waits, nothing."""
    try:
        if path.exists() and not path.is_file():
            raise damaged(path, mend=mend)
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise damaged(path, error.object[: error.start].count(b"\n") + 1, mend, "it is not UTF-8") from None
    except OSError as error:
        raise StoreError(f"Cannot read {path}: {error.strerror or error}.") from None


def _parsed(text: str) -> Any:
    """Return what a JSON text says. Raises ValueError where it is none, or holds a number that is not finite."""

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(digits)
        return value

    try:
        return json.loads(text, parse_constant=number, parse_float=number)
    except RecursionError as error:
        raise ValueError("too deep") from error


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

"""The command that a run's plan keeps: as it is typed at the checkout's root, or as Python's request would be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

from fedfore.execution.request import Request
from fedfore.matrices import named_matrices
from fedfore.records.sources import ROOT

PLACES = ("--data-dir", "--out", "--from")
"""Options that say where files lie, and change no number."""
CLUSTER = "--executor"


def command_at_root(command: str, matrix: str, file: Path) -> str:
    """Return a command as it is typed at the checkout's root: there the path of a matrix file is that in its commit.

    Where files lie on this machine alone is left out.
    """
    words, place = shlex.split(command), file.resolve()
    if matrix in words and matrix not in named_matrices() and place.is_relative_to(ROOT):
        words[words.index(matrix)] = place.relative_to(ROOT).as_posix()
    return shlex.join(_without_places(words))


def _without_places(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command but those of `PLACES` that are absolute, and the address of a cluster."""
    waiting = iter(words)
    for word in waiting:
        option, given, value = word.partition("=")
        parts = [word] if given or option not in (*PLACES, CLUSTER) else [word, *islice(waiting, 1)]
        place = value or parts[-1]
        if not (option in PLACES and Path(place).is_absolute()) and not (option == CLUSTER and ":" in place):
            yield from parts


def command_of(matrix: str, request: Request, **lists: Sequence[str | Path]) -> str:
    """Return the command that asks for a run; `lists` are the values of options that may be repeated, by name."""
    words = ["fedfore", "run", matrix]
    for name, values in lists.items():
        words += [word for value in values for word in (f"--{name}", str(value))]
    for item in fields(request):
        value = getattr(request, item.name)
        if value != item.default:
            words += _words(f"--{item.metadata.get('option', item.name).replace('_', '-')}", value)
    return shlex.join(words)


def _words(option: str, value: Any) -> list[str]:
    if value is True:
        return [option]
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (option, str(one))]

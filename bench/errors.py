"""Errors that a user can act on: every message is one sentence that says what, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_MOST_NAMES = 20


class FedForeError(Exception):
    """Base class: the command line prints the message alone, without a traceback."""


class ConfigError(FedForeError):
    """A matrix, a cell or a method's configuration cannot be used as written."""


class DataError(FedForeError):
    """A data set is missing or damaged."""


class PluginError(FedForeError):
    """A method file cannot be imported or does not define a method."""


class StoreError(FedForeError):
    """A run directory cannot be used: locked, of another plan, or unreadable."""


class DamagedError(StoreError):
    """A file of a run does not hold what was written there."""


class HistoryError(FedForeError):
    """The git history does not tell: there is none, it is shallow, or it lacks a commit."""


class ContractError(FedForeError):
    """A method broke a rule of the plug-in contract.

    `rule` is a short stable name (such as "mask_leak"), the message one sentence.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} [rule: {self.rule}]"


class Diverged(FedForeError):
    """Training produced a non-finite number; the cell ends with status `diverged`.

    `measured` are the fields of its record that are known nevertheless: what was spent until then.
    """

    def __init__(self, message: str, measured: Mapping[str, Any] = {}) -> None:
        super().__init__(message)
        self.measured = measured


class Skip(Exception):
    """Raised by a method where it does not apply; the message is the reason that the record keeps."""


def printable(text: str) -> str:
    """Return `text` on one line of a terminal: line breaks, control characters and lone surrogates are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean "x"?` when a known name is close to `word`, and what names there are otherwise."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f' Did you mean "{near[0]}"?'
    more = len(names) - _MOST_NAMES
    return f" Known: {', '.join(names[:_MOST_NAMES])}{f' and {more} more' if more > 0 else ''}." if names else ""

"""A table of texts as the folded parts of a report show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """A text that leads to a file beside the report."""

    text: str
    target: str


@dataclass(frozen=True)
class Table:
    """A table of texts, the first of each row its name; a cell may hold several links instead."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str | tuple[Link, ...], ...], ...]

"""Sentences on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedfore.records.run import Run


def complain(sentence: str) -> None:
    """Print to stderr, if it is still there."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def remark_on(run: Run) -> None:
    """Print what a reader of a run has to know first: cells that are missing, stale or uncertified."""
    from fedfore.records.store import remarks

    for remark in remarks(run):
        complain(f"fedfore: {remark}")

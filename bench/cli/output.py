"""What the verbs of the command line share: sentences on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def complain(sentence: str) -> None:
    """Print to stderr, if it is still there."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def remark_on(run: Path) -> None:
    """Print what a reader of a run has to know first: cells that are missing, stale or uncertified."""
    from fedfore.records.store import open_run, remarks

    for remark in remarks(open_run(run)):
        complain(f"fedfore: {remark}")

"""Methods with those of a user's folders, for as long as something is done with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedfore.contract.registry import MethodEntry, discover


@contextmanager
def methods_of(folders: Sequence[Path]) -> Iterator[Mapping[str, MethodEntry]]:
    """Find every method by name; the folders are on `sys.path` until then, so that their files find one another.

    Raises PluginError as `discover` does.
    """
    before = sys.path[:]
    try:
        yield discover(folders)
    finally:
        sys.path[:] = before

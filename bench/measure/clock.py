"""Where a cell's time goes: named accounts of wall-clock seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

CLOCKS = ("train", "setup", "evaluate", "diagnose", "ntk", "meter", "data")


class Clock:
    """Seconds by account (`CLOCKS`). Accounts do not nest."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(CLOCKS, 0.0)

    @contextmanager
    def charge(self, name: str) -> Iterator[None]:
        """Charge the time spent inside to account `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

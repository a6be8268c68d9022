"""Whether a report is still what its run would give, so that a run in which nothing was left to do writes none."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedfore.errors import StoreError
from fedfore.records.packed import MATRIX
from fedfore.records.sources import BESIDE, own_files, package_folder
from fedfore.records.store import open_run

REPORT = "report.html"
_ASKED = ("plan.json", MATRIX)
_HELD = ("cells", "failed", "environments")


def asked_of(run: Path) -> tuple[bytes | None, ...]:
    """Return what a run was asked for, byte by byte: its plan with the commands, and its matrix; None where there is
    none.
    """
    return tuple((run / name).read_bytes() if (run / name).is_file() else None for name in _ASKED)


def current_report(run: Path, asked: tuple[bytes | None, ...]) -> Path | None:
    """Return a run's report, with the present time as its own, where writing it anew would change nothing; else None.

    So it is where the run is asked for the same as before (`asked`, see `asked_of`), and where no record, no file
    beside one and no file of the suite or of a plug-in is as new as the report. Libraries are not looked at.
    """
    report = run / REPORT
    try:
        written = report.stat().st_mtime_ns
        plugins = open_run(run).plugins().values()
        if asked_of(run) != asked or any(newest >= written for newest in _times(run, plugins)):
            return None
        os.utime(report)
    except (OSError, StoreError):
        return None
    return report


def _times(run: Path, plugins: Iterable[Path]) -> Iterator[int]:
    """Yield when what a report is made of was changed last, in nanoseconds; folders too, which may have lost a file."""
    for folder in (run / name for name in _HELD if (run / name).exists()):
        yield from (path.stat().st_mtime_ns for path in (folder, *folder.rglob("*")))
    shipped = (path for part in ("", *BESIDE) for path in package_folder(part).rglob("*") if path.is_file())
    sources = (path for path in shipped if path.parent.name != "__pycache__")
    yield from (file.stat().st_mtime_ns for file in itertools.chain(sources, *map(own_files, plugins)))

"""`fedfore show`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedfore.cli.listings import choice_lines
from fedfore.cli.output import remark_on
from fedfore.errors import printable

HELP = "print the results of a run"
FORMATS = ("json", "csv", "latex", "markdown", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name)


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.tables.show import render
    from fedfore.records.store import open_run

    remark_on(options.run)
    shown = render(options.run, options.format or "markdown", reasons=True)
    if isinstance(shown, bytes):
        sys.stdout.buffer.write(shown)
    else:
        print(shown)
    tuning = open_run(options.run).tuning() if options.format is None else None
    for line in choice_lines(tuning) if tuning else ():
        print(printable(line))
    return 0

"""`fedfore show`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedfore.cli.output import remark_on

HELP = "print the results of a run"
FORMATS = ("json", "csv", "latex", "markdown", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name)


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.tables.show import render

    remark_on(options.run)
    shown = render(options.run, options.format or "markdown", reasons=True)
    if isinstance(shown, bytes):
        sys.stdout.buffer.write(shown)
    else:
        print(shown)
    return 0

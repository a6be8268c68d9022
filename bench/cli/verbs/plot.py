"""`fedfore plot`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.cli.arguments import inches
from fedfore.cli.output import complain, remark_on

HELP = "draw the figures of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--width", type=inches, default=7.0, metavar="INCHES", help="3.3 suits one column of a paper [7]"
    )


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.figures import write_figures
    from fedfore.plots.lines import damaged_files
    from fedfore.records.store import open_run

    remark_on(options.run)
    for figure in write_figures(options.run, options.width):
        print(figure.png)
    for sentence in damaged_files(open_run(options.run)):
        complain(f"fedfore: {sentence}")
    return 0

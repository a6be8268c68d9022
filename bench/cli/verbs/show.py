"""`fedfore show`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedfore.cli.arguments import names, natural
from fedfore.display.output import remark_on
from fedfore.display.plan_lines import choice_lines
from fedfore.errors import printable
from fedfore.records.lines import LINES

HELP = "print the results of a run as a table, or all of its records and lines as CSV, JSON or Parquet"
EXAMPLES = ("fedfore show results/runs/quick --by alpha", "fedfore show results/runs/quick --rows rounds --csv")
FORMATS = ("markdown", "latex", "csv", "json", "parquet")
PLAIN, CELLS = "plain", "cells"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default=PLAIN)
    parser.add_argument("--by", metavar="AXIS", help="put an axis or a key into columns, such as alpha or sparsity")
    parser.add_argument("--columns", type=names, metavar="M,M", help="metrics [those that say most of the run]")
    parser.add_argument("--baseline", metavar="SERIES", help="differences of the first metric to it [the dense method]")
    parser.add_argument(
        "--best", type=names, nargs="?", const=(), metavar="KEY,KEY",
        help="of each point the values of these keys that are best on validation data [lr, init_scale]",
    )  # fmt: skip
    parser.add_argument("--precision", type=natural, metavar="N", help="decimals [what tells the values apart]")
    parser.add_argument("--caption", metavar="TEXT", help="a caption, which in LaTeX makes a float of the table")
    parser.add_argument("--label", metavar="LABEL", help="its label in LaTeX")
    kinds = [CELLS, *(name.removesuffix(".jsonl") for name in LINES)]
    parser.add_argument("--rows", choices=kinds, default=CELLS, help="cells, or the lines beside them [cells]")


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.tables.asked import Asked
    from fedfore.plots.tables.show import render
    from fedfore.records.store import open_run

    run = open_run(options.run)
    remark_on(run)
    asked = Asked(
        columns=options.columns,
        by=options.by,
        baseline=options.baseline,
        best=options.best,
        decimals=options.precision,
        caption=options.caption,
        label=options.label,
    )
    shown = render(run, options.format, asked, rows=options.rows, reasons=True)
    if isinstance(shown, bytes):
        sys.stdout.buffer.write(shown)
    else:
        print(shown, end="")
    tuning = run.tuning() if options.format == PLAIN and options.rows == CELLS else None
    for line in choice_lines(tuning, run.plan()) if tuning else ():
        print(printable(line))
    return 0

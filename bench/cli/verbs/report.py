"""`fedfore report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.cli.arguments import add_plugins
from fedfore.cli.plugged import plugged
from fedfore.display.output import remark_on

HELP = "write the report of a run: one self-contained HTML file"
EXAMPLES = ("fedfore report results/runs/quick", "fedfore report results/quick")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.report.page import write_report
    from fedfore.records.store import open_run

    plugged("figure", options.plugins)
    run = open_run(options.run)
    remark_on(run)
    print(write_report(run))
    return 0

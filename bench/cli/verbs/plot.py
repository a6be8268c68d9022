"""`fedfore plot`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.cli.arguments import add_plugins, inches
from fedfore.cli.plugged import plugged
from fedfore.display.output import complain, remark_on
from fedfore.errors import printable

HELP = "draw the figures of a run"
EXAMPLES = ("fedfore plot results/runs/quick", "fedfore plot results/runs/quick --width 3.3 --only pareto")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--width", type=inches, default=7.0, metavar="INCHES", help="3.3 suits one column of a paper [7]"
    )
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help="figures by name, or by how names begin, such as cost [all]"
    )
    parser.add_argument("--metric", metavar="M", help="a metric in place of the accuracy in figures of accuracy")
    parser.add_argument("--no-title", action="store_true", help="leave out titles, for papers with captions")
    parser.add_argument("--captions", action="store_true", help="write a figure's caption beside it, as NAME.txt")
    parser.add_argument("--list", action="store_true", help="print the figures' names and what they show; draw none")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.figures import plan_figures, write_figures
    from fedfore.plots.lines import damaged_files
    from fedfore.plots.study import load_study
    from fedfore.plots.view import Options
    from fedfore.records.store import open_run

    plugged("figure", options.plugins)
    run = open_run(options.run)
    remark_on(run)
    drawing = Options(options.width, options.metric, title=not options.no_title, captions=options.captions)
    only = [name for name in options.only.split(",") if name]
    if options.list:
        for planned in plan_figures(load_study(run), drawing):
            print(printable(f"{planned.name}: {planned.title}"))
    else:
        for figure in write_figures(run, drawing, only):
            print(figure.png)
    for sentence in damaged_files(run):
        complain(f"fedfore: {sentence}")
    return 0

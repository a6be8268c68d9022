"""`fedfore run`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from fedfore.cli.arguments import add_data_dir, add_matrix, seconds
from fedfore.cli.executing import add_executor, say_of_cpus, warm_up
from fedfore.display.output import complain
from fedfore.errors import FedForeError, printable

HELP = "run a matrix and write its report"
EXAMPLES = ("fedfore run", "fedfore run my.toml --plugins my_methods --workers 4 --out results/runs/my")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_matrix(parser)
    add_executor(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument(
        "--rerun", choices=("missing", "failed", "stale", "all"), default="missing",
        help="which cells to run: without a record, also failed ones, also ones of older code, or all [missing]",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="CELL",
        help="run only this cell of the plan, by its id or the beginning of one, or K/N: every N-th from the K-th; may "
        "be repeated, and the exit status is that of these cells [all]",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RUN", help="run directory [results/runs/<matrix>]")
    parser.add_argument("--extend", action="store_true", help="unite this plan with the one RUN already holds")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S",
        help="seconds after which a cell is stopped [none]; the same command goes on from its checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-seconds", type=seconds, default=60.0, metavar="S",
        help="seconds of work that a cell can lose [60]: at the first end of a round after them its state is kept",
    )  # fmt: skip
    parser.add_argument("--save-model", action="store_true", help="keep the weights and the mask that a cell ends with")
    parser.add_argument(
        "--from",
        type=Path,
        dest="study",
        metavar="STUDY",
        help="go on with a published study, in a new RUN",
    )
    add_data_dir(parser)
    parser.set_defaults(kept="; finished cells are kept, the same command goes on from here")


def execute(options: argparse.Namespace) -> int:
    warm_up(options)
    from fedfore.contract.registry import discover
    from fedfore.display.outcomes import what_went_wrong
    from fedfore.display.progress import Display
    from fedfore.display.stages import shown_stages
    from fedfore.execution.command import command_at_root
    from fedfore.execution.planned_matrix import planned_matrix
    from fedfore.execution.request import Request, run_matrix, run_options
    from fedfore.plots.report.current import asked_of, current_report
    from fedfore.records.store import LiveRun, remarks

    plugins = tuple(folder.resolve() for folder in options.plugins)
    matrix = planned_matrix(options.matrix, options.overrides, discover(plugins), options.data_dir)
    for sentence in matrix.remarks:
        complain(f"fedfore: {printable(sentence)}")
    assert matrix.path is not None, "the command names a file"
    say_of_cpus(options)
    run = options.out or Path("results") / "runs" / matrix.path.stem
    request = Request(**{item.name: getattr(options, item.name) for item in fields(Request)})
    command = command_at_root(options.command, options.matrix, matrix.path)
    settings = run_options(request, matrix, run, plugins, command)
    asked_before = asked_of(settings.run)
    with Display(settings.run, matrix.path.stem) as display:
        outcome = run_matrix(matrix, settings, options.study, shown_stages(display, run))
    from fedfore.plots.report.page import write_report
    from fedfore.plots.tables.show import render

    options.status = 0 if outcome.is_complete else 1
    ended = LiveRun(settings.run, outcome.records)
    try:
        report = current_report(settings.run, asked_before) or write_report(ended)
        print(render(ended, "plain"))
        print("".join(f"{remark}\n\n" for remark in remarks(ended)), end="")
        print("".join(what_went_wrong(settings.run, outcome)), end="")
    except FedForeError as error:  # something did run
        complain(f"fedfore: {printable(str(error))}")
        return 1
    print(f"Report: {run / report.name}")
    return int(options.status)

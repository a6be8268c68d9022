"""`fedfore plan`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.cli.arguments import add_data_dir, add_matrix
from fedfore.display.output import complain
from fedfore.display.plan_lines import plan_lines
from fedfore.errors import printable

HELP = "list the cells of a matrix without running them"
EXAMPLES = ("fedfore plan", "fedfore plan my.toml --set seed=[0,1,2]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_matrix(parser)
    add_data_dir(parser)
    parser.add_argument("--out", type=Path, metavar="RUN", help="go on from the trials that ended in this run [none]")


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.planned_matrix import planned_matrix
    from fedfore.execution.trials import ended_trials
    from fedfore.execution.tuning import staged_plan
    from fedfore.records.store import open_run

    matrix = planned_matrix(options.matrix, options.overrides, discover(options.plugins), options.data_dir)
    for sentence in matrix.remarks:
        complain(f"fedfore: {printable(sentence)}")
    plan = matrix.plan
    if options.out is not None:
        plan = staged_plan(matrix.document, matrix.methods, ended_trials(open_run(options.out)))
    for line in plan_lines(plan):
        print(line)
    return 0

"""`fedfore plan`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_matrix
from fedfore.cli.listings import plan_lines
from fedfore.cli.planning import planned_matrix

HELP = "list the cells of a matrix without running them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_matrix(parser)


def execute(options: argparse.Namespace) -> int:
    _, planned, _ = planned_matrix(options)
    for line in plan_lines(planned):
        print(line)
    return 0

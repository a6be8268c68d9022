"""Who runs the cells of a command: the arguments that say so, and what they come to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fedfore.cli.arguments import natural
from fedfore.cli.output import complain

if TYPE_CHECKING:
    from fedfore.execution.executors.executor import Executor


def add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=natural, metavar="N",
        help="cells at a time, at most the CPUs that this process may use [as many]; 0 runs them in this process",
    )  # fmt: skip
    parser.add_argument(
        "--executor", default="processes", metavar="E", help="who runs the cells: processes or inline [processes]"
    )


def warm_up(options: argparse.Namespace) -> None:
    """Start what cells will be forked from, if they will be: it imports torch while this process plans."""
    from fedfore.execution.executors import warm_server

    if options.executor == "processes" and options.workers != 0:
        warm_server.warm_up()


def chosen_executor(options: argparse.Namespace) -> Executor:
    """Return the executor that a command asks for; say where it gets fewer workers. Raises ConfigError."""
    from fedfore.execution.executors.choice import executor_of
    from fedfore.execution.executors.machine import usable_cpus

    executor = executor_of(options.executor, options.workers)
    cpus = usable_cpus()
    if options.executor == "processes" and (options.workers or 0) > cpus:
        complain(f"fedfore: --workers {options.workers} is more than the CPUs this process may use: {cpus} run.")
    return executor

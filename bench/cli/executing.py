"""Who runs the cells of a command: the arguments that say so, and what they come to."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fedfore.cli.arguments import natural, positive, share
from fedfore.display.output import complain

if TYPE_CHECKING:
    from fedfore.execution.executors.executor import Executor


def add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=natural, metavar="N",
        help="cells at a time, at most the CPUs that this process may use [as many]; 0 runs them in this process",
    )  # fmt: skip
    parser.add_argument(
        "--processes-per-cell", type=positive, default=1, metavar="N",
        help="processes that share the clients of each round of a cell [1]: for fewer cells than CPUs",
    )  # fmt: skip
    parser.add_argument(
        "--executor", default="processes", metavar="E",
        help="who runs the cells: processes, inline, ray (started on this machine, or that of $RAY_ADDRESS), or the "
        "address of a Ray cluster: auto or HOST:PORT on one of its nodes, ray://HOST:10001 from elsewhere [processes]",
    )  # fmt: skip
    parser.add_argument(
        "--shared", action="store_true",
        help="with Ray: RUN lies where all nodes see it under its path, and cells write there, so that one whose node "
        "is lost goes on from its checkpoint [a cell writes on its node, and its files come back at its end]",
    )  # fmt: skip
    parser.add_argument(
        "--gpus", type=share, metavar="G", help="with Ray and --device cuda: GPUs that a cell takes, such as 0.5 [1]"
    )


def warm_up(options: argparse.Namespace) -> None:
    """Start what cells will be forked from, if they will be: it imports torch while this process plans."""
    from fedfore.execution.executors import warm_server

    if options.executor == "processes" and options.workers != 0:
        warm_server.warm_up()


def chosen_executor(options: argparse.Namespace) -> Executor:
    """Return the executor that a command asks for; say where it gets fewer workers or processes. Raises ConfigError."""
    from fedfore.execution.executors.choice import executor_of

    executor = executor_of(
        options.executor,
        options.workers,
        processes=processes_per_cell(options),
        shared=options.shared,
        gpus=options.gpus,
    )
    say_of_cpus(options)
    return executor


def say_of_cpus(options: argparse.Namespace) -> None:
    """Say where a command gets fewer workers, or fewer processes for a cell, than it asks for."""
    from fedfore.execution.executors.choice import most_workers

    processes = processes_per_cell(options)
    most = most_workers(processes)
    if options.processes_per_cell > processes:
        complain(
            f"fedfore: --processes-per-cell {options.processes_per_cell} is more than the CPUs this process may use: "
            f"{processes} share a cell."
        )
    if options.executor == "processes" and (options.workers or 0) > most:
        complain(f"fedfore: --workers {options.workers} is more than the CPUs this process may use: {most} run.")


def processes_per_cell(options: argparse.Namespace) -> int:
    """Return how many processes a command gives to a cell. Raises ConfigError where it asks for what cannot be."""
    from fedfore.execution.executors.choice import processes_of

    return processes_of(options.processes_per_cell, options.executor, options.device)

"""What the `fedfore` command can be asked: its verbs, their arguments and what these may be. No torch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from bench.cell import WirePrecision

Verb = Callable[[argparse.Namespace], int]
EPILOG = """\
examples:
  fedfore run                                   the quick matrix, on embedded real digits, minutes
  fedfore run my.toml --set seed=[0,1,2,3,4]    your matrix, one axis replaced
  fedfore run my.toml --plugins my_methods/     with your own method files
  fedfore check my_method --plugins my_methods/ does my method keep the contract?
  fedfore show results/runs/quick --markdown    the summary table of a run

exit status: 0 every planned cell is ok or skipped, 1 some cell failed, 2 nothing ran.
"""
LISTS = ("methods", "datasets", "models", "metrics", "matrices")
FORMATS = ("json", "csv", "latex", "markdown", "parquet")


def parser_of(verbs: Mapping[str, Verb]) -> argparse.ArgumentParser:
    """Return the parser of the command line; `verb` of what it parses is the function that does what was asked."""
    parser = argparse.ArgumentParser(
        prog="fedfore",
        description="Benchmarks for federated learning on low-memory devices.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('fedfore')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _command(commands, verbs, "run", "run a matrix and write its report")
    _matrix_arguments(run)
    run.add_argument("--workers", type=_positive, metavar="N", help="processes [the CPUs this process may use]")
    run.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    run.add_argument(
        "--rerun", choices=("missing", "failed", "stale", "all"), default="missing",
        help="which cells to run: without a record, also failed ones, also ones of older code, or all [missing]",
    )  # fmt: skip
    run.add_argument("--out", type=Path, metavar="RUN", help="run directory [results/runs/<matrix>]")
    run.add_argument("--extend", action="store_true", help="unite this plan with the one RUN already holds")
    run.add_argument("--timeout", type=_seconds, metavar="S", help="seconds after which a cell is stopped [none]")
    _data_dir(run)

    plan = _command(commands, verbs, "plan", "list the cells of a matrix without running them")
    _matrix_arguments(plan)

    ls = _command(commands, verbs, "ls", "list what there is")
    ls.add_argument("what", choices=LISTS)
    _plugins(ls)

    check = _command(commands, verbs, "check", "try every rule of the plug-in contract on methods")
    check.add_argument("methods", nargs="*", metavar="METHOD", help="names [all]")
    _plugins(check)

    show = _command(commands, verbs, "show", "print the results of a run")
    show.add_argument("run", type=Path, metavar="RUN")
    formats = show.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name)

    plot = _command(commands, verbs, "plot", "draw the figures of a run")
    plot.add_argument("run", type=Path, metavar="RUN")
    plot.add_argument(
        "--width", type=_inches, default=7.0, metavar="INCHES", help="3.3 suits one column of a paper [7]"
    )

    report = _command(commands, verbs, "report", "write the report of a run: one self-contained HTML file")
    report.add_argument("run", type=Path, metavar="RUN")

    messages = _command(commands, verbs, "messages", "print what exchanging training steps costs a client, in bytes")
    messages.add_argument("model", metavar="MODEL", help="such as lenet5 or resnet20:norm=group")
    messages.add_argument("--dataset", required=True, metavar="D")
    messages.add_argument("--clients", type=_positive, default=10, metavar="N", help="equal shares of the data [10]")
    messages.add_argument("--batch-size", type=_positive, default=32, metavar="B", help="[32]")
    messages.add_argument("--num-perturbations", type=_positive, default=500, metavar="K", help="[500]")
    messages.add_argument("--sparsity", type=_sparsity, default=0.0, metavar="S", help="of a mask on the model [0]")
    messages.add_argument(
        "--wire-precision", choices=get_args(WirePrecision), default="float32", help="the type of floats [float32]"
    )
    messages.add_argument("--json", action="store_true", help="every field, as JSON")

    cost = _command(commands, verbs, "cost", "print what a device would pay, without training and without data files")
    cost.add_argument("model", metavar="MODEL", help='a model with its options, such as "resnet20:norm=group"')
    cost.add_argument("--dataset", default="cifar10", help="whose shape the data have [cifar10]")
    cost.add_argument("--method", default="fedavg", help="[fedavg]")
    cost.add_argument("--sparsity", type=float, default=0.0, help="fraction of zeros among prunable weights [0]")
    cost.add_argument("--batch", type=_positive, default=32, help="examples of a batch [32]")
    cost.add_argument("--run", type=Path, metavar="RUN", help="take the layer densities of a stored mask [ERK's]")
    cost.add_argument("--alpha", metavar="A", help="of the stored mask, where RUN holds several [any]")
    cost.add_argument("--seed", type=int, default=0, metavar="S", help="of the stored mask [0]")
    cost.add_argument("--json", action="store_true", help="print the fields of a record")
    _overrides(cost)
    _plugins(cost)

    get = _command(commands, verbs, "data", "download a data set: fedfore data get NAME")
    get.add_argument("action", choices=("get",))
    get.add_argument("name")
    _data_dir(get)

    _command(commands, verbs, "env", "print versions, processor and commit")
    return parser


def _command(commands: Any, verbs: Mapping[str, Verb], name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(verb=verbs[name])
    return parser


def _matrix_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrix", nargs="?", default="quick", help="a TOML file or a shipped matrix [quick]")
    _overrides(parser)
    _plugins(parser)


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="K=V",
        help="replace a key, such as seed=[0,1], train.clients=20, params.baffle.sigma=1e-3",
    )  # fmt: skip


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins", action="append", type=Path, default=[], metavar="DIR", help="folder of method files"
    )


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="D", help="data sets [$FEDFORE_DATA, else ~/.cache/fedfore/data]"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return value


def _inches(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError("must lie between 1 and 100 inches")
    return value


def _sparsity(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must lie in [0, 1)")
    return value

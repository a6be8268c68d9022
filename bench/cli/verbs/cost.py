"""`fedfore cost`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fedfore.cli.arguments import add_data_dir, add_overrides, add_plugins, positive, size
from fedfore.errors import ConfigError

HELP = "print what a device would pay, without training and without data files"
EXAMPLES = (
    "fedfore cost lenet5 --all --memory 2MiB",
    "fedfore cost resnet18:norm=group --dataset cifar10 --method baffle --batch 32",
)
FORMATS = ("markdown", "latex", "csv", "json")
PLAIN = "plain"
USUAL_SPARSITY = 0.8
"""Of the methods that prune, where all are compared and no sparsity is given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help='a model with its options, such as "resnet20:norm=group"')
    parser.add_argument("--dataset", default="cifar10", help="whose shape the data have [cifar10]")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--method", help="[fedavg]")
    which.add_argument("--all", action="store_true", help="all methods in a table, at their defaults or --set values")
    parser.add_argument("--memory", type=size, metavar="SIZE", help="with --all: what a device has, such as 512KiB")
    parser.add_argument(
        "--sparsity", type=float, metavar="S",
        help=f"fraction of zeros among prunable weights [0; with --all {USUAL_SPARSITY}, where a method prunes]",
    )  # fmt: skip
    parser.add_argument("--batch", type=positive, default=32, help="examples of a batch [32]")
    parser.add_argument("--run", type=Path, metavar="RUN", help="take the layer densities of a stored mask [ERK's]")
    parser.add_argument("--alpha", metavar="A", help="of the stored mask, where RUN holds several [any]")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the stored mask [0]")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        text = "the fields of a record" if name == "json" else "with --all"
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default=PLAIN, help=text)
    add_overrides(parser)
    add_plugins(parser)
    add_data_dir(parser)


def execute(options: argparse.Namespace) -> int:
    return _all(options) if options.all else _one(options)


def _one(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.cost import Point, cost_document, cost_record
    from fedfore.plots.cost_table import cost_table

    if options.memory is not None or options.format not in (PLAIN, "json"):
        raise ConfigError(f"--memory and a table as {', '.join(FORMATS[:-1])} go with --all.")
    point = Point(
        dataset=options.dataset, methods=(options.method or "fedavg",), sparsity=options.sparsity or 0.0,
        batch=options.batch, alpha=options.alpha, seed=options.seed,
    )  # fmt: skip
    document = cost_document(options.model, point, options.overrides, options.data_dir)
    record = cost_record(document, discover(options.plugins), options.run)
    print(json.dumps(record, indent=1, allow_nan=False) if options.format == "json" else cost_table(record))
    return 0


def _all(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.cost import Point, cost_document, cost_records
    from fedfore.plots.fitting_table import fitting_table

    if options.run is not None:
        raise ConfigError("--run is the stored mask of one method; name that by --method instead of --all.")
    methods = discover(options.plugins)
    usable = tuple(name for name, entry in methods.items() if entry.method is not None)
    sparsity = USUAL_SPARSITY if options.sparsity is None else options.sparsity
    point = Point(dataset=options.dataset, methods=usable, sparsity=sparsity, batch=options.batch)
    document = cost_document(options.model, point, options.overrides, options.data_dir)
    found, reasons = cost_records(document, methods, _say_what_is_metered)
    _say_what_is_metered("")
    broken = {name: entry.problem for name, entry in methods.items() if entry.method is None}
    print(fitting_table(found, {**reasons, **broken}, options.memory, options.format), end="")
    return 0


def _say_what_is_metered(method: str) -> None:
    """Write one line on a terminal in place of the last, which goes where the name is empty."""
    if sys.stderr.isatty():
        text = f"\rMetering {method} ..." if method else "\r"
        print(f"{text:<60}", end="\r", file=sys.stderr, flush=True)

"""`fedfore cost`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fedfore.cli.arguments import add_overrides, add_plugins, positive

HELP = "print what a device would pay, without training and without data files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help='a model with its options, such as "resnet20:norm=group"')
    parser.add_argument("--dataset", default="cifar10", help="whose shape the data have [cifar10]")
    parser.add_argument("--method", default="fedavg", help="[fedavg]")
    parser.add_argument("--sparsity", type=float, default=0.0, help="fraction of zeros among prunable weights [0]")
    parser.add_argument("--batch", type=positive, default=32, help="examples of a batch [32]")
    parser.add_argument("--run", type=Path, metavar="RUN", help="take the layer densities of a stored mask [ERK's]")
    parser.add_argument("--alpha", metavar="A", help="of the stored mask, where RUN holds several [any]")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the stored mask [0]")
    parser.add_argument("--json", action="store_true", help="print the fields of a record")
    add_overrides(parser)
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.cost import cost_document, cost_record
    from fedfore.plots.cost_table import cost_table

    point = {axis: getattr(options, axis) for axis in ("method", "dataset", "model", "sparsity", "seed", "alpha")}
    document = cost_document(point, options.batch, options.overrides)
    record = cost_record(document, discover(options.plugins), options.run)
    print(json.dumps(record, indent=1, allow_nan=False) if options.json else cost_table(record))
    return 0

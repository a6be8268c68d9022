"""`fedfore messages`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import get_args

from fedfore.cell import WirePrecision
from fedfore.cli.arguments import add_plugins, positive, sparsity

HELP = "print what exchanging training steps costs a client, in bytes"
EXAMPLES = (
    "fedfore messages lenet5 --dataset digits",
    "fedfore messages lenet5 --dataset cifar10 --num-perturbations 100 --sparsity 0.8",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="such as lenet5 or resnet20:norm=group")
    parser.add_argument("--dataset", required=True, metavar="D")
    parser.add_argument("--clients", type=positive, default=10, metavar="N", help="equal shares of the data [10]")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="B", help="[32]")
    parser.add_argument("--num-perturbations", type=positive, default=500, metavar="K", help="[500]")
    parser.add_argument("--sparsity", type=sparsity, default=0.0, metavar="S", help="of a mask on the model [0]")
    parser.add_argument(
        "--wire-precision", choices=get_args(WirePrecision), default="float32", help="the type of floats [float32]"
    )
    parser.add_argument("--json", action="store_true", help="every field, as JSON")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.plugins import know_plugins
    from fedfore.execution.messages import client_exchanges
    from fedfore.execution.seed_trick import Steps

    know_plugins(options.plugins)
    train = Steps(options.batch_size, options.num_perturbations, options.sparsity, options.wire_precision)
    found, text = client_exchanges(options.model, options.dataset, options.clients, train)
    print(json.dumps(asdict(found), indent=1) if options.json else text)
    return 0

"""`fedfore ls`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_plugins
from fedfore.cli.listings import LISTS, listing

HELP = "list what there is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=LISTS)
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    for name, text in listing(options.what, options.plugins):
        print(f"{name:<32} {text}")
    return 0

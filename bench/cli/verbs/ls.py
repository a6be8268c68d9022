"""`fedfore ls`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_plugins
from fedfore.cli.listings import LISTS, listing
from fedfore.errors import ConfigError

HELP = "list what there is, or the keys of a method or model"
EXAMPLES = ("fedfore ls methods --plugins my_methods", "fedfore ls keys fedavg")
KEYS = "keys"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="?", choices=(*LISTS, KEYS), metavar="WHAT", help=f"{', '.join(LISTS)}, or {KEYS} NAME"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="with keys: a method or a model")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    if options.what is None:
        raise ConfigError(f"Say what to list: {', '.join(LISTS)}, or {KEYS} NAME.")
    if (options.name is None) == (options.what == KEYS):
        raise ConfigError(f"fedfore ls {KEYS} takes the name of a method or a model, and the other lists take none.")
    if options.what == KEYS:
        from fedfore.cli.keys import key_listing

        lines = key_listing(options.name, options.plugins)
    else:
        lines = listing(options.what, options.plugins)
    for name, text in lines:
        print(f"{name:<32} {text}")
    return 0

"""`fedfore check`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_plugins
from fedfore.errors import ConfigError, suggestion

HELP = "try every rule of the plug-in contract on methods"
EXAMPLES = ("fedfore check fedavg", "fedfore check my_method --plugins my_methods")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="names [all]")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.conformance import check_method

    methods = discover(options.plugins)
    broken = 0
    for name in options.methods or methods:
        if name not in methods:
            raise ConfigError(f'There is no method "{name}".{suggestion(name, methods)}')
        for finding in check_method(methods[name]):
            broken += finding.outcome == "broken"
            reason = f": {finding.sentence}" if finding.sentence else ""
            print(f"{finding.outcome:<7} {name:<16} {finding.rule}{reason}")
    return 1 if broken else 0

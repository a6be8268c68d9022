"""The parser of the `fedfore` command, made of its verbs. No torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from fedfore.cli.verbs import VERBS
from fedfore.errors import suggestion

EXAMPLES = """\
examples:
  fedfore run                                   the quick matrix, on embedded real digits, minutes
  fedfore run my.toml --set seed=[0,1,2,3,4]    your matrix, one axis replaced
  fedfore run my.toml --plugins my_methods/     with your own method files
  fedfore cost lenet5 --all --memory 2MiB       which method fits a device of so much memory?
  fedfore new my_method                         write a method file to begin with
  fedfore check my_method --plugins .           does it keep the contract?
  fedfore show results/runs/quick --by alpha    the table of a run, an axis as columns
"""

EPILOG = "exit status: 0 every planned cell is ok or skipped, 1 some cell failed, 2 nothing ran."


class Parser(argparse.ArgumentParser):
    """A parser that names what is near to a word that it does not know."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f'there is no "{value}".{suggestion(value, action.choices)}')

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parse, or exit with a sentence on the words that no argument takes."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            asked: Parser = getattr(options, "parser", self)
            odd = next((word for word in unknown if word.startswith("-")), "")
            known = [option for option in asked._option_string_actions if option.startswith("--")]
            near = suggestion(odd.partition("=")[0], known) if odd else ""
            asked.error(f"unrecognized arguments: {' '.join(unknown)}.{near}")
        return options


def parser() -> Parser:
    """Return the parser of the command line.

    Of what it parses, `execute` is the function that does what was asked, `kept` says what an interrupt keeps.
    """
    command_line = Parser(
        prog="fedfore",
        description=f"Benchmarks for federated learning on low-memory devices.\n\n{EXAMPLES}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("--version", action="version", version=f"%(prog)s {version('fedfore')}")
    commands = command_line.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, verb in VERBS.items():
        text = verb.HELP
        command = commands.add_parser(
            name,
            help=text,
            description="\n  ".join([f"{text[0].upper()}{text[1:]}.\n\nexamples:", *verb.EXAMPLES]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(execute=verb.execute, kept="", parser=command)
        verb.add_arguments(command)
    return command_line

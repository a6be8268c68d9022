"""The parser of the `fedfore` command, made of its verbs. No torch."""

from __future__ import annotations

import argparse
from importlib.metadata import version

from fedfore.cli.verbs import VERBS

EPILOG = """\
examples:
  fedfore run                                   the quick matrix, on embedded real digits, minutes
  fedfore run my.toml --set seed=[0,1,2,3,4]    your matrix, one axis replaced
  fedfore run my.toml --plugins my_methods/     with your own method files
  fedfore check my_method --plugins my_methods/ does my method keep the contract?
  fedfore show results/runs/quick --by alpha    the table of a run, an axis as columns

exit status: 0 every planned cell is ok or skipped, 1 some cell failed, 2 nothing ran.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Of what it parses, `execute` is the function that does what was asked, `kept` says what an interrupt keeps.
    """
    command_line = argparse.ArgumentParser(
        prog="fedfore",
        description="Benchmarks for federated learning on low-memory devices.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("--version", action="version", version=f"%(prog)s {version('fedfore')}")
    commands = command_line.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for name, verb in VERBS.items():
        text = verb.HELP
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(execute=verb.execute, kept="")
        verb.add_arguments(command)
    return command_line

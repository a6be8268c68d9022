"""`fedfore verdicts`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.display.output import complain
from fedfore.errors import FedForeError, printable
from fedfore.plots.cards.published import RESULTS

HELP = "print what published studies say of published claims"
EXAMPLES = ("fedfore verdicts", "fedfore verdicts --csv")
FORMATS = ("markdown", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("claims", nargs="*", metavar="NAME", help="of claims in claims.toml [all]")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where studies lie [results]")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown")


def execute(options: argparse.Namespace) -> int:
    from fedfore.judgement.archive import Archive
    from fedfore.plots.cards.claims import claims_table

    try:
        print(claims_table(Archive(options.results), options.claims, options.format), end="")
    except FedForeError as error:
        complain(f"fedfore: {printable(str(error))}")
        return 1
    return 0

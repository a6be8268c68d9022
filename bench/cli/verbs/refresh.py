"""`fedfore refresh`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the tables, figures and chosen values of published studies again, from their records"
EXAMPLES = ("fedfore refresh", "fedfore refresh quick")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", nargs="*", metavar="NAME", help="studies [all]")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="where they are [results]")


def execute(options: argparse.Namespace) -> int:
    from fedfore.execution.choice_files import refresh_choices
    from fedfore.plots.cards.pages import refresh

    for path in [*refresh(options.results, options.studies), *refresh_choices(options.results, options.studies)]:
        print(path)
    return 0

"""`fedfore publish`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "pack a run into a published study: a few files, with tables and figures for its card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME", help="of the study")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="where studies lie [results]")
    parser.add_argument("--unfinished", action="store_true", help="store what there is of a run that goes on later")


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.cards.facts import CARD
    from fedfore.plots.cards.pages import PAGE, refresh
    from fedfore.plots.cards.template import write_card
    from fedfore.records.packed import is_packed
    from fedfore.records.publishing import publish, study_folder
    from fedfore.records.store import open_run

    name, folder = options.name, study_folder(options.out, options.name)
    before = f", which had {len(open_run(folder).recorded())}" if is_packed(folder) else ""
    there, planned = publish(open_run(options.run), folder, unfinished=options.unfinished)
    print(f"{folder}: {there} of {planned} cells{before}")
    is_new = write_card(folder)
    for path in refresh(options.out, [name]):
        print(path)
    if is_new:
        print(f"Its card is new: say in {folder / PAGE} and {folder / CARD} what it asks, and what it cannot tell.")
    return 0

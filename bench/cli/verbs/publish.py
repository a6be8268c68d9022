"""`fedfore publish`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedfore.records.run import Run

HELP = "pack a run into a published study: a few files, with tables and figures for its card"
EXAMPLES = ("fedfore publish results/runs/my my-study", "fedfore publish results/runs/my my-study --unfinished")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("name", metavar="NAME", help="of the study")
    parser.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="where studies lie [results]")
    parser.add_argument("--unfinished", action="store_true", help="store what there is of a run that goes on later")


def unverifiable(run: Run) -> Iterator[str]:
    """Yield what `fedfore verify` would find of the code and the matrix of this run, which its commit must have, and of
    its tuning.

    Raises HistoryError where the history does not tell.
    """
    from fedfore.cli.verbs.verify import asked
    from fedfore.contract.registry import discover
    from fedfore.execution.id_rules import problems
    from fedfore.execution.subject import Subject
    from fedfore.execution.verification import matrix_problems
    from fedfore.records.history import checkout_of
    from fedfore.records.origins import code_problems

    subject = Subject(run, asked(run.commands()), discover(), checkout_of(Path.cwd()))
    yield from code_problems(subject.records, subject.checkout)
    yield from matrix_problems(subject)
    if run.tuning() is not None:
        found = problems(subject)
        yield from (*found.completeness, *found.choices)


def execute(options: argparse.Namespace) -> int:
    from fedfore.plots.cards.facts import CARD
    from fedfore.plots.cards.pages import PAGE, refresh
    from fedfore.plots.cards.template import write_card
    from fedfore.records.packed import is_packed
    from fedfore.records.publishing import as_it_stands, publish, study_folder
    from fedfore.records.store import open_run

    name, folder = options.name, study_folder(options.out, options.name)
    before = f", which had {len(open_run(folder).recorded())}" if is_packed(folder) else ""
    with as_it_stands(options.run) if options.unfinished else nullcontext(open_run(options.run)) as run:
        there, planned = publish(run, folder, unfinished=options.unfinished, unverifiable=unverifiable(run))
    print(f"{folder}: {there} of {planned} cells{before}")
    is_new = write_card(folder)
    for path in refresh(options.out, [name]):
        print(path)
    if is_new:
        print(f"Its card is new: say in {folder / PAGE} and {folder / CARD} what it asks, and what it cannot tell.")
    return 0

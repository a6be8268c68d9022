"""`fedfore compare`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import margin
from fedfore.display.output import complain
from fedfore.errors import ConfigError, FedForeError, printable
from fedfore.plots.cards.published import run_folders

HELP = "judge the contrasts of runs, or every series against one, over runs and models"
EXAMPLES = ("fedfore compare results/runs/quick", "fedfore compare results/runs/quick --baseline BAFFLE --by alpha")
FORMATS = ("markdown", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, or names of published studies")
    parser.add_argument("--baseline", metavar="SERIES", help="compare every series with it [the matrices' contrasts]")
    parser.add_argument("--by", metavar="AXIS", help="put a setting into columns, such as alpha or sparsity")
    parser.add_argument("--metric", metavar="M", help="what is compared [of contrasts all, else the headline]")
    parser.add_argument("--margin", type=margin, metavar="X", help="with --baseline: what is equivalent, in M's unit")
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown")


def execute(options: argparse.Namespace) -> int:
    try:
        print(_compared(options), end="")
    except FedForeError as error:
        complain(f"fedfore: {printable(str(error))}")
        return 1
    return 0


def _compared(options: argparse.Namespace) -> str:
    from fedfore.plots.tables.compared import repeated, sections
    from fedfore.plots.tables.exports import as_json, csv
    from fedfore.plots.tables.sections import as_rows, as_text
    from fedfore.records.store import open_run

    runs = [open_run(folder) for folder in run_folders(options.runs)]
    found = sections(runs, options.baseline, options.metric, options.margin)
    if options.format == "markdown":
        return as_text(found, list(repeated(runs)), options.by)
    if options.by:
        raise ConfigError("--by is for Markdown; a table for programs has a row a comparison.")
    rows = as_rows(found)
    return csv(rows) if options.format == "csv" else as_json(rows)

"""`fedfore compare`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import margin
from fedfore.cli.output import complain
from fedfore.cli.studies import run_folder
from fedfore.errors import ConfigError, FedForeError, printable

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
    from fedfore.plots.tables.compared import against, repeated, stated
    from fedfore.plots.tables.exports import as_json, csv
    from fedfore.plots.tables.sections import as_rows, as_text

    if options.margin and not options.baseline:
        raise ConfigError("Margins of contrasts were fixed with their matrix; --margin goes with --baseline.")
    paths = [run_folder(name) for name in options.runs]
    for path in paths:
        if [one.resolve() for one in paths].count(path.resolve()) > 1:
            raise ConfigError(f"{path} is named twice; name each run once.")
    if options.baseline:
        sections = [against(paths, options.baseline, options.metric, options.margin)]
    else:
        sections = stated(paths, options.metric)
    if options.format == "markdown":
        return as_text(sections, list(repeated(paths)), options.by)
    if options.by:
        raise ConfigError("--by is for Markdown; a table for programs has a row a comparison.")
    rows = as_rows(sections)
    return csv(rows) if options.format == "csv" else as_json(rows)

"""`fedfore compare`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedfore.cli.arguments import margin
from fedfore.cli.output import complain
from fedfore.cli.studies import published_studies
from fedfore.errors import ConfigError, FedForeError, printable

if TYPE_CHECKING:
    from fedfore.plots.study import Study

HELP = "compare series of one run or several, paired by seed: what their matrices ask, or all against one series"
FORMATS = ("markdown", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, or names of published studies")
    parser.add_argument("--baseline", metavar="SERIES", help="compare every other series with it [what matrices ask]")
    parser.add_argument("--by", metavar="AXIS", help="with --baseline: put an axis into columns, such as alpha")
    parser.add_argument("--metric", metavar="M", help="with --baseline: what is compared [the study's accuracy]")
    parser.add_argument(
        "--margin", type=margin, metavar="X", help="with --baseline: of equivalence, in the metric's unit [none]"
    )
    formats = parser.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="markdown")


def execute(options: argparse.Namespace) -> int:
    try:
        for line in _lines(options, _studies(options.runs)):
            print(line)
    except FedForeError as error:
        complain(f"fedfore: {printable(str(error))}")
        return 1
    return 0


def _studies(runs: list[str]) -> Mapping[str, Study]:
    from fedfore.plots.study import load_study

    known = published_studies()
    folders = {run: Path(run) if Path(run).is_dir() else known.get(run, Path(run)) for run in runs}
    names = {run: folder.resolve().name for run, folder in folders.items()}
    repeated = [name for name, count in Counter(names.values()).items() if count > 1]
    return {run if names[run] in repeated else names[run]: load_study(folder) for run, folder in folders.items()}


def _lines(options: argparse.Namespace, studies: Mapping[str, Study]) -> Iterator[str]:
    from fedfore.errors import suggestion
    from fedfore.plots.compared import EXPLORED, against, repeated, stated
    from fedfore.records.markup import markdown
    from fedfore.records.metrics import METRICS

    metric = options.metric or next(iter(studies.values())).accuracy
    if metric not in METRICS:
        raise ConfigError(f"--metric {metric}: there is no such metric.{suggestion(metric, METRICS)}")
    if options.baseline is None:
        for name in ("by", "metric", "margin"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--{name} goes with --baseline; contrasts of a matrix say theirs themselves.")
        table = stated(studies)
    else:
        table = against(studies, options.baseline, metric, options.margin, options.by)
    if options.format == "csv":
        yield table.to_csv(index=False).rstrip("\n")
        return
    if options.format == "json":
        yield table.to_json(orient="records", indent=1, force_ascii=False)
        return
    yield markdown(table)
    if options.baseline is not None:
        label = METRICS[metric].label.lower()
        yield f"Differences of {label}, {EXPLORED}: no matrix asked for them. All are one family."
    for first, second, cells in repeated(studies, metric):
        counts = Counter(one.verdict for one in cells)
        said = ", ".join(f"{counts[name]} {name}" for name in ("equal", "within", "different") if counts[name])
        yield f"{len(cells)} cells are in {first} and in {second}: {metric} is {said}."
        for one in cells:
            if one.verdict == "different":
                yield f"* {one.cell_id}: {one.first:g} and {one.second:g}"

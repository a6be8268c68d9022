"""`fedfore merge`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.errors import ConfigError

HELP = "unite runs of one matrix that several machines computed"
EXAMPLES = (
    "fedfore merge parts/1 parts/2 --out results/merged",
    "fedfore merge parts/1 parts/2 --extend --out results/merged",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, each named once")
    parser.add_argument("--out", type=Path, metavar="RUN", required=True, help="a new run directory")
    parser.add_argument("--extend", action="store_true", help="unite different plans too")


def execute(options: argparse.Namespace) -> int:
    from fedfore.records.merging import merge

    places = [run.resolve() for run in options.runs]
    twice = next((run for run, place in zip(options.runs, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is named twice; name each run once.")
    merged = merge(options.runs, options.out, extend=options.extend)
    print(f"{options.out}: {merged.recorded} of {merged.planned} cells")
    return 0

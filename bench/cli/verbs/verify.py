"""`fedfore verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.errors import ConfigError, printable, suggestion

HELP = "check published studies: ids, cells, code of the commit, matrix, tables and figures"
RESULTS = Path("results")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", nargs="*", metavar="NAME", help="of results/, or folders [all of results/]")


def execute(options: argparse.Namespace) -> int:
    from fedfore.execution.verification import verify_records
    from fedfore.records.history import checkout_of

    failed = False
    for study in studies(options.studies):
        for finding in verify_records(study, checkout_of(Path.cwd())):
            print(printable(str(finding)), flush=True)
            failed |= finding.outcome != "ok"
    return 1 if failed else 0


def studies(names: list[str]) -> list[Path]:
    """Return the folders of published studies. Raises ConfigError for a name that is of none."""
    published = {path.parent.name: path.parent for path in sorted(RESULTS.glob("*/plan.json"))}
    if not names and not published:
        raise ConfigError("There are no published studies here; run from a checkout, or name folders.")
    for name in names:
        if name not in published and not Path(name).is_dir():
            raise ConfigError(f'There is no published study "{name}".{suggestion(name, published)}')
    return [published.get(name) or Path(name) for name in names or published]

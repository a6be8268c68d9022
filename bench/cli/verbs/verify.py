"""`fedfore verify`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from fedfore.cli.arguments import add_plugins
from fedfore.cli.verbs import run
from fedfore.errors import ConfigError, FedForeError, printable
from fedfore.plots.cards.published import published_studies, published_study

if TYPE_CHECKING:
    from fedfore.execution.subject import Asked
    from fedfore.judgement.archive import Archive
    from fedfore.records.findings import Finding

HELP = "check published studies: ids, cells, choices, code, matrix, lines, tables, sentences and figures"
EXAMPLES = ("fedfore verify", "fedfore verify quick")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("studies", nargs="*", metavar="NAME", help="of results/, or folders [all of results/]")
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    folders = [published_study(name) for name in options.studies] or list(published_studies().values())
    if not folders:
        raise ConfigError("There are no published studies here; run from a checkout, or name folders.")
    failed = False
    for finding in verified(folders, options.plugins):
        print(printable(str(finding)), flush=True)
        failed |= finding.outcome != "ok"
    return 1 if failed else 0


def verified(folders: Sequence[Path], plugins: Sequence[Path] = ()) -> Iterator[Finding]:
    """Yield what checking these studies finds, their cards, the pages that show several, and what matrices take."""
    from fedfore.contract.registry import discover
    from fedfore.execution.choice_files import choice_file_problems, taken
    from fedfore.execution.subject import Subject
    from fedfore.execution.verification import verify_records
    from fedfore.judgement.archive import Archive
    from fedfore.plots.cards.figures import figure_differences
    from fedfore.plots.cards.pages import PAGE, shared_pages
    from fedfore.records.findings import Finding, findings
    from fedfore.records.history import checkout_of
    from fedfore.records.manifest import CHECKSUMS, manifest_problems
    from fedfore.records.packed import is_packed
    from fedfore.records.store import open_run

    methods, checkout = discover(plugins), checkout_of(Path.cwd())
    archives = {folder.parent: Archive(folder.parent) for folder in folders}
    for folder in folders:
        study = open_run(folder)
        try:
            if is_packed(folder) or (folder / CHECKSUMS).exists():
                yield from findings(folder.name, f"files, those of {CHECKSUMS}", manifest_problems(folder))
                yield from verify_records(Subject(study, asked(study.commands()), methods, checkout))
        except FedForeError as error:
            yield Finding("differs", folder.name, str(error))
        yield from page_findings(archives[folder.parent], folder.name, folder / PAGE, PAGE)
        yield from findings(folder.name, "figures", figure_differences(folder))
    for results, archive in archives.items():
        for page in shared_pages(results):
            yield from page_findings(archive, results.name, page, str(page))
        for file, source in taken(results):
            yield from findings(results.name, f"{file.name}, of {source}", choice_file_problems(file, source))


def page_findings(archive: Archive, name: str, page: Path, shown: str) -> Iterator[Finding]:
    """Yield what checking a page of results, `shown` by that name, finds: what is generated, and what is typed."""
    from fedfore.plots.cards.pages import lacking_tables, page_differences
    from fedfore.plots.cards.typed import typed
    from fedfore.records.findings import findings

    if page.is_file():
        differing = chain(map(str, page_differences(archive, page)), lacking_tables(archive, page))
        yield from findings(name, f"tables and values of {shown}", differing)
        yield from findings(name, f"nothing measured typed in {shown}", typed(page, archive.results))
    else:
        missing = f"{page} is not there; a published study has one, as `fedfore publish` writes it."
        yield from findings(name, str(page), [missing])


def asked(commands: Sequence[str]) -> Asked:
    """Return what the last command of a study asked for. Raises ConfigError where that is no `fedfore run`."""
    from fedfore.execution.subject import Asked

    parser = argparse.ArgumentParser(exit_on_error=False)
    run.add_arguments(parser)
    try:
        program, verb, *arguments = shlex.split(commands[-1])
        options, unknown = parser.parse_known_args(arguments)
    except (argparse.ArgumentError, IndexError, ValueError):
        program, verb, unknown = "", "", []
    if (program, verb) != ("fedfore", "run") or unknown:
        raise ConfigError(f"commands.json: what made the study is no `fedfore run`: {' '.join(commands[-1:])}.")
    return Asked(options.matrix, tuple(options.overrides), options.extend)

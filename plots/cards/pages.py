"""The pages whose tables are generated: the cards of published studies, their index, and README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive
from fedfore.judgement.claims import CLAIMS
from fedfore.judgement.judging import contrasts_of
from fedfore.plots.cards.choices import choices_table
from fedfore.plots.cards.claims import claims_table
from fedfore.plots.cards.facts import CARD, facts, index, studies
from fedfore.plots.cards.figures import refresh_figures
from fedfore.plots.cards.markers import Difference, Generator, differences, marked, regenerated
from fedfore.plots.cards.specification import read_card
from fedfore.plots.cards.tables import card_table, card_value
from fedfore.plots.cards.verdicts import verdicts_table
from fedfore.plots.tables.show import render
from fedfore.records.packed import MATRIX
from fedfore.records.store import write_atomically

PAGE = "README.md"
FACTS, SUMMARY, VERDICTS, CHOICES = "facts", "summary", "verdicts", "choices"
"""The tables of a study that need no specification."""
INDEX, FINDINGS = "studies", "claims"
"""The tables of all studies, and of published claims."""


def pages(results: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the pages with generated tables: cards (of these studies, else all), the index, and README above.

    Raises ConfigError where a named study has no card.
    """
    known = studies(results)
    for name in names:
        if name not in known:
            raise ConfigError(f'There is no study "{name}" with a card in {results}.{suggestion(name, known)}')
    return [results / name / PAGE for name in names or known] + shared_pages(results)


def shared_pages(results: Path) -> list[Path]:
    """Return the pages that show several studies: the index, and README above where there are published claims."""
    shared = [results / PAGE, *([results.parent / PAGE] if (results / CLAIMS).exists() else [])]
    return [page for page in shared if page.exists()]


def page_differences(archive: Archive, page: Path) -> Iterator[Difference]:
    """Yield where a page is not what the records give. Raises ConfigError where that cannot be said."""
    return differences(page, page.read_text(encoding="utf-8"), *_generators(archive, page))


def lacking_tables(archive: Archive, page: Path) -> Iterator[str]:
    """Yield a sentence on each table that a study's card has to show and does not: its facts, and verdicts if asked.

    Verdicts have to be shown where the study's matrix states contrasts and its cells are known.
    """
    folder = page.parent
    if not (folder / CARD).is_file():
        return
    has_contrasts = (folder / MATRIX).is_file() and bool(contrasts_of(archive.run(folder.name)))
    is_planned = has_contrasts and archive.table(folder.name)["stage"].eq("report").any()
    text = page.read_text(encoding="utf-8")
    for name in (FACTS, *([VERDICTS] if is_planned else [])):
        first, *_, last = marked(name, "").splitlines()
        if first not in text:
            yield f'{page} lacks its table "{name}"; put `{first}` and `{last}` on lines of their own.'


def refresh_page(archive: Archive, page: Path) -> bool:
    """Write a page's tables again; return whether it changed. Raises ConfigError where a table cannot be made."""
    before = page.read_text(encoding="utf-8")
    after = regenerated(page, before, *_generators(archive, page))
    if after != before:
        write_atomically(page, after)
    return after != before


def refresh(results: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the pages and figures of these studies, else of all, again where they changed; return those files.

    Raises ConfigError where something cannot be made.
    """
    archive = Archive(results)
    written = [page for page in pages(results, names) if refresh_page(archive, page)]
    return written + [path for name in names or studies(results) for path in refresh_figures(results / name)]


def _generators(archive: Archive, page: Path) -> tuple[Generator, Generator]:
    return partial(_table, archive, page.parent), partial(_value, archive, page.parent)


def _table(archive: Archive, folder: Path, name: str) -> str:
    if name == INDEX:
        return index(archive)
    if name == FINDINGS:
        return claims_table(archive)
    if name == FACTS:
        return facts(archive, folder.name)
    if name == SUMMARY:
        return str(render(folder, "markdown"))
    if name == VERDICTS:
        return verdicts_table(archive, folder.name)
    if name == CHOICES:
        return choices_table(archive, folder.name)
    return card_table(archive, folder.name, read_card(folder / CARD), name)


def _value(archive: Archive, folder: Path, name: str) -> str:
    """Return a value by its name, "NAME" of the page's own card or "STUDY/NAME" of that study's."""
    study, _, own = name.rpartition("/")
    return card_value(archive, study or folder.name, read_card(archive.results / (study or folder.name) / CARD), own)

"""The reference pages: Markdown files beside this module, whose generated tables stand between markers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedfore.docs.tables import TABLES
from fedfore.errors import ConfigError, suggestion
from fedfore.plots.cards.markers import Difference, differences, regenerated
from fedfore.records.files import write_atomically


def pages() -> list[Path]:
    """Return the reference pages."""
    return sorted(Path(__file__).parent.glob("*.md"))


def refresh() -> None:
    """Write the tables of every page again. Raises ConfigError for a marker of no table."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = regenerated(page, before, _table)
        if after != before:
            write_atomically(page, after)


def outdated() -> Iterator[Difference]:
    """Yield the lines of the pages that are not what the code says."""
    for page in pages():
        yield from differences(page, page.read_text(encoding="utf-8"), _table)


def _table(name: str) -> str:
    if name not in TABLES:
        raise ConfigError(f'There is no table "{name}" for a reference page.{suggestion(name, TABLES)}')
    return TABLES[name]()

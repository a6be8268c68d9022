"""What a card specifies, as Markdown: its tables, which are grids of quantities, and the values of its sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive
from fedfore.judgement.quantities import Filters
from fedfore.plots.cards.specification import Card, Entry, Table, united
from fedfore.plots.cards.texts import text
from fedfore.records.markup import markdown

_LEADING_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")


def card_table(archive: Archive, study: str, card: Card, name: str) -> str:
    """Return a table of a study's card. Raises ConfigError where the card has none of the name or it cannot be made."""
    found = next((table for table in card.table if table.name == name), None)
    if found is None:
        known = ", ".join(table.name for table in card.table)
        raise ConfigError(f'{study}: its card specifies no table "{name}"; it has {known or "none"}.')
    titles = [title for head in found.heads for title in head.titles] + [column.title for column in found.columns]
    rows = [
        _row(archive, study, card.series, found, row) for row in itertools.product(*(h.entries for h in found.heads))
    ]
    return markdown(pd.DataFrame(rows, columns=titles))


def card_value(archive: Archive, study: str, card: Card, name: str) -> str:
    """Return a value of a study's card. Raises ConfigError where the card has none of the name or it cannot be made."""
    if name not in card.values:
        known = suggestion(name, card.values) or f" It has {', '.join(card.values) or 'none'}."
        raise ConfigError(f'{study}: its card specifies no value "{name}".{known}')
    try:
        return text(archive, study, united((card.values[name],), card.series))
    except ConfigError as error:
        raise ConfigError(f'{study}, value "{name}": {str(error).rstrip(".")}.') from None


def _row(
    archive: Archive, study: str, series: Mapping[str, Filters], table: Table, entries: Sequence[Entry]
) -> list[str]:
    said = {title: words for entry in entries for title, words in entry.say.items()}
    texts = []
    for column in table.columns:
        if column.title in said:
            texts.append(said[column.title])
            continue
        try:
            texts.append(text(archive, study, united((table, *entries, column), series)))
        except ConfigError as error:
            row = " / ".join(words for entry in entries for words in entry.texts)
            place = f'{study}, table "{table.name}", row "{row}", column "{column.title}"'
            raise ConfigError(f"{place}: {str(error).rstrip('.')}.") from None
    if table.best:
        texts = _best_in_bold(texts)
    return [words for entry in entries for words in entry.texts] + texts


def _best_in_bold(texts: Sequence[str]) -> list[str]:
    numbers = [_LEADING_NUMBER.match(words) for words in texts]
    values = [float(found.group().replace(",", "")) if found else float("-inf") for found in numbers]
    return [f"**{words}**" if value == max(values) else words for words, value in zip(texts, values, strict=True)]

"""What a card specifies, as Markdown: its tables, which are grids of quantities, and the values of its sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive, Sample
from fedfore.judgement.estimates import Difference
from fedfore.judgement.judging import contrasts_of
from fedfore.judgement.quantities import Filters, Quantity, no_effect, sample
from fedfore.judgement.verdicts import ERROR, holm
from fedfore.plots.cards.specification import Card, Column, Entry, Table, united
from fedfore.plots.cards.texts import is_skewed, sample_text, text
from fedfore.records.markup import markdown

_LEADING_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*")


def card_table(archive: Archive, study: str, card: Card, name: str) -> str:
    """Return a table of a study's card. Raises ConfigError where the card has none of the name or it cannot be made."""
    found = next((table for table in card.table if table.name == name), None)
    if found is None:
        known = ", ".join(table.name for table in card.table)
        raise ConfigError(f'{study}: its card specifies no table "{name}"; it has {known or "none"}.')
    titles = [title for head in found.heads for title in head.titles] + [column.title for column in found.columns]
    rows = _rows(archive, study, card, found)
    note = ""
    if found.corrected:
        others = [table for table in card.table if table.corrected and table is not found]
        p_values = [p for table in others for p in _p_values(_rows(archive, study, card, table))]
        rows, note = _corrected(rows, p_values)
        note += "" if contrasts_of(archive.run(study)) else " No contrast was fixed before these cells ran."
    texts = [
        [words for entry in entries for words in entry.texts] + _texts(row, best=found.best)
        for entries, row in zip(_heads(found), rows, strict=True)
    ]
    return markdown(pd.DataFrame(texts, columns=titles)) + (f"\n{note}\n" if note else "")


@dataclass(frozen=True)
class _Cell:
    """The text of a cell, and, where it is a difference over seeds, that difference."""

    text: str
    difference: Difference | None = None


_Rows = Sequence[Sequence[_Cell]]


def _p_values(rows: _Rows) -> list[float]:
    return [cell.difference.p for row in rows for cell in row if cell.difference]


def _corrected(rows: _Rows, others: Sequence[float]) -> tuple[_Rows, str]:
    """Return the rows with the differences marked that Holm's correction leaves, and a sentence of how many those are.

    `others` are the p values of the study's other corrected tables. Raises ConfigError where there is no difference.
    """
    own = _p_values(rows)
    if not own:
        raise ConfigError("a corrected table needs differences: signed intervals over seeds")
    left = [step.rejected for step in holm([*own, *others])][: len(own)]
    in_turn = iter(left)
    marked = [
        [replace(cell, text=f"{cell.text} \\*") if cell.difference and next(in_turn) else cell for cell in row]
        for row in rows
    ]
    alone = sum(p < ERROR for p in own)
    among = f"all {len(own) + len(others)} of this page" if others else "them"
    mark = " (marked \\*)" if any(left) else ""
    return marked, (
        f"Of these {len(own)} intervals {alone} exclude 0 each for itself, and {sum(left)} after Holm's correction "
        f"among {among}{mark}."
    )


def card_value(archive: Archive, study: str, card: Card, name: str) -> str:
    """Return a value of a study's card. Raises ConfigError where the card has none of the name or it cannot be made."""
    if name not in card.values:
        known = suggestion(name, card.values) or f" It has {', '.join(card.values) or 'none'}."
        raise ConfigError(f'{study}: its card specifies no value "{name}".{known}')
    try:
        return text(archive, study, united((card.values[name],), card.series))
    except ConfigError as error:
        raise ConfigError(f'{study}, value "{name}": {str(error).rstrip(".")}.') from None


def _heads(table: Table) -> list[tuple[Entry, ...]]:
    return list(itertools.product(*(head.entries for head in table.heads)))


def _rows(archive: Archive, study: str, card: Card, table: Table) -> _Rows:
    columns = [_column(archive, study, card.series, table, column) for column in table.columns]
    return list(zip(*columns, strict=True))


def _column(archive: Archive, study: str, series: Mapping[str, Filters], table: Table, column: Column) -> list[_Cell]:
    """Return the cells of a column, all intervals in one form."""
    found = [_taken(archive, study, series, table, entries, column) for entries in _heads(table)]
    both_ends = any(is_skewed(*one) for one in found if not isinstance(one, str))
    return [_Cell(one) if isinstance(one, str) else _cell(*one, both_ends=both_ends) for one in found]


def _taken(
    archive: Archive,
    study: str,
    series: Mapping[str, Filters],
    table: Table,
    entries: Sequence[Entry],
    column: Column,
) -> tuple[Sample, Quantity] | str:
    """Return the sample of a cell and what it is of, or the words that its row says instead."""
    said = {title: words for entry in entries for title, words in entry.say.items()}
    if column.title in said:
        return said[column.title]
    try:
        quantity = united((table, *entries, column), series)
        return sample(archive, study, quantity), quantity
    except ConfigError as error:
        row = " / ".join(words for entry in entries for words in entry.texts)
        place = f'{study}, table "{table.name}", row "{row}", column "{column.title}"'
        raise ConfigError(f"{place}: {str(error).rstrip('.')}.") from None


def _cell(found: Sample, quantity: Quantity, *, both_ends: bool) -> _Cell:
    over_seeds = quantity.sign and quantity.statistic == "interval" and len(found.values) > 1
    text = sample_text(found, quantity, both_ends=both_ends)
    return _Cell(text, no_effect(found.values) if over_seeds else None)


def _texts(cells: Sequence[_Cell], *, best: bool) -> list[str]:
    """Return the texts of a row, its largest number in bold where asked."""
    texts = [cell.text for cell in cells]
    if not best:
        return texts
    numbers = [_LEADING_NUMBER.match(words) for words in texts]
    values = [float(found.group().replace(",", "")) if found else float("-inf") for found in numbers]
    return [f"**{words}**" if value == max(values) else words for words, value in zip(texts, values, strict=True)]

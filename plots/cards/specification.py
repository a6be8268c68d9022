"""What a card's tables say, as data: `card.toml`, checked against the classes here.

A table is a grid of quantities: each cell unites what the table, its row's entries and its column say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from fedfore.errors import ConfigError
from fedfore.judgement.documents import Document, read_document
from fedfore.judgement.quantities import Filters, Quantity

_UNITED = ("where", "of", "against", "values")


class Column(Quantity):
    """A column of a table; without a metric its texts come from the rows."""

    title: str


class Entry(Quantity):
    """A row, or what a value of one of several crossed heads adds to its rows.

    `text` fills the head's columns, `say` replaces the content of the columns of these titles.
    """

    text: str | tuple[str, ...]
    say: Mapping[str, str] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the head's columns."""
        return (self.text,) if isinstance(self.text, str) else self.text


class Head(Document):
    """The leading columns of a table and their values; the entries of several heads are crossed."""

    title: str | tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles of the head's columns."""
        return (self.title,) if isinstance(self.title, str) else self.title

    @model_validator(mode="after")
    def _fits(self) -> Head:
        if any(len(entry.texts) != len(self.titles) for entry in self.entries):
            raise ValueError(f"every entry under {', '.join(self.titles)} needs {len(self.titles)} texts")
        return self


class Table(Quantity):
    """A table of a card. `best` sets the largest number of each row in bold.

    `corrected` marks which of its differences, the signed intervals, exclude 0 after Holm's correction among those of
    all corrected tables of the card, and says how many do.
    """

    name: str
    heads: tuple[Head, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    best: bool = False
    corrected: bool = False


class Card(Document):
    """What a card says beside its prose: the question, the command, named series, tables, and values of sentences.

    `superseded_by` names the study that asks again and has, or will have, the say, `superseded_because` why, as the end
    of a sentence.
    """

    question: str
    command: str = ""
    superseded_by: str = ""
    superseded_because: str = ""
    series: Mapping[str, Filters] = {}
    table: tuple[Table, ...] = ()
    values: Mapping[str, Quantity] = {}

    @model_validator(mode="after")
    def _is_superseded_for_a_reason(self) -> Self:
        if bool(self.superseded_by) != bool(self.superseded_because):
            raise ValueError("give superseded_by with superseded_because, the reason, and only with it")
        return self


def read_card(path: Path) -> Card:
    """Return the specification of a card. Raises ConfigError where it cannot be read or used."""
    return read_document(path, Card)


def united(parts: Iterable[Quantity], series: Mapping[str, Filters]) -> Quantity:
    """Return the quantity that all the parts together specify; what a later one says goes before.

    Raises ConfigError where a part names a series that the card has not.
    """

    def unite(known: dict[str, Any], part: Quantity) -> dict[str, Any]:
        own = {name: getattr(part, name) for name in part.model_fields_set & Quantity.model_fields.keys()}
        if "values" in own:
            own["values"] = {name: united((value,), series) for name, value in own["values"].items()}
        for name in _UNITED:
            if name in own:
                own[name] = {**known.get(name, {}), **_filters(own[name], series)}
        return {**known, **own}

    nothing: dict[str, Any] = {}
    return Quantity.model_validate(reduce(unite, parts, nothing))


def _filters(given: Mapping[str, Any] | str, series: Mapping[str, Filters]) -> Mapping[str, Any]:
    if not isinstance(given, str):
        return given
    if given not in series:
        raise ConfigError(f'there is no series "{given}"; the card has {", ".join(series) or "none"}')
    return series[given]

"""What a card's tables say, as data: `card.toml` and `claims.toml`, checked against the classes here.

A `Quantity` is a number of records: which rows (`where`, `of`, `against`), which `metric` of them, and what becomes of
its values. A table is a grid of quantities: each cell unites what the table, its row's entries and its column say.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedfore.errors import ConfigError

Filters = Mapping[str, Any]
Reduction = Literal["mean", "geometric_mean", "min", "max", "sum", "first", "last"]
_UNITED = ("where", "of", "against", "values")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantity(_Strict):
    """A number that follows from records.

    `where` holds for both sides and for `values`, `of` for the one side, `against` for the other. Filters name an axis
    (method, dataset, model, sparsity, alpha, seed, estimator), a parameter of the method, a key of `train`, a field of
    the record or of the line, or `study`; a list means any of its values, "none" also null. `of` and `against` may be
    the name of a series of the card. `metric` is a field or an expression of fields and of `values`, which are
    quantities themselves.

    Rows are cells, or lines of the cells' file `lines`. Rows that agree in `by` are reduced by `within`, and without it
    may not be several. The sides are compared where they agree in `by`. Then what agrees in `per` is reduced by `each`,
    and the `statistic` is taken over the rest.
    """

    where: Filters = {}
    of: Filters | str = {}
    against: Filters | str = {}
    metric: str = ""
    lines: Literal["rounds", "diagnostics", "layers", "adjustments"] | None = None
    by: tuple[str, ...] = ("seed",)
    within: Reduction | None = None
    compare: Literal["difference", "ratio", "change"] = "difference"
    per: tuple[str, ...] = ()
    each: Reduction = "mean"
    statistic: Literal[
        "interval", "mean", "geometric_mean", "min", "max", "sum", "range", "count", "list", "value", "zero_inside"
    ] = "interval"
    values: Mapping[str, Quantity] = {}
    scale: float | Literal["MiB", "KiB"] = 1.0
    decimals: int | None = None
    significant: int | None = None
    sign: bool = False
    unit: str = ""
    optional: bool = False


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


class Head(_Strict):
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
    """A table of a card. `best` sets the largest number of each row in bold."""

    name: str
    heads: tuple[Head, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    best: bool = False


class Card(_Strict):
    """What a card says beside its prose: the question, the command, named series and tables."""

    question: str
    command: str = ""
    series: Mapping[str, Filters] = {}
    table: tuple[Table, ...] = ()


class Claim(_Strict):
    """A published claim, and what was found here: a sentence whose numbers are `values`, `{name}` in the text."""

    claim: str
    source: str
    studies: tuple[str, ...] = Field(min_length=1)
    here: str
    values: Mapping[str, Quantity] = {}


class Claims(_Strict):
    """The published claims that README reports on."""

    claim: tuple[Claim, ...]


Document = TypeVar("Document", bound=_Strict)


def read_card(path: Path) -> Card:
    """Return the specification of a card. Raises ConfigError where it cannot be read or used."""
    return _read(path, Card)


def read_claims(path: Path) -> Claims:
    """Return the published claims. Raises ConfigError where they cannot be read or used."""
    return _read(path, Claims)


def _read(path: Path, kind: type[Document]) -> Document:
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); every published study has one.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path} cannot be used: {place or 'it'}: {first['msg']}.") from None


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

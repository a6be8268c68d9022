"""How the clients of a federation differ, as `alpha` says it: one text or number, in one canonical form. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from fedfore.errors import ConfigError, suggestion

IID, NATURAL, SHARDS, QUANTITY, FILE = "iid", "natural", "shards:", "quantity:", "file:"
FORMS = (IID, "shards:S", "quantity:Q", NATURAL, "file:PATH")
MOST_DIGITS = 18
"""Digits of a number of shards, which nobody deals more of than there are examples."""
HASH_DIGITS = 12
"""Hexadecimal digits of the hash of a partition file that stand behind its name."""
_PINNED = re.compile(rf"[A-Za-z0-9._-]+@[0-9a-f]{{{HASH_DIGITS}}}")


@dataclass(frozen=True)
class Heterogeneity:
    """What `alpha` asks for; without any of these, iid.

    labels: Dirichlet's concentration of each class over the clients. sizes: that of the clients' sizes. shards: shards
    of sorted labels a client. is_natural: clients are owners of the data set. file: a partition file, by name and
    content, `NAME@HASH`.
    """

    labels: float | None = None
    sizes: float | None = None
    shards: int | None = None
    is_natural: bool = False
    file: str | None = None

    @property
    def has_owners(self) -> bool:
        """Whether the data, or a file, say whose each example is, and nothing is drawn of labels and sizes."""
        return self.is_natural or self.file is not None


def parse_alpha(value: Any) -> str | float:
    """Return the canonical form of a heterogeneity setting: "iid", a positive float, "shards:S" with S >= 1,
    "quantity:Q" with a positive Q, "A,quantity:Q" for both skews, "natural" or "file:NAME@HASH".

    Numbers may be written as text ("0.1"). Raises ConfigError for everything else.
    """
    asked = heterogeneity(value)
    if asked.has_owners:
        return NATURAL if asked.is_natural else f"{FILE}{asked.file}"
    if asked.shards is not None:
        return f"{SHARDS}{asked.shards}"
    if asked.sizes is None:
        return IID if asked.labels is None else asked.labels
    sizes = f"{QUANTITY}{_plain(asked.sizes)}"
    return sizes if asked.labels is None else f"{_plain(asked.labels)},{sizes}"


def heterogeneity(value: Any) -> Heterogeneity:
    """Return what an `alpha` asks for. Raises ConfigError, as `parse_alpha` does."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _refused(value)
    if not isinstance(value, str):
        return Heterogeneity(labels=_concentration(value, value))
    text = value.strip()
    if text.startswith(FILE):
        return Heterogeneity(file=_pinned(text))
    text = text.lower()
    labels, comma, sizes = (part.strip() for part in text.rpartition(","))
    if sizes.startswith(QUANTITY):
        concentration = None if labels == IID or not comma else _concentration(labels, value)
        return Heterogeneity(concentration, _concentration(sizes.removeprefix(QUANTITY), value))
    if text in (IID, NATURAL):
        return Heterogeneity(is_natural=text == NATURAL)
    shards = text.removeprefix(SHARDS)
    if text.startswith(SHARDS) and shards.isdecimal() and len(shards) <= MOST_DIGITS and int(shards) > 0:
        return Heterogeneity(shards=int(shards))
    return Heterogeneity(labels=_concentration(text, value))


def _concentration(text: str | float, value: Any) -> float:
    try:
        number = float(text)
    except (ValueError, OverflowError):
        raise _refused(value) from None
    if not (math.isfinite(number) and number > 0):
        raise _refused(value)
    return number


def is_pinned(name: str) -> bool:
    """Return whether what stands behind "file:" is a name and a hash, `NAME@HASH`, and no path."""
    return _PINNED.fullmatch(name) is not None


def _pinned(text: str) -> str:
    name = text.removeprefix(FILE)
    if not is_pinned(name):
        raise ConfigError(
            f"alpha = {text!r} is no partition by name and content: name its file in a matrix file, which is read "
            "with it."
        )
    return name


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def _refused(value: Any) -> ConfigError:
    kind = str(value).strip().lower()
    near = "" if kind.startswith((SHARDS, QUANTITY)) or "," in kind else suggestion(str(value), FORMS)
    return ConfigError(
        f'alpha = {value!r} cannot be used: give "iid", a positive number, "shards:S", "quantity:Q", '
        f'"A,quantity:Q", "natural" or "file:PATH".{near if "Did you mean" in near else ""}'
    )

"""What may not be typed in pages of results: measured numbers and verdicts.

A number counts as measured where it has a decimal point or an exponent, a sign of spread (±) before it, or behind it %
or "percent", x, "times" or "fold" (a factor), "points", or a unit of bytes, time or work; so do factors and percentages
in words, as "three times". Such a number stands between markers, where it is generated (see `markers`), or it is a
setting: one of the matrix of the page's study (of any study, on a page of all), of the command that its card names, or
one of the published claims. A percentage or points may be a setting's fraction; a factor is no setting.
The words of verdicts stand between markers alone.

No measurement is what stands in code, in a link's target, in a comment, in an arXiv id, in a version, or behind a
letter and a hyphen, as in names of models.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedfore.errors import ConfigError
from fedfore.judgement.claims import CLAIMS
from fedfore.plots.cards.facts import CARD, studies
from fedfore.plots.cards.markers import written_by_hand
from fedfore.plots.cards.specification import read_card
from fedfore.records.packed import MATRIX

VERDICT_WORDS = (
    "equivalent", "inconclusive", "better", "worse", "supported", "level with", "too few seeds", "not tested",
    "outperforms", "outperform", "outperformed", "superior", "inferior", "significant", "significantly", "on par",
    "beats", "more accurate", "less accurate",
)  # fmt: skip
"""What verdicts say, and what was said in their place; "not supported" is found by its second word."""
_PERCENT = r"%|per\s?cent\b|points?\b|pp\b"
_FACTOR = r"x|\u00d7|times|-?fold"
_UNITS = (
    rf"{_PERCENT}|times\b|-?fold\b|[kKMGT]?i?B\b|bytes?\b|[mµn]?s\b|seconds?\b|min\b|minutes?\b|h\b|hours?\b|days?\b|"
    r"[kMGTP]?FLOPs?\b|[kMGTP]?MACs?\b"
)
_DIGITS = r"(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBER = re.compile(
    rf"(?P<spread>±\s*)?(?<![\w.])(?<![A-Za-z]-)(?P<number>{_DIGITS})(?![\w.]*\d)(?P<unit>\s?(?:{_UNITS})|x\b|\s?\u00d7)?"
)
_SPELT = "two three four five six seven eight nine ten eleven twelve twenty fifty hundred".replace(" ", "|")
_NUMBER_WORD = re.compile(rf"\b(?:(?:{_SPELT})(?:\s(?:{_PERCENT}|times\b)|-?fold\b))", re.IGNORECASE)
_WORD = re.compile(rf"(?<![A-Za-z])({'|'.join(VERDICT_WORDS)})(?![A-Za-z])".replace(" ", r"\s+"), re.IGNORECASE)
_NO_MEASUREMENT = re.compile(
    r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*\s*$"  # a block of code
    r"|(`+)(?!`).*?(?<!`)\2(?!`)"  # code in a line
    r"|<!--.*?-->"
    r"|\]\([^)\s]*|^\[[^\]]+\]:\s*\S+|<?https?://\S+"  # targets of links, not their titles
    r"|\b\d{4}\.\d{4,5}\b"  # arXiv ids
    r"|\bv?\d+\.\d+\.\d+\b|\bPython \d+\.\d+",  # versions
    re.DOTALL | re.MULTILINE,
)


def typed(page: Path, results: Path) -> Iterator[str]:
    """Yield a sentence on each measured number and each word of a verdict that a page has outside of its markers.

    `results` is the folder of studies. Raises ConfigError where markers are odd, or settings cannot be read.
    """
    text = written_by_hand(page, page.read_text(encoding="utf-8"))
    text = _NO_MEASUREMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    settings, claimed = _settings(page, results), set(_numbers(_document(results / CLAIMS)))
    found: list[tuple[int, str]] = []
    for number in _NUMBER.finditer(text):
        if _is_measured(number) and not _is_known(number, settings, claimed):
            said = " ".join(number[0].split())
            found.append((number.start(), f'"{said}" is typed; insert it as a value of the card, or leave it out.'))
    for word in _NUMBER_WORD.finditer(text):
        said = " ".join(word[0].split())
        found.append((word.start(), f'"{said}" is typed; insert it as a value of the card, or leave it out.'))
    for word in _WORD.finditer(text):
        said = " ".join(word[0].split())
        found.append((word.start(), f'"{said}" is a verdict, and typed; show a table of verdicts, or leave it out.'))
    for place, sentence in sorted(found):
        yield f"{page}:{text.count(chr(10), 0, place) + 1}: {sentence}"


def _is_measured(number: re.Match[str]) -> bool:
    return bool(number["spread"] or number["unit"] or re.search(r"[.eE]", number["number"]))


def _is_known(number: re.Match[str], settings: set[float], claimed: set[float]) -> bool:
    """Return whether a number is a setting or claimed: no factor is a setting, a percentage only by its fraction."""
    value, unit = float(number["number"].replace(",", "")), (number["unit"] or "").strip()
    if value in claimed:
        return True
    if re.fullmatch(_PERCENT, unit):
        return round(value / 100, 12) in settings
    return value in settings and not re.fullmatch(_FACTOR, unit)


def _settings(page: Path, results: Path) -> set[float]:
    """Return the numbers of the studies of a page: of its own, else of all."""
    own = [page.parent.name] if (page.parent / CARD).is_file() else studies(results)
    found: set[float] = set()
    for study in own:
        found.update(_numbers(_document(results / study / MATRIX)))
        found.update(_numbers(read_card(results / study / CARD).command))
    return found


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from None


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers in a document, those in its texts too."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, str):
        for number in re.findall(rf"(?<![\w.]){_DIGITS}", value):
            yield float(number.replace(",", ""))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)

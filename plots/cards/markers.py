"""What is generated in Markdown files: where it stands, its text again, and where it differs.

A table stands between two lines, a value inside of a line, which it may not begin (Markdown would read the rest of such
a line as HTML):

    <!-- table: NAME -->
    what stands here is generated
    <!-- end of table -->

    It needs <!-- value: NAME -->2.5 MiB<!-- end --> more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from fedfore.errors import ConfigError

_OPENING = re.compile(r"<!-- table: (\S+) -->")
_CLOSING = "<!-- end of table -->"
_VALUE = re.compile(r"(<!-- value: (\S+) -->)(.*?)(<!-- end -->)")
_BEGUN = re.compile(r"<!-- value:|<!-- end -->")
_BEFORE_CONTENT = re.compile(r"[\s>*+-]*(\d+\.\s+)?")


Generator = Callable[[str], str]
"""What returns the Markdown of a table, or the text of a value, by name, and raises ConfigError where it cannot."""


@dataclass(frozen=True)
class Difference:
    """A line of a file that is not as generated; either may be missing. Lines count from 1."""

    file: Path
    line: int
    old: str | None
    new: str | None

    def __str__(self) -> str:
        shown = [repr(text) if text is not None else "nothing" for text in (self.old, self.new)]
        return f"{self.file}:{self.line}: {shown[0]} stands there, the records give {shown[1]}."


def marked(names: str, text: str) -> str:
    """Return a table between its markers."""
    return f"<!-- table: {names} -->\n{text.rstrip()}\n{_CLOSING}"


def no_value(name: str) -> str:
    """Raise ConfigError: a page that shows no records has no values."""
    raise ConfigError(f'There is no value "{name}" here; values are those of studies.')


def regenerated(file: Path, text: str, table: Generator, value: Generator = no_value) -> str:
    """Return the text of a file with all of its tables and values generated. Raises ConfigError for odd markers."""
    lines = text.splitlines()
    made: list[str] = []
    place = 0
    for start, end, name in _tables(file, lines):
        made += [_with_values(file, k, lines[k], value) for k in range(place, start)]
        made += [lines[start], *table(name).rstrip().splitlines(), _CLOSING]
        place = end + 1
    made += [_with_values(file, k, lines[k], value) for k in range(place, len(lines))]
    return "\n".join(made) + "\n"


def written_by_hand(file: Path, text: str) -> str:
    """Return the text of a file with blanks for all that is generated, its lines kept. Raises ConfigError as above."""
    lines = text.splitlines()
    for start, end, _ in _tables(file, lines):
        lines[start : end + 1] = [""] * (end + 1 - start)
    return "\n".join(_VALUE.sub(lambda found: " " * len(found[0]), line) for line in lines)


def _tables(file: Path, lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the places of both markers of each table, and its name."""
    place = 0
    while place < len(lines):
        opening = _OPENING.fullmatch(lines[place].strip())
        if opening:
            closing = next((k for k in range(place + 1, len(lines)) if lines[k].strip() == _CLOSING), None)
            if closing is None or any(_OPENING.fullmatch(line.strip()) for line in lines[place + 1 : closing]):
                raise ConfigError(f'{file}:{place + 1}: the table "{opening[1]}" has no "{_CLOSING}".')
            yield place, closing, opening[1]
            place = closing
        place += 1


def _with_values(file: Path, place: int, line: str, value: Generator) -> str:
    for found in _VALUE.finditer(line):
        if _BEFORE_CONTENT.fullmatch(line[: found.start()]):
            raise ConfigError(
                f'{file}:{place + 1}: the value "{found[2]}" begins its line, which Markdown reads as HTML; put a word '
                "before it."
            )
    if _BEGUN.search(_VALUE.sub("", line)):
        raise ConfigError(f'{file}:{place + 1}: a value is "<!-- value: NAME -->...<!-- end -->", all in one line.')
    return _VALUE.sub(lambda found: f"{found[1]}{value(found[2])}{found[4]}", line)


def differences(file: Path, text: str, table: Generator, value: Generator = no_value) -> Iterator[Difference]:
    """Yield where the text of a file is not what its records give."""
    old, new = text.splitlines(), regenerated(file, text, table, value).splitlines()
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            for step in range(max(end - start, new_end - new_start)):
                yield Difference(
                    file,
                    start + step + 1,
                    old[start + step] if start + step < end else None,
                    new[new_start + step] if new_start + step < new_end else None,
                )

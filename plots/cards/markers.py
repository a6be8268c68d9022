"""Tables between markers in Markdown files: where they stand, their text again, and where it differs.

<!-- table: NAME -->
what stands here is generated
<!-- end of table -->
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
Generator = Callable[[str], str]
"""What returns the Markdown of the table of a name, and raises ConfigError where it cannot."""


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


def regenerated(file: Path, text: str, generate: Generator) -> str:
    """Return the text of a file with all of its tables generated. Raises ConfigError for odd markers."""
    lines = text.splitlines()
    made: list[str] = []
    place = 0
    while place < len(lines):
        opening = _OPENING.fullmatch(lines[place].strip())
        made.append(lines[place])
        place += 1
        if opening:
            closing = next((k for k in range(place, len(lines)) if lines[k].strip() == _CLOSING), None)
            if closing is None or any(_OPENING.fullmatch(line.strip()) for line in lines[place:closing]):
                raise ConfigError(f'{file}:{place}: the table "{opening[1]}" has no "{_CLOSING}".')
            made += [*generate(opening[1]).rstrip().splitlines(), _CLOSING]
            place = closing + 1
    return "\n".join(made) + "\n"


def differences(file: Path, text: str, generate: Generator) -> Iterator[Difference]:
    """Yield where the text of a file is not what its records give."""
    old, new = text.splitlines(), regenerated(file, text, generate).splitlines()
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            for step in range(max(end - start, new_end - new_start)):
                yield Difference(
                    file,
                    start + step + 1,
                    old[start + step] if start + step < end else None,
                    new[new_start + step] if new_start + step < new_end else None,
                )

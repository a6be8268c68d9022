"""The checks of a published study's records, one after another.

What is drawn and printed of them is checked in `fedfore.plots`; `fedfore verify` does both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Any

from fedfore.errors import HistoryError
from fedfore.execution.choice_files import inlined
from fedfore.execution.data_names import without_hashes
from fedfore.execution.id_rules import problems
from fedfore.execution.partition_names import committed, pinned
from fedfore.execution.subject import Subject
from fedfore.records.agreement import environment_problems, line_problems, relation_problems
from fedfore.records.findings import Finding, findings
from fedfore.records.history import file_at
from fedfore.records.origins import code_checked, code_problems
from fedfore.records.packed import MATRIX

SHIPPED_MATRIX = "bench/matrices/{}.toml"
"""Where a named matrix stands in the tree of a commit."""


def verify_records(subject: Subject) -> Iterator[Finding]:
    """Yield what each check of a study's records finds. Raises StoreError for a study that cannot be read."""
    run, records, planned = subject.run, subject.records, len(subject.run.plan())
    by_rules = cache(partial(problems, subject))

    def ids() -> Iterator[str]:
        yield from by_rules().ids

    def completeness() -> Iterator[str]:
        yield from by_rules().completeness

    def choices() -> Iterator[str]:
        yield from by_rules().choices

    cells = f"{len(records)} of {planned} cells: unfinished" if run.is_unfinished() else f"{planned} cells"
    checks: tuple[tuple[str, Iterator[str]], ...] = (
        (f"ids of {len(records)} cells", ids()),
        (f"{cells}, those of the matrix", completeness()),
        *([("choices of tuning, those of the trials", choices())] if run.tuning() is not None else []),
        (code_checked(records), code_problems(records, subject.checkout)),
        (f"matrix {subject.asked.matrix}, that of the commit", matrix_problems(subject)),
        (f"lines of {len(records)} cells, which say the same as their records", line_problems(run)),
        ("totals and peaks, which are those of their parts, and rounds in order", relation_problems(run)),
        ("names of environments", environment_problems(run)),
    )
    for checked, found in checks:
        yield from findings(run.path.name, checked, found)


def matrix_problems(subject: Subject) -> Iterator[str]:
    """Yield a sentence where the matrix is not the one at the latest commit that the records name.

    Whole documents are compared, that of the commit with what the stored command changed. Raises HistoryError where the
    history does not tell.
    """
    places = (SHIPPED_MATRIX.format(subject.asked.matrix), subject.asked.matrix)
    found = ((place, file_at(subject.checkout, subject.commit, place)) for place in places)
    place, content = next((one for one in found if one[1] is not None), ("", None))
    if content is None:
        raise HistoryError(
            f"Commit {subject.commit[:12]} has no matrix {subject.asked.matrix}; a matrix is committed before it runs."
        )

    def text_of(name: str) -> str | None:
        text = file_at(subject.checkout, subject.commit, PurePosixPath(place).with_name(name).as_posix())
        return None if text is None else text.decode()

    right = inlined(subject.asked.overridden(tomllib.loads(content.decode()), subject.methods), text_of)
    right, _ = pinned(right, committed(subject.checkout, subject.commit, place))
    for place in _differing(without_hashes(subject.document), without_hashes(right)):
        yield f"{MATRIX}: {place} is not as in commit {subject.commit[:12]}, by which the cells ran; restore it."


def _differing(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Yield the keys at which two documents differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from _differing(one.get(key), other.get(key), f"{where}.{key}" if where else key)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, parts in enumerate(zip(one, other, strict=True)):
            yield from _differing(*parts, f"{where}[{number}]")
    elif one != other:
        yield where

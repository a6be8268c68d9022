"""Whether records are of the commit that they name: the hash of their code by that commit's own rules. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedfore.errors import HistoryError
from fedfore.records import past_code
from fedfore.records.history import DIRTY, answer_of
from fedfore.records.packed import CELLS

Record = Mapping[str, Any]


def commit_of(record: Record) -> str | None:
    """Return the commit that a record names, whether or not the checkout differed from it."""
    named = record.get("git_commit")
    return named.removesuffix(DIRTY) if named else None


def commits_of(records: Sequence[Record]) -> set[str]:
    """Return the commits that records name."""
    return {commit for record in records if (commit := commit_of(record))}


def code_checked(records: Sequence[Record]) -> str:
    """Return in words what `code_problems` checks."""
    dirty = sum((record.get("git_commit") or "").endswith(DIRTY) for record in records)
    note = f" ({dirty} of a checkout that differed: the computing code is that of the commit)" if dirty else ""
    commits = len(commits_of(records))
    return f"code of {len(records)} cells at {commits} commit{'' if commits == 1 else 's'}{note}"


def code_problems(records: Sequence[Record], checkout: Path) -> Iterator[str]:
    """Yield a sentence for each record whose code is not that of the commit that it names, by that commit's own rules.

    Raises HistoryError where the history of the checkout does not tell.
    """
    for record in records:
        commit = commit_of(record)
        if commit is None:
            raise HistoryError(f"{record['cell_id']} names no commit, so nothing tells what computed it.")
        problem = past_code_of(checkout, commit).problem(record)
        if problem:
            yield f"{CELLS}: {record['cell_id']}: {problem} at commit {commit[:12]}; restore it or run the cell again."


@dataclass(frozen=True)
class PastCode:
    """What the methods of a commit were computed with, by its own rules: a hash of code by method, and its scheme."""

    scheme: int
    sha256: Mapping[str, str]

    def problem(self, record: Record) -> str | None:
        """Return what a record says of its code that is not so, as the start of a sentence, or None."""
        method, stored = record["method"], record.get("code_sha256") or "nothing"
        scheme = record.get("hash_scheme", past_code.FIRST_SCHEME)
        if method not in self.sha256:
            return f"there is no method {method}"
        if scheme != self.scheme:
            return f"hash_scheme is {scheme}, but it was {self.scheme}"
        if stored != self.sha256[method]:
            return f"code_sha256 is {stored[:12]}.., but the code of {method} gives {self.sha256[method][:12]}.."
        return None


@cache
def past_code_of(checkout: Path, commit: str) -> PastCode:
    """Return what a commit says of the code of its methods, by its own function, which runs without torch.

    Raises HistoryError where the commit is not there, or does not hash code.
    """
    return PastCode(**answer_of(checkout, commit, Path(past_code.__file__), bare=True))

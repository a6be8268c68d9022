"""What checking a published study finds: a sentence a fact, the same for every check. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fedfore.errors import FedForeError, HistoryError

MOST = 10
"""How many problems of one check are listed one by one."""
Outcome = Literal["ok", "differs", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What one check says of a study: `ok` and what was checked; else file, cell or line, what is wrong, what to do."""

    outcome: Outcome
    study: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.outcome:<7} {self.study}  {self.sentence}"


def findings(study: str, checked: str, problems: Iterable[str]) -> Iterator[Finding]:
    """Yield what a check finds: `checked` where there is no problem, else the problems, the first `MOST` of them.

    `problems` are looked for only here: a history that does not tell, and what cannot be read, are findings too.
    """
    try:
        found = list(problems)
    except HistoryError as error:
        yield Finding("unknown", study, f"{checked}: {error}")
        return
    except FedForeError as error:
        yield Finding("differs", study, f"{checked}: {error}")
        return
    for sentence in found[:MOST]:
        yield Finding("differs", study, sentence)
    if len(found) > MOST:
        yield Finding("differs", study, f"{checked}: {len(found) - MOST} more of the same.")
    if not found:
        yield Finding("ok", study, checked)

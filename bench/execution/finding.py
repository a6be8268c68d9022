"""What `fedfore check` finds of one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "skip", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One rule tried on one plug-in; `sentence` says why it is skipped, what is odd, or how it is broken."""

    name: str
    rule: str
    outcome: Outcome
    sentence: str = ""

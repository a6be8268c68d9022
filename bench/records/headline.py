"""The headline's window: when the harness evaluates for it, and of which evaluations it is the mean. No torch.

`spent` and the budget are in the budget's unit, rounds or data passes. Under data passes rounds differ in size, and
their sizes are known once they have ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedfore.records.probes import HEADLINE_EVALUATIONS, HEADLINE_SHARE

_SHARES = tuple(1 - HEADLINE_SHARE * (1 - (k + 1) / HEADLINE_EVALUATIONS) for k in range(HEADLINE_EVALUATIONS))
"""The shares of the budget at which the harness evaluates in the window: evenly, the last at its end."""
_ROUNDING = 1e-9


@dataclass
class Schedule:
    """Says of each round, as it ends, whether it is evaluated.

    That is where `spent` reaches a multiple of `interval` (unless that is None), a share of the window, or the budget;
    and each of the last rounds where fewer than `HEADLINE_EVALUATIONS` may lie in the window: once what is left before
    a round is at most that many rounds of the size of the largest so far. `spent` and `largest` are what it remembers.
    """

    budget: float
    interval: float | None = None
    spent: float = 0.0
    largest: float = 0.0

    def is_due(self, spent: float) -> bool:
        """Book a round after which so much is spent, and return whether it is evaluated."""
        before, self.spent = self.spent, spent
        self.largest = max(self.largest, spent - before)
        return self._is_at_an_interval(before) or self._is_at_a_share(before) or self._is_among_the_last(before)

    def _is_at_an_interval(self, before: float) -> bool:
        if self.interval is None:
            return False
        due = self.interval * (math.floor((before + _ROUNDING) / self.interval) + 1)
        return self.spent >= due - _ROUNDING

    def _is_at_a_share(self, before: float) -> bool:
        return any(before < share * self.budget - _ROUNDING <= self.spent for share in _SHARES)

    def _is_among_the_last(self, before: float) -> bool:
        reach = HEADLINE_EVALUATIONS * self.largest
        return reach > HEADLINE_SHARE * self.budget + _ROUNDING and self.budget - before <= reach + _ROUNDING


def window_start(spent: Sequence[float], budget: float) -> int:
    """Return the place of the headline's first evaluation among those after which so much was spent, in order.

    They are those above 90% of the budget; where these are fewer than `HEADLINE_EVALUATIONS`, the last so many.
    """
    inside = sum(one > (1 - HEADLINE_SHARE) * budget + _ROUNDING for one in spent)
    return max(0, len(spent) - max(inside, HEADLINE_EVALUATIONS))


def window_span(spent: Sequence[float], budget: float) -> float:
    """Return the share of the budget from the first to the last of the headline's evaluations, at least one."""
    return (spent[-1] - spent[window_start(spent, budget)]) / budget

"""The cells of a plan that a command runs: some that it names, or every N-th, for jobs that share a plan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fedfore.errors import ConfigError, suggestion

_SHARE = re.compile(r"(\d+)/(\d+)")
SHOWN = 3


@dataclass(frozen=True)
class Only:
    """Cells of a plan: those whose id begins with one of `names`, and of each share (K, N) the K-th, (K + N)-th, ..."""

    names: tuple[str, ...]
    shares: tuple[tuple[int, int], ...]

    @classmethod
    def parsed(cls, texts: Sequence[str]) -> Self:
        """Return the cells that these texts ask for. Raises ConfigError for a share that there is not."""
        found = {text: _SHARE.fullmatch(text) for text in texts}
        shares = tuple((int(match[1]), int(match[2])) for match in found.values() if match)
        for k, n in shares:
            if not 1 <= k <= n:
                raise ConfigError(f"--only {k}/{n} is no share: K/N is every N-th cell from the K-th, K from 1 to N.")
        return cls(tuple(text for text, match in found.items() if not match), shares)

    def chosen(self, ids: Sequence[str], *, more_to_come: bool) -> frozenset[str]:
        """Return which of these cells they are.

        Raises ConfigError for a name that is not of exactly one; it says so where there are `more_to_come`.
        """
        found = {one for k, n in self.shares for one in ids[k - 1 :: n]}
        for name in self.names:
            cells = [name] if name in ids else [one for one in ids if one.startswith(name)]
            if len(cells) > 1:
                some = f"{', '.join(cells[:SHOWN])}{', ...' if len(cells) > SHOWN else ''}"
                raise ConfigError(f'--only: "{name}" begins the ids of {len(cells)} cells ({some}); say more of one.')
            if not cells:
                later = (
                    " Cells of a later stage are known once the trials before it have ended." if more_to_come else ""
                )
                raise ConfigError(f'--only: the plan has no cell "{name}".{suggestion(name, ids)}{later}')
            found.update(cells)
        return frozenset(found)

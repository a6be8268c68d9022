"""What a federation has used: rounds, examples, bytes and FLOPs by phase, and how much of the budget that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, get_args

from fedfore.cell import Phase, Protocol

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass
class Totals:
    """What a phase used so far, over all clients: `client_rounds` counts every client of every round."""

    rounds: int = 0
    client_rounds: int = 0
    examples: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    flops: float = 0.0

    def book_round(self, clients: int, examples: int) -> None:
        """Add a round of so many clients, which drew so many examples together."""
        self.rounds += 1
        self.client_rounds += clients
        self.examples += examples


@dataclass
class Ledger:
    """The totals of both phases, under a protocol's budget. `num_examples` are those of all clients together."""

    protocol: Protocol
    num_examples: int
    totals: dict[Phase, Totals] = field(default_factory=lambda: {phase: Totals() for phase in PHASES})

    @property
    def data_passes(self) -> float:
        """Examples drawn in training / examples of all clients."""
        return self.totals["train"].examples / self.num_examples

    @property
    def spent(self) -> float:
        """What training spent, in the unit of the budget."""
        return self.data_passes if self.protocol.data_passes is not None else self.totals["train"].rounds

    @property
    def progress(self) -> float:
        """The fraction of the budget that is spent, at most 1; 0 without a budget."""
        return min(self.spent / self.protocol.budget, 1.0) if self.protocol.budget else 0.0

    @property
    def is_spent(self) -> bool:
        """Whether training is over."""
        return self.spent >= self.protocol.budget - 1e-9

    def state_dict(self) -> dict[str, Any]:
        """Return the totals by phase and name."""
        return {phase: asdict(totals) for phase, totals in self.totals.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the totals that `state_dict` returned."""
        self.totals = {phase: Totals(**state[phase]) for phase in PHASES}

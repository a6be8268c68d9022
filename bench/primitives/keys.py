"""What a key of a configuration declares of itself, for those who meter and try a method without knowing its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedfore.cell import Phase


@dataclass(frozen=True)
class Key:
    """What a key means to the harness: `num_directions: Annotated[PositiveInt, Key(linear_in="train", tiny=4)] = 500`.

    It stands beside the key's type or beside a part of a union, `Annotated[int, Key(...)] | None`. A key without a
    declaration is metered as it is. A subclass that gives the key another meaning declares it anew.

    linear_in: the phase in which a device's FLOPs, bytes sent and drawn batches grow by the same amount with each one
    more, from 2 on, and its peak of memory not at all, or by the same amount from 17 on; a large value is then metered
    as two small ones.
    local_steps: whether it is the number of a device's local steps, each on a batch of its own; of many the first few
    are metered.
    period: whether it may be a number of rounds after which another kind of round recurs; metering without training
    looks there.
    tiny: its value in the conformance suite, where it makes a run small; None leaves it at its default.
    """

    linear_in: Phase | None = None
    local_steps: bool = False
    period: bool = False
    tiny: Any = None

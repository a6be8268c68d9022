"""What the server and its clients hand each other in a round, and what an update estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fedfore.primitives.moment import MomentDraw
from fedfore.primitives.zeroth_order import Step


@dataclass(frozen=True)
class Message:
    """What the server broadcasts: the model's active values (`model`), and named tensors beside them.

    Without a model a device goes on from the one that it received last. From the first training round without one, each
    device keeps its own for that; before, every model that is sent in training replaces those of all devices.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    model: bool = True


@dataclass(frozen=True)
class Update:
    """What a client sends up.

    weights: parameters and float buffers by name, each in its own shape, zero where the mask prunes; only active values
    are encoded. scalars: a vector (count,) of real numbers, encoded as float32. tensors: whatever else, by name, of any
    shape. num_examples: the size of the client's share.
    bypass: what a simulating estimator hands to the server beside the wire; allowed where the record says `simulated`.
    """

    num_examples: int
    weights: Mapping[str, Tensor] | None = None
    scalars: Tensor | None = None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    bypass: Sequence[MomentDraw] | None = None


@dataclass(frozen=True)
class Estimate:
    """A gradient that was read out of an update, before the server's optimizer sees it.

    gradient: float32 [n], a vector of all parameters in the order of `flat_parameters`, 0 where none is estimated.
    step: the zeroth-order step whose scalars made it; their error against finite differences is measured from it. None
    where it was not made of such scalars, and then that error is unknown.
    """

    gradient: Tensor
    step: Step | None = None


def shares(updates: Sequence[Update]) -> list[float]:
    """Return every update's share p_i of the cohort's examples."""
    total = sum(update.num_examples for update in updates)
    return [update.num_examples / total for update in updates]

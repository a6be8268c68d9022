"""Local training by backpropagation, and the weighted mean that ends a round of federated averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.masks import Mask
from bench.primitives.accounting import account
from bench.primitives.flat import model_tensors


@dataclass(frozen=True)
class LocalSGDConfig:
    """The keys of local SGD.

    Give `local_epochs` or `local_steps`, not both; neither means one epoch. `lr_schedule` acts over rounds: `constant`,
    `cosine` (to 0 at the end of the budget) or `exponential` (x `lr_decay` each round).
    """

    lr: PositiveFloat = 0.05
    momentum: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    local_epochs: PositiveInt | None = None
    local_steps: PositiveInt | None = None
    lr_schedule: Literal["constant", "cosine", "exponential"] = "constant"
    lr_decay: PositiveFloat = 0.99

    def __post_init__(self) -> None:
        if self.local_epochs is not None and self.local_steps is not None:
            raise ValueError("give local_epochs or local_steps, not both")

    def lr_at(self, round: int, progress: float) -> float:
        """Return the learning rate of a round, `progress` being the fraction of the budget already spent."""
        if self.lr_schedule == "cosine":
            return self.lr * (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2.0
        return self.lr * self.lr_decay**round if self.lr_schedule == "exponential" else self.lr


def local_sgd(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    config: LocalSGDConfig,
    lr: float,
    mask: Mask | None,
) -> None:
    """Train `model` in place on `batches` by SGD with momentum and weight decay; pruned weights stay exactly zero."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
    )
    masked = [] if mask is None else [(p, mask[name]) for name, p in model.named_parameters() if name in mask]
    for x, y in batches:
        cross_entropy(model(x), y).backward()
        for parameter, kept in masked:
            if parameter.grad is not None:
                parameter.grad.mul_(kept)
        with account("optimizer"):
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def weighted_mean_(model: nn.Module, received: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> None:
    """Set every parameter and float buffer of `model` to the mean of the received ones, weighted by `shares`."""
    for name, own in model_tensors(model).items():
        own.zero_()
        for tensors, share in zip(received, shares, strict=True):
            own.add_(tensors[name], alpha=share)

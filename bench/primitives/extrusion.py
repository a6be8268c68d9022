"""Budget-aware extrusion: local training that empties the weights to be pruned before they are pruned.

FedMef (arXiv 2403.14737): the loss gains lambda |theta_low|^2 over the marked weights theta_low, and the learning rate
a floor that falls with them: eta_t = max(eta, beta_t), beta_t = p(t) (2 sigmoid(|theta_low|) - 1) eta_0,
p(t) = (2T - 2t) / (2T - t), for steps t = 0..T-1 and the first round's rate eta_0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from fedfore.masks import Mask
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd


@dataclass(frozen=True)
class ExtrusionConfig(LocalSGDConfig):
    """The keys of an extrusion."""

    extrusion: Literal["on", "bump_only", "off"] = "on"
    """`bump_only` is a control with the learning rate's floor and no penalty."""
    shrink: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Factor by which a marked weight without gradient shrinks over a client's steps of a round."""
    penalty: NonNegativeFloat | None = None
    """A constant lambda instead of `shrink`; the published port's 1e-4 shrinks by less than 0.1% and is inert."""

    def step_factor(self, rate: float, steps: int) -> float:
        """Return what a step at learning rate `rate` multiplies marked weights by: 1 - 2 rate lambda.

        Without a constant lambda it is shrink^(1/T): lambda = (1 - shrink^(1/T)) / (2 rate), which for many steps is
        ln(1 / shrink) / (2 rate T), and holds for few steps and at the floor's higher rates too.
        """
        if self.extrusion != "on":
            return 1.0
        return self.shrink ** (1.0 / steps) if self.penalty is None else 1.0 - 2.0 * rate * self.penalty


def floor_rate(step: int, steps: int, low_norm: float, first_rate: float) -> float:
    """Return beta_t for step t of T: the learning rate's floor, |theta_low| being `low_norm` and eta_0 `first_rate`."""
    return (2 * steps - 2 * step) / (2 * steps - step) * math.tanh(low_norm / 2.0) * first_rate


def extrude(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    steps: int,
    config: ExtrusionConfig,
    lr: float,
    marked: Mapping[str, Tensor],
    mask: Mask,
) -> None:
    """Train `model` in place on `steps` batches, emptying the `marked` weights, flat indices by layer name.

    Local SGD from the round's rate `lr`, all its options included. The penalty's share of a step is taken from the
    weights right after it, so that momentum does not multiply it; to first order in the rate it is the loss's.
    """
    rate = torch.tensor(lr, dtype=torch.float64)
    weights = dict(model.named_parameters())
    low = [(weights[name].detach().view(-1), indices) for name, indices in marked.items()]

    def between_steps() -> Iterator[tuple[Tensor, Tensor]]:
        for step, batch in enumerate(batches):
            low_norm = float(torch.cat([weight[indices] for weight, indices in low]).norm())
            rate.fill_(max(lr, floor_rate(step, steps, low_norm, config.lr)))
            yield batch
            factor = config.step_factor(float(rate), steps)
            for weight, indices in low:
                weight[indices] *= factor

    local_sgd(model, between_steps(), config, rate, mask)

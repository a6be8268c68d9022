"""The server's optimizer over the flat parameter vector; its state is plain tensors that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from fedfore.cell import OpenFraction


@dataclass(frozen=True)
class ServerAdamConfig:
    """The keys of the server's Adam (Kingma and Ba 2015, with L2 weight decay added to the gradient)."""

    lr: PositiveFloat = 3e-3
    """Learning rate of the server."""
    beta1: OpenFraction = 0.9
    """Decay of the first moment."""
    beta2: OpenFraction = 0.99
    """Decay of the second moment."""
    weight_decay: NonNegativeFloat = 5e-4
    """Factor of the L2 penalty's gradient, added to the estimate."""


@torch.no_grad()
def adam_step_(
    weights: Tensor, gradient: Tensor, state: MutableMapping[str, Any], config: ServerAdamConfig, lr: float
) -> None:
    """Take one Adam step on `weights` [n] in place; `state` keeps the moments and the step count.

    A coordinate whose weight and gradient are zero stays exactly zero.
    """
    parameter = torch.nn.Parameter(weights)
    parameter.grad = gradient
    optimizer = torch.optim.Adam(
        [parameter], lr=lr, betas=(config.beta1, config.beta2), weight_decay=config.weight_decay, fused=True
    )
    if state:
        optimizer.state[parameter] = dict(state)
    optimizer.step()
    state.update(optimizer.state[parameter])

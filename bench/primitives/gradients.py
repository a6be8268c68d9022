"""A mini-batch, its loss, and the loss's gradient as one flat vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Batch:
    """One mini-batch: x [B, C, H, W], y [B] class indices."""

    x: Tensor
    y: Tensor

    def loss(self, model: nn.Module) -> Tensor:
        """Return the mean cross-entropy of `model` on the batch."""
        return cross_entropy(model(self.x), self.y)


def flat_gradient(model: nn.Module, batch: Batch) -> Tensor:
    """Return the gradient [n] of the batch's loss over all parameters, by backpropagation."""
    gradients = torch.autograd.grad(batch.loss(model), list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in gradients])

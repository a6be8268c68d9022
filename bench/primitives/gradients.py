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
    """Return the gradient [n] of the batch's loss over all parameters, by backpropagation.

    It is zero for frozen parameters, and for those of which the loss is no function.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = iter(torch.autograd.grad(batch.loss(model), trained, materialize_grads=True))
    return torch.cat([
        (next(gradients) if p.requires_grad else torch.zeros_like(p)).reshape(-1) for p in model.parameters()
    ])  # fmt: skip

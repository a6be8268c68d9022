"""Zeroth-order gradient estimates: what a device sends, and what the server makes of it.

A device sends K scalars, the loss differences along K directions e_k (Feng et al. 2023, BAFFLE, arXiv 2301.12195,
section 3). The server regenerates the directions and takes g_hat = (1/K) sum_k (scalar_k / sigma) e_k.

Two estimators give the same scalars up to O(sigma):

* `finite_difference`: the on-device algorithm, K + 1 (forward) or 2K (central) real forward passes on weights that are
  perturbed and restored in place;
* `directional`: its limit sigma -> 0 on the same directions, sigma (g . e_k), from one backward pass. It simulates; its
  run time and memory are not a device's.

Only active coordinates (unmasked weights and all other trainable parameters) are perturbed, never buffers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.masks import Mask
from bench.primitives.accounting import account
from bench.primitives.flat import active_coordinates, flat_parameters, select
from bench.primitives.perturbations import Directions, Distribution

CHUNK = 8
"""Directions generated at a time where many are needed at once; no result depends on it but by rounding."""

BLOCK = 8192
"""Coordinates that a device perturbs at a time: the size of its perturbation buffer."""


@dataclass(frozen=True)
class ZerothOrderConfig:
    """The keys of a zeroth-order method's device side.

    num_perturbations: the papers' K. sigma: the perturbation's size. form: `forward` differences L(w + sigma e) - L(w),
    or `central` ones (L(w + sigma e) - L(w - sigma e)) / 2. restore: how a device undoes a perturbation, `seed`
    (regenerate and subtract; no second copy of the weights, rounding drifts by about 1e-7 of a weight) or `copy`.
    """

    num_perturbations: PositiveInt = 500
    sigma: PositiveFloat = 1e-4
    form: Literal["forward", "central"] = "forward"
    distribution: Distribution = "gaussian"
    restore: Literal["seed", "copy"] = "seed"


@dataclass(frozen=True)
class Batch:
    """One mini-batch: x [B, C, H, W], y [B] class indices."""

    x: Tensor
    y: Tensor

    def loss(self, model: nn.Module) -> Tensor:
        """Return the mean cross-entropy of `model` on the batch."""
        return cross_entropy(model(self.x), self.y)


@torch.no_grad()
def finite_difference_scalars(
    model: nn.Module, batch: Batch, directions: Directions, config: ZerothOrderConfig, mask: Mask | None
) -> Tensor:
    """Return the K loss differences [K] by real forward passes, perturbing `model` in place, block by block."""
    vector = flat_parameters(model)
    blocks = list(_blocks(model, mask))
    with account("perturbation"):
        saved = vector.clone() if config.restore == "copy" else None

        def move(k: int, scale: float) -> None:
            for start, stop, kept in blocks:
                e = directions.generate(k, 1, (start, stop), None, vector.device)[0]
                vector[start:stop].add_(e if kept is None else e.mul_(kept), alpha=scale)

    def restore(k: int, scale: float) -> None:
        with account("perturbation"):
            if saved is None:
                move(k, -scale)
            else:
                vector.copy_(saved)

    def loss_at(k: int, scale: float) -> Tensor:
        with account("perturbation"):
            move(k, scale)
        loss = batch.loss(model)
        restore(k, scale)
        return loss

    base = batch.loss(model) if config.form == "forward" else None
    scalars = [
        loss_at(k, config.sigma) - base if base is not None else (loss_at(k, config.sigma) - loss_at(k, -config.sigma)) / 2
        for k in range(config.num_perturbations)
    ]
    return torch.stack(scalars)


def _blocks(model: nn.Module, mask: Mask | None) -> Iterator[tuple[int, int, Tensor | None]]:
    """Yield (start, stop, kept entries or None) of the flat vector in blocks that lie within one parameter."""
    offset = 0
    for name, parameter in model.named_parameters():
        kept = mask[name].reshape(-1) if mask is not None and name in mask else None
        for low in range(0, parameter.numel(), BLOCK):
            high = min(low + BLOCK, parameter.numel())
            yield offset + low, offset + high, None if kept is None else kept[low:high]
        offset += parameter.numel()


def flat_gradient(model: nn.Module, batch: Batch) -> Tensor:
    """Return the gradient [n] of the batch's loss over all parameters, by backpropagation."""
    gradients = torch.autograd.grad(batch.loss(model), list(model.parameters()))
    return torch.cat([g.reshape(-1) for g in gradients])


def directional_scalars(
    model: nn.Module,
    batches: Sequence[Batch],
    directions: Directions,
    config: ZerothOrderConfig,
    active: Tensor | None,
) -> Tensor:
    """Return sigma (g_c . e_k) [C, K] for C clients that share the directions: one backward pass each, one pass over E."""
    gradients = torch.stack([select(flat_gradient(model, batch), active) for batch in batches])
    return config.sigma * _project(gradients, directions, config.num_perturbations, flat_parameters(model).numel(), active)


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, CHUNK):
        yield first, min(CHUNK, count - first)


def _project(gradients: Tensor, directions: Directions, count: int, size: int, active: Tensor | None) -> Tensor:
    """Return G E^T [C, K] for gradients G [C, P], with E [K, P] regenerated in chunks."""
    parts = [
        gradients @ directions.generate(first, number, (0, size), active, gradients.device).T
        for first, number in _chunks(count)
    ]
    return torch.cat(parts, dim=1)


def reconstruct(scalars: Tensor, directions: Directions, sigma: float, size: int, active: Tensor | None) -> Tensor:
    """Return g_hat [n] = (1/K) sum_k (scalars_k / sigma) e_k, zero at inactive coordinates."""
    weights = scalars / (sigma * len(scalars))
    estimate = torch.zeros(size if active is None else len(active), device=scalars.device)
    for first, number in _chunks(len(scalars)):
        e = directions.generate(first, number, (0, size), active, scalars.device)
        estimate.addmv_(e.T, weights[first : first + number])
    if active is None:
        return estimate
    return torch.zeros(size, device=scalars.device).index_copy_(0, active, estimate)


def client_scalars(
    estimator: str | None,
    model: nn.Module,
    batches: Sequence[Batch],
    directions: Directions,
    config: ZerothOrderConfig,
    mask: Mask | None,
) -> list[Tensor]:
    """Return the scalars [K] that each of C clients sends for its batch, all of them at the weights of `model`."""
    if estimator == "finite_difference":
        return [finite_difference_scalars(model, batch, directions, config, mask) for batch in batches]
    return list(directional_scalars(model, batches, directions, config, active_coordinates(model, mask)))

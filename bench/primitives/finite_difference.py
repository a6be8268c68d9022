"""The on-device zeroth-order algorithm: real forward passes on weights that are perturbed and restored in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from fedfore.masks import Mask
from fedfore.primitives.accounting import account
from fedfore.primitives.flat import flat_parameters, kept_parameters
from fedfore.primitives.gradients import Batch
from fedfore.primitives.keys import Key
from fedfore.primitives.perturbations import Directions

Form = Literal["forward", "central"]
Restore = Literal["seed", "copy", "as_released"]
Precision = Literal["float32", "bfloat16", "float16"]

BLOCK = 8192
"""Coordinates that a device perturbs at a time: the size of its perturbation buffer."""


@dataclass(frozen=True)
class FiniteDifferenceConfig:
    """The keys of the passes that a device makes."""

    num_perturbations: Annotated[PositiveInt, Key(linear_in="train", tiny=4)] = 500
    """Random directions of an estimate, the papers' K: a device sends as many scalars."""
    sigma: PositiveFloat = 1e-4
    """Size of a perturbation, by which a direction is multiplied."""
    form: Form = "forward"
    """`forward` differences L(w + sigma e) - L(w) take K + 1 passes, `central` ones 2K."""
    restore: Restore = "seed"
    """How a device takes a perturbation back: it makes it again from the `seed`; it keeps a `copy` of its weights; or,
    `as_released` by BAFFLE, a copy and a whole perturbation.
    """
    precision: Precision = "float32"
    """Precision of a device's forward passes; below float32 the differences drown in rounding, so that only a simulated
    estimator may ask for it, whose `fd_scalar_error` then shows how much is lost.
    """


@torch.no_grad()
def finite_differences(
    model: nn.Module, batch: Batch, directions: Directions, config: FiniteDifferenceConfig, mask: Mask | None
) -> Tensor:
    """Return the loss differences [K] along the directions, at unmasked weights and all other parameters.

    `forward` differences are L(w + sigma e) - L(w), K + 1 passes; `central` ones (L(w + sigma e) - L(w - sigma e)) / 2,
    2K passes. What a device holds beside what a forward pass needs: restoring from the `seed`, its weights alone, a
    perturbation being made block by block and made again to take it back; with `copy` a second copy of them; with
    `as_released`, as in BAFFLE's code, that and a whole perturbation. Weights are perturbed in float32; `precision` is
    that of the forward passes, the loss being float32 again.
    """
    vector, sigma = flat_parameters(model), config.sigma
    with account("perturbation"):
        saved = None if config.restore == "seed" else vector.clone()
        if config.restore == "as_released":
            blocks = [(0, len(vector), kept_parameters(model, mask))]
        else:
            blocks = list(_blocks(model, mask))

    def perturb(k: int, scale: float) -> None:
        with account("perturbation"):
            for start, stop, kept in blocks:
                e = directions.generate(k, 1, (start, stop), None, vector.device)[0]
                e = e if kept is None else e.mul_(kept)
                received = vector if saved is None else saved
                torch.add(received[start:stop], e, alpha=scale, out=vector[start:stop])

    def loss() -> Tensor:
        if config.precision == "float32":
            return batch.loss(model)
        with torch.autocast(vector.device.type, getattr(torch, config.precision), cache_enabled=False):
            return batch.loss(model)

    def loss_at(k: int, scale: float) -> Tensor:
        perturb(k, scale)
        found = loss()
        if saved is None:
            perturb(k, -scale)
        return found

    if config.form == "forward":
        base = loss()
        differences = [loss_at(k, sigma) - base for k in range(config.num_perturbations)]
    else:
        differences = [(loss_at(k, sigma) - loss_at(k, -sigma)) / 2 for k in range(config.num_perturbations)]
    if saved is not None:
        vector.copy_(saved)
    return torch.stack(differences)


def _blocks(model: nn.Module, mask: Mask | None) -> Iterator[tuple[int, int, Tensor | None]]:
    """Yield (start, stop, kept entries or None) of the flat vector in blocks that lie within one trained parameter."""
    offset = 0
    for name, parameter in model.named_parameters():
        kept = mask[name].reshape(-1) if mask is not None and name in mask else None
        for low in range(0, parameter.numel() if parameter.requires_grad else 0, BLOCK):
            high = min(low + BLOCK, parameter.numel())
            yield offset + low, offset + high, None if kept is None else kept[low:high]
        offset += parameter.numel()

"""Gradient diagnostics: how good an estimate is, and how much gradient a mask leaves; measured on fixed probe data.

The harness decodes what a client would send for a probe batch and compares it with autograd; the method says nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.cell import Cell
from bench.contract import Update
from bench.masks import Mask, prunable_weights
from bench.metrics import CERTIFIED_SCALAR_ERROR
from bench.primitives.flat import active_coordinates, select
from bench.primitives.gradients import Batch, flat_gradient
from bench.primitives.zeroth_order import Step, ZerothOrderConfig, unpack

MOMENTS = (0.0, 0.01, 0.1, 0.5, 1.0)
"""Fractions of the budget at which a cell is diagnosed."""

SCALAR_DIRECTIONS = 40
PROBE_EXAMPLES = 256


@dataclass(frozen=True)
class Diagnosis:
    """One moment's diagnostics; None where a quantity does not apply.

    grad_rel_error: |g_hat - g| / |g| over active coordinates, for one client and the probe batch. grad_cosine: of g_hat
    and g. fd_scalar_error: relative difference in norm of the scalars by finite differences (the cell's sigma and
    form, in the model's precision) and their limit sigma -> 0. variance_ratio: |sum p_i g_i|^2 / sum p_i^2 |g_i|^2,
    the variance of shared over that of independent perturbations. grad_energy: |m.g|^2 / |g|^2 over prunable weights at
    the present weights.
    """

    moment: float
    round: int
    grad_rel_error: float | None = None
    grad_cosine: float | None = None
    fd_scalar_error: float | None = None
    variance_ratio: float | None = None
    grad_energy: float | None = None


def zeroth_order_config(cell: Cell) -> ZerothOrderConfig | None:
    """Return the engine's configuration of a zeroth-order cell, or None for another."""
    names = [item.name for item in dataclasses.fields(ZerothOrderConfig)]
    if cell.estimator is None or not set(names) <= set(cell.params):
        return None
    return ZerothOrderConfig(**{name: cell.params[name] for name in names})


def estimate_quality(
    model: nn.Module, batch: Batch, update: Update, cell: Cell, seed: int, round: int, client: int, mask: Mask | None
) -> dict[str, float | None]:
    """Compare what a client's `update` for `batch` decodes to with the gradient; nothing for what sends no estimate."""
    config = zeroth_order_config(cell)
    if config is None or (update.scalars is None and "gradient" not in update.tensors):
        return {}
    step = Step(cell.estimator or "finite_difference", config, seed, round)
    sent = unpack(update.scalars, update.tensors, update.bypass, config.num_perturbations)[:1]
    active = active_coordinates(model, mask)
    found = select(step.estimate(sent, [1.0], [client], model, mask), active)
    true = select(flat_gradient(model, batch), active)
    return {
        "grad_rel_error": float((found - true).norm() / true.norm()),
        "grad_cosine": float(torch.cosine_similarity(found, true, 0)),
        "fd_scalar_error": scalar_error(model, batch, step, mask) if cell.estimator != "exact" else None,
    }


def scalar_error(model: nn.Module, batch: Batch, step: Step, mask: Mask | None) -> float:
    """Return |finite differences - their limit| / |their limit| over 40 directions, at the present weights."""
    config = replace(step.config, num_perturbations=SCALAR_DIRECTIONS, clip="none", restore="copy")
    pair = []
    for estimator in ("finite_difference", "directional"):
        (sent,) = replace(step, estimator=estimator, config=config).send(model, [batch], [0], mask)
        assert sent.scalars is not None
        pair.append(sent.scalars)
    return float((pair[0] - pair[1]).norm() / pair[1].norm())


def variance_ratio(model: nn.Module, batches: Sequence[Batch], sizes: Sequence[int], mask: Mask | None) -> float:
    """Return |sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over active coordinates, one batch a client."""
    active = active_coordinates(model, mask)
    shares = torch.tensor([size / sum(sizes) for size in sizes])
    gradients = torch.stack([select(flat_gradient(model, batch), active) for batch in batches])
    shares = shares.to(gradients)
    together = (shares @ gradients).square().sum()
    apart = (shares.square() * gradients.square().sum(1)).sum()
    return float(together / apart)


def gradient_energy(model: nn.Module, batch: Batch, mask: Mask) -> float | None:
    """Return |m.g|^2 / |g|^2 over prunable weights, at the weights of `model` (pruned ones may be zero).

    None where there is no gradient at all, because the mask cuts the network.
    """
    weights: Mapping[str, Tensor] = prunable_weights(model)
    gradients = torch.autograd.grad(batch.loss(model), list(weights.values()))
    kept = sum(float((g * mask[name]).double().square().sum()) for name, g in zip(weights, gradients, strict=True))
    whole = sum(float(g.double().square().sum()) for g in gradients)
    return kept / whole if whole else None


def summary(diagnoses: Sequence[Diagnosis], energy_at_start: float | None, cell: Cell) -> dict[str, Any]:
    """Return the diagnostic fields of a cell's record."""

    def values(name: str) -> list[float]:
        return [value for one in diagnoses if (value := getattr(one, name)) is not None]

    def mean(name: str) -> float | None:
        found = values(name)
        return sum(found) / len(found) if found else None

    scalar_errors, ratios, energies = values("fd_scalar_error"), values("variance_ratio"), values("grad_energy")
    worst = max(scalar_errors, default=None)
    simulating = cell.estimator in ("directional", "moment")
    return {
        "grad_rel_error": mean("grad_rel_error"),
        "grad_cosine": mean("grad_cosine"),
        "fd_scalar_error": worst,
        "estimator_uncertified": bool(simulating and worst is not None and worst > CERTIFIED_SCALAR_ERROR),
        "variance_ratio_start": ratios[0] if ratios else None,
        "variance_ratio_end": ratios[-1] if ratios else None,
        "grad_energy_kept": energy_at_start,
        "grad_energy_masked_point": energies[-1] if energies else None,
    }

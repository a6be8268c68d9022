"""Gradient diagnostics: how good an estimate is, and how much gradient a mask leaves; measured on fixed probe data.

The harness compares what the method reads out of a client's update for a probe batch with autograd.
A quantity that is not defined (0 / 0) or overflows is None, and null in records: it is not the training that failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.contract.exchange import Estimate
from fedfore.masks import Mask, dead_channels, prunable_weights
from fedfore.primitives.flat import active_coordinates, select
from fedfore.primitives.gradients import Batch, flat_gradient
from fedfore.primitives.offset import used_weights
from fedfore.primitives.zeroth_order import Step
from fedfore.records.probes import SCALAR_DIRECTIONS


@dataclass(frozen=True)
class Diagnosis:
    """The diagnostics at one milestone, a fraction of the budget; None where a quantity does not apply.

    grad_rel_error: |g_hat - g| / |g| over active coordinates, for one client and the probe batch. grad_cosine: of g_hat
    and g. fd_scalar_error: relative difference in norm of the scalars by finite differences (the cell's sigma and
    form, in the model's precision) and their limit sigma -> 0. variance_ratio: |sum p_i g_i|^2 / sum p_i^2 |g_i|^2,
    the variance of shared over that of independent perturbations. grad_energy: |m.g|^2 / |g|^2 over prunable weights at
    the present weights, dead channels left out.
    """

    moment: float
    round: int
    grad_rel_error: float | None = None
    grad_cosine: float | None = None
    fd_scalar_error: float | None = None
    variance_ratio: float | None = None
    grad_energy: float | None = None


def has_finite_gradient(model: nn.Module, batch: Batch) -> bool:
    """Return whether every entry of the batch's gradient is a finite number."""
    return bool(torch.isfinite(flat_gradient(model, batch)).all())


def estimate_quality(model: nn.Module, batch: Batch, estimate: Estimate, mask: Mask | None) -> dict[str, float | None]:
    """Compare an `estimate` of the gradient of `batch` with the gradient, at the weights of `model`."""
    active, step = active_coordinates(model, mask), estimate.step
    found = select(estimate.gradient, active).double()
    true = select(flat_gradient(model, batch), active).double()
    cosine = found @ true / (found.norm() * true.norm())
    return {
        "grad_rel_error": _finite((found - true).norm() / true.norm()),
        "grad_cosine": _finite(cosine.clamp(-1.0, 1.0)),
        "fd_scalar_error": scalar_error(model, batch, step, mask) if step and step.estimator != "exact" else None,
    }


def scalar_error(model: nn.Module, batch: Batch, step: Step, mask: Mask | None) -> float | None:
    """Return |finite differences - their limit| / |their limit| over `SCALAR_DIRECTIONS`, at the present weights.

    Whole perturbations are the fastest of the ways to restore; none changes a difference but `seed`, by its rounding.
    """
    config = replace(step.config, num_perturbations=SCALAR_DIRECTIONS, clip="none", restore="as_released")
    pair = []
    for estimator in ("finite_difference", "directional"):
        (sent,) = replace(step, estimator=estimator, config=config).send(model, [batch], [0], mask)
        assert sent.scalars is not None
        pair.append(sent.scalars.double())
    return _finite((pair[0] - pair[1]).norm() / pair[1].norm())


def variance_ratio(model: nn.Module, batches: Sequence[Batch], sizes: Sequence[int], mask: Mask | None) -> float | None:
    """Return |sum p_i g_i|^2 / sum p_i^2 |g_i|^2 over active coordinates, one batch a client.

    One gradient is held at a time, beside their sum.
    """
    active = active_coordinates(model, mask)
    together = apart = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for batch, size in zip(batches, sizes, strict=True):
        weighted = size / sum(sizes) * select(flat_gradient(model, batch), active).double()
        together = together + weighted
        apart = apart + weighted.square().sum()
    return _finite(together.square().sum() / apart)


def gradient_energy(model: nn.Module, batch: Batch, mask: Mask) -> float | None:
    """Return |m.g|^2 / |g|^2 over prunable weights, at the weights of `model` (pruned ones may be zero).

    Weights of an output channel all of whose weights are used as zero are left out: batch norm divides such a channel
    by the root of its epsilon alone, so that what is nothing but a large factor would stand for the gradient. At dense
    weights there is no such channel. None where there is no gradient at all, because the mask cuts the network.
    """
    weights: Mapping[str, Tensor] = prunable_weights(model)
    gradients = torch.autograd.grad(batch.loss(model), list(weights.values()), materialize_grads=True)
    kept, whole = 0.0, 0.0
    for (name, weight), gradient in zip(used_weights(model), gradients, strict=True):
        living = ~dead_channels(weight)
        energy = gradient[living].double().square()
        kept += float(energy[mask[name][living]].sum())
        whole += float(energy.sum())
    return _finite(kept / whole) if whole else None


def _finite(value: Tensor | float) -> float | None:
    """Return a scalar as a number, or None for NaN and infinities."""
    number = float(value)
    return number if math.isfinite(number) else None


def summary(diagnoses: Sequence[Diagnosis], energy_at_start: float | None) -> dict[str, Any]:
    """Return the diagnostic fields of a cell's record.

    Means are over the milestones at which a quantity is defined; the worst scalar error is known where all are.
    """

    def mean(name: str) -> float | None:
        found = [value for one in diagnoses if (value := getattr(one, name)) is not None]
        return sum(found) / len(found) if found else None

    errors = [one.fd_scalar_error for one in diagnoses if one.fd_scalar_error is not None]
    first, last = (diagnoses[0], diagnoses[-1]) if diagnoses else (None, None)
    return {
        "grad_rel_error": mean("grad_rel_error"),
        "grad_cosine": mean("grad_cosine"),
        "fd_scalar_error": max(errors) if errors and len(errors) == len(diagnoses) else None,
        "variance_ratio_start": first.variance_ratio if first else None,
        "variance_ratio_end": last.variance_ratio if last else None,
        "grad_energy_kept": energy_at_start,
        "grad_energy_masked_point": last.grad_energy if last else None,
    }

"""Zeroth-order gradient estimates: what a device sends, and what the server makes of it.

A device sends K scalars, the loss differences along K directions e_k (Feng et al. 2023, BAFFLE, arXiv 2301.12195,
section 3). The server regenerates the directions and takes g_hat = (1/K) sum_k (scalar_k / sigma) e_k. Estimators:

* `finite_difference`: the on-device algorithm, K + 1 (forward) or 2K (central) real forward passes;
* `directional`: its limit sigma -> 0 on the same directions, scalars sigma (g . e_k), from one backward pass;
* `moment`: equal to `directional` in distribution, its cost independent of K; its update carries, beside the real
  scalars, a draw that no device could send (`simulated`), one for all clients of a step that share directions;
* `exact`: a control, the gradient itself through the same server: it separates the noise from the protocol.

Run time and memory of all but the first are a simulator's, not a device's. Only active coordinates (unmasked weights
and all other trainable parameters) are perturbed, never buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Protocol

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from fedfore.cell import Estimator
from fedfore.errors import ConfigError, Skip
from fedfore.masks import Mask
from fedfore.primitives import moment
from fedfore.primitives.finite_difference import FiniteDifferenceConfig, finite_differences
from fedfore.primitives.flat import active_coordinates, flat_parameters, select
from fedfore.primitives.gradients import Batch, flat_gradient
from fedfore.primitives.mapping import Map, serially
from fedfore.primitives.perturbations import Directions, Distribution

CHUNK = 16
"""Directions generated at a time where many are needed at once; no result depends on it but by rounding."""

HELD = 1 << 24
"""Most numbers in a step's directions, 64 MiB, that are held from its scalars to its estimate, which needs them again.
"""


@dataclass(frozen=True)
class ZerothOrderConfig(FiniteDifferenceConfig):
    """The keys of a zeroth-order estimate."""

    distribution: Distribution = "gaussian"
    """Distribution of a direction's entries."""
    perturbations: Literal["shared", "independent"] = "shared"
    """Whether all clients of a round share their directions, or each has its own."""
    clip: Literal["none", "client", "server"] = "none"
    """Whether, and where, a client's estimate is scaled down to `clip_norm`: a `client` rebuilds its own estimate to do
    so, a `server` can because it has every client's scalars and the seed, which secure aggregation would forbid.
    """
    clip_norm: PositiveFloat = 0.3
    """Largest infinity norm of a clipped estimate."""


@dataclass(frozen=True)
class Sent:
    """What one client sends for one step: `scalars` [K], or the `gradient` [P] of the exact control.

    `draw` by-passes the wire: the moment estimator's stand-in for the directions.
    """

    scalars: Tensor | None = None
    gradient: Tensor | None = None
    draw: moment.MomentDraw | None = None


def pack(sent: Sequence[Sent]) -> dict[str, Any]:
    """Return the fields of an `Update` that carry what a client sends for its local steps."""
    scalars = [one.scalars for one in sent if one.scalars is not None]
    gradients = [one.gradient for one in sent if one.gradient is not None]
    draws = [one.draw for one in sent if one.draw is not None]
    return {
        "scalars": torch.cat(scalars) if scalars else None,
        "tensors": {"gradient": torch.stack(gradients)} if gradients else {},
        "bypass": draws or None,
    }


class Packed(Protocol):
    """The fields of an `Update` that `pack` fills."""

    @property
    def scalars(self) -> Tensor | None: ...
    @property
    def tensors(self) -> Mapping[str, Tensor]: ...
    @property
    def bypass(self) -> Sequence[moment.MomentDraw] | None: ...


def unpack(update: Packed, num_perturbations: int) -> list[Sent]:
    """Split what `pack` made into what was sent for each local step; nothing where an update carries no estimate."""
    if update.scalars is None:
        return [Sent(gradient=row) for row in update.tensors.get("gradient", ())]
    steps = update.scalars.split(num_perturbations)
    draws: Sequence[moment.MomentDraw | None] = update.bypass or [None] * len(steps)
    return [Sent(one, draw=draw) for one, draw in zip(steps, draws, strict=True)]


DRAWN_APART = (
    "the moment estimator of shared perturbations needs all clients of a step at the same weights and in one draw; use "
    'estimator = "directional", or perturbations = "independent"'
)


def check_estimator(estimator: str | None, config: ZerothOrderConfig, *, local_steps: bool = False) -> None:
    """Raise Skip where an estimator does not stand for what the configuration asks.

    `local_steps`: whether a client goes on from its own estimate, away from the weights of the others.
    Raises ConfigError for training by finite differences in a precision that cannot resolve them.
    """
    if estimator == "finite_difference" and config.precision != "float32":
        raise ConfigError(
            f"finite differences of {config.precision} losses are rounding noise; train in float32, or see how much is "
            'lost with estimator = "directional"'
        )
    if estimator != "moment":
        return
    if config.perturbations == "shared" and local_steps:
        raise Skip(DRAWN_APART)
    if config.distribution != "gaussian":
        raise Skip('the moment estimator is exact for Gaussian perturbations only; use estimator = "directional"')
    if config.clip != "none":
        raise Skip('clipping an estimate by its norm is no function of the scalars; use estimator = "directional"')


@dataclass(frozen=True)
class Step:
    """One zeroth-order step: everything that server and devices both know of it."""

    estimator: Estimator
    config: ZerothOrderConfig
    seed: int
    round: int
    local_step: int = 0

    def directions(self, client: int) -> Directions:
        """Return the directions of a client: everybody's where they are shared."""
        own = client + 1 if self.config.perturbations == "independent" else 0
        return Directions(self.seed, self.round, self.local_step, own, self.config.distribution)

    def send(
        self, model: nn.Module, batches: Sequence[Batch], clients: Sequence[int], mask: Mask | None, map: Map = serially
    ) -> list[Sent]:
        """Return what each client sends for its batch, all at the weights of `model`, which is left as it was.

        `map` works on the clients' passes through the model.
        """
        config = self.config
        if self.estimator == "finite_difference":
            differences = self._finite_differences(model, batches, clients, mask, map)
            return self._clipped_scalars(model, differences, clients, mask)
        active = active_coordinates(model, mask)
        gradients = torch.stack(map(lambda batch: select(flat_gradient(model, batch), active), batches))
        if self.estimator == "exact":
            scale = _clip_scale(gradients, config.clip_norm if config.clip == "client" else None)
            return [Sent(gradient=row) for row in gradients * scale]
        if self.estimator == "moment":
            return self._draw(gradients, clients)
        size = flat_parameters(model).numel()
        if config.perturbations == "shared":
            scalars = _project(gradients, self._chunks(0, config.num_perturbations, size, active, gradients.device))
        else:
            scalars = torch.cat([
                _project(row[None], self._chunks(client, config.num_perturbations, size, active, row.device))
                for client, row in zip(clients, gradients, strict=True)
            ])  # fmt: skip
        return self._clipped_scalars(model, list(config.sigma * scalars), clients, mask)

    def estimate(
        self, sent: Sequence[Sent], shares: Sequence[float], clients: Sequence[int], model: nn.Module, mask: Mask | None
    ) -> Tensor:
        """Return g_hat [n], the clients' estimates summed with weights `shares`; zero at inactive coordinates.

        Raises Skip where moment draws of shared directions were made one by one: each has the basis of its own client,
        and their sum would point along the first one's gradient.
        """
        active = active_coordinates(model, mask)
        size = flat_parameters(model).numel()
        estimates = self._estimates(sent, shares, clients, size, active)
        if active is None:
            return estimates
        return torch.zeros(size, device=estimates.device).index_copy_(0, active, estimates)

    def _estimates(
        self, sent: Sequence[Sent], shares: Sequence[float], clients: Sequence[int], size: int, active: Tensor | None
    ) -> Tensor:
        config = self.config
        clip = config.clip_norm if config.clip == "server" else None
        weights = torch.tensor(shares)
        if self.estimator == "exact":
            gradients = torch.stack([one.gradient for one in sent if one.gradient is not None])
            return weights.to(gradients) @ (gradients * _clip_scale(gradients, clip))
        scalars = torch.stack([one.scalars for one in sent if one.scalars is not None])
        weights = weights.to(scalars)
        scalars = scalars / (config.sigma * config.num_perturbations)
        if self.estimator == "moment":
            draws = [one.draw for one in sent if one.draw is not None]
            if config.perturbations == "shared":
                if any(draw is not draws[0] for draw in draws):
                    raise Skip(DRAWN_APART)
                return draws[0].combine(weights @ scalars)
            return sum(
                (draw.combine(w * row) for draw, w, row in zip(draws, weights, scalars, strict=True)), weights[0] * 0
            )
        count, kept = scalars.shape[1], size if active is None else len(active)
        if config.perturbations == "shared" and clip is None:
            return _combine((weights @ scalars)[None], self._chunks(0, count, size, active, scalars.device), kept)[0]
        if config.perturbations == "shared":
            each = _combine(scalars, self._chunks(0, count, size, active, scalars.device), kept)
        else:
            each = torch.cat([
                _combine(row[None], self._chunks(client, count, size, active, scalars.device), kept)
                for client, row in zip(clients, scalars, strict=True)
            ])  # fmt: skip
        return weights @ (each * _clip_scale(each, clip))

    def _chunks(
        self, client: int, count: int, size: int, active: Tensor | None, device: torch.device
    ) -> Iterable[Tensor]:
        """Return the first `count` directions of a client, CHUNK after CHUNK."""
        directions = self.directions(client)
        if self.estimator == "directional" and active is None and count * size <= HELD:
            return _held(directions, count, size, device)
        return (directions.generate(first, number, (0, size), active, device) for first, number in _spans(count))

    def _finite_differences(
        self, model: nn.Module, batches: Sequence[Batch], clients: Sequence[int], mask: Mask | None, map: Map
    ) -> list[Tensor]:
        vector = flat_parameters(model)
        received = vector.clone() if len(batches) > 1 else None

        def of_one(given: tuple[int, Batch]) -> Tensor:
            client, batch = given
            scalars = finite_differences(model, batch, self.directions(client), self.config, mask)
            if received is not None:
                vector.copy_(received)
            return scalars

        return map(of_one, zip(clients, batches, strict=True))

    def _draw(self, gradients: Tensor, clients: Sequence[int]) -> list[Sent]:
        count, sigma = self.config.num_perturbations, self.config.sigma
        if self.config.perturbations == "shared":
            together = moment.draw(gradients, count, self.directions(0).key(0))
            return [Sent(sigma * row, draw=together) for row in together.scalars(gradients)]
        draws = [
            moment.draw(row[None], count, self.directions(c).key(0)) for c, row in zip(clients, gradients, strict=True)
        ]
        return [Sent(sigma * one.scalars(row[None])[0], draw=one) for one, row in zip(draws, gradients, strict=True)]

    def _clipped_scalars(
        self, model: nn.Module, scalars: Sequence[Tensor], clients: Sequence[int], mask: Mask | None
    ) -> list[Sent]:
        """Scale each client's scalars so that its own estimate keeps the clip, where the clients do that."""
        if self.config.clip != "client":
            return [Sent(one) for one in scalars]
        plain = replace(self, config=replace(self.config, clip="none"))
        estimates = [plain.estimate([Sent(s)], [1.0], [c], model, mask) for c, s in zip(clients, scalars, strict=True)]
        scale = _clip_scale(torch.stack(estimates), self.config.clip_norm)
        return [Sent(one * factor) for one, factor in zip(scalars, scale, strict=True)]


def _clip_scale(rows: Tensor, norm: float | None) -> Tensor:
    """Return for every row [C, P] the factor [C, 1] that brings its infinity norm down to `norm`, at most 1."""
    if norm is None:
        return torch.ones(len(rows), 1, dtype=rows.dtype, device=rows.device)
    return (norm / rows.abs().amax(1, keepdim=True).clamp_min(1e-30)).clamp_max(1.0)


def _spans(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, CHUNK):
        yield first, min(CHUNK, count - first)


@lru_cache(maxsize=1)
def _held(directions: Directions, count: int, size: int, device: torch.device) -> list[Tensor]:
    return [directions.generate(first, number, (0, size), None, device) for first, number in _spans(count)]


def _project(gradients: Tensor, chunks: Iterable[Tensor]) -> Tensor:
    """Return G E^T [C, K] for gradients G [C, P] and E [K, P] in chunks: one pass for all clients."""
    return torch.cat([gradients @ e.T.to(gradients.dtype) for e in chunks], dim=1)


def _combine(weights: Tensor, chunks: Iterable[Tensor], kept: int) -> Tensor:
    """Return the sums over k of weights_ck e_k, [C, P] for weights [C, K] and E [K, P = `kept`] in chunks."""
    sums = torch.zeros(len(weights), kept, dtype=weights.dtype, device=weights.device)
    for some, e in zip(weights.split(CHUNK, dim=1), chunks, strict=True):
        sums.addmm_(some, e.to(weights.dtype))
    return sums

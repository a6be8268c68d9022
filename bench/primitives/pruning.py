"""Foresight pruning: how dense the mask is at each iteration, and which weights a score keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from fedfore.errors import ConfigError, Diverged
from fedfore.masks import Mask, Shapes, erk_densities, uniform_densities
from fedfore.primitives.flat import kept_entries

Schedule = Literal["exponential", "linear", "inverse"]

ALLOCATIONS: Mapping[str, Callable[[Shapes, float], dict[str, float]]] = {
    "erk": erk_densities,
    "uniform": uniform_densities,
}
"""Layer densities from the layers' shapes alone; positions are random."""


def density_at(schedule: Schedule, iteration: int, iterations: int, density: float) -> float:
    """Return the density after `iteration` of `iterations` (1, 2, ...), the last one being `density`, d.

    With s = iteration / iterations: `exponential` d^s, `linear` 1 - (1 - d) s, `inverse` 1 / (1 + (1/d - 1) s), in
    which the compression grows linearly.
    """
    share = iteration / iterations
    if schedule == "exponential":
        return density**share
    if schedule == "linear":
        return 1 - (1 - density) * share
    return 1 / (1 + (1 / density - 1) * share)


def keep_top(
    scores: Mapping[str, Tensor],
    count: int,
    previous: Mask | None,
    generator: torch.Generator,
    min_layer_weights: int = 1,
) -> Mask:
    """Return the mask of exactly `count` weights with the largest scores of all layers, among those of `previous`.

    Ties are broken at random by `generator`, since votes tie in masses and their order would favour early layers. Every
    layer keeps its best `min_layer_weights` first, or all that it has. Raises ConfigError where a layer would keep
    nothing and where `count` is too small for that guard, Diverged where a score is not finite.
    """
    values = torch.cat([scores[name].detach().reshape(-1) for name in scores]).cpu()
    if not bool(torch.isfinite(values).all()):
        raise Diverged("A pruning score is not finite; try a smaller noise or other inputs.")
    shapes = {name: value.shape for name, value in scores.items()}
    sizes = torch.tensor([shape.numel() for shape in shapes.values()])
    order = torch.randperm(len(values), generator=generator)
    if previous is not None:
        order = order[kept_entries(shapes, previous, order.device)[order]]
    order = order[values[order].argsort(descending=True, stable=True)]
    layer = torch.arange(len(sizes)).repeat_interleave(sizes)[order]
    guarded = torch.zeros(len(order), dtype=torch.bool)
    for number in range(len(sizes)):
        guarded[(layer == number).nonzero()[:min_layer_weights]] = True
    if count < int(guarded.sum()):
        raise ConfigError(
            f"{count} weights are too few for {min_layer_weights} in each of {len(sizes)} layers; "
            "ask for a lower sparsity or set a smaller min_layer_weights."
        )
    kept = torch.zeros(len(values), dtype=torch.bool)
    kept[torch.cat([order[guarded], order[~guarded]])[:count]] = True
    mask = Mask(from_entries(kept, shapes, None))
    for name, number in mask.layer_kept.items():
        if number == 0:
            raise ConfigError(f'Pruning to {count} weights emptied layer "{name}"; set min_layer_weights >= 1.')
    return mask


def shuffled(mask: Mask, generator: torch.Generator) -> Mask:
    """Return a mask with the same layer densities and uniformly random positions."""
    return Mask({
        name: layer.reshape(-1)[torch.randperm(layer.numel(), generator=generator).to(layer.device)].view(layer.shape)
        for name, layer in mask.items()
    })  # fmt: skip


def to_entries(tensors: Mapping[str, Tensor], mask: Mask | None) -> Tensor:
    """Return the entries [kept] of the tensors of all layers that the mask keeps, one layer after the other."""
    return torch.cat([(tensor if mask is None else tensor[mask[name]]).reshape(-1) for name, tensor in tensors.items()])


def from_entries(entries: Tensor, shapes: Shapes, mask: Mask | None) -> dict[str, Tensor]:
    """Return the tensors that `to_entries` took the entries from, 0 where the mask prunes."""
    if mask is not None:
        kept = kept_entries(shapes, mask, entries.device)
        entries = torch.zeros(len(kept), dtype=entries.dtype, device=entries.device).masked_scatter_(kept, entries)
    parts = entries.split([shape.numel() for shape in shapes.values()])
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

"""Masks over prunable weights: build, validate, apply, measure; and how a density is shared out between layers.

Prunable weights are the weights of convolutions and linear layers, shortcuts and classifier included; never biases,
never normalisation, and never what the model freezes (requires_grad = False). Sparsity is the fraction of zeros among
them, density is one minus sparsity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fedfore.errors import ConfigError, ContractError

PRUNABLE_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
Shapes = Mapping[str, torch.Size]


def prunable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the prunable weights of `model` by parameter name, in the model's order."""
    return {
        f"{name}.weight" if name else "weight": module.weight
        for name, module in model.named_modules()
        if isinstance(module, PRUNABLE_LAYERS) and module.weight.requires_grad
    }


def prunable_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of every prunable weight of `model` by parameter name."""
    return {name: weight.shape for name, weight in prunable_weights(model).items()}


def dead_channels(weight: Tensor) -> Tensor:
    """Return for every output channel of a weight [out, ...] whether all of its weights are zero: boolean [out]."""
    return ~weight.detach().flatten(1).bool().any(1)


class Mask(Mapping[str, Tensor]):
    """An immutable mask: for every prunable weight a boolean tensor of its shape, True where the weight is kept.

    Raises ContractError (`mask_type`) for a layer that is no boolean tensor, and for no layer at all.
    """

    def __init__(self, layers: Mapping[str, Tensor]) -> None:
        if not layers:
            raise ContractError("mask_type", "A mask needs at least one layer; return None for a dense model.")
        for name, layer in layers.items():
            if not isinstance(layer, Tensor) or layer.dtype != torch.bool:
                kind = layer.dtype if isinstance(layer, Tensor) else type(layer).__name__
                raise ContractError("mask_type", f'A mask holds boolean tensors, but layer "{name}" is {kind}.')
        self._layers = {name: layer.clone() for name, layer in layers.items()}
        self.size = sum(layer.numel() for layer in layers.values())
        self.layer_kept = {name: int(layer.sum()) for name, layer in layers.items()}
        self.kept = sum(self.layer_kept.values())

    def __getitem__(self, name: str) -> Tensor:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def density(self) -> float:
        """Kept weights / prunable weights."""
        return self.kept / self.size

    @property
    def sparsity(self) -> float:
        """Zeros / prunable weights."""
        return 1.0 - self.density

    def layer_densities(self) -> dict[str, float]:
        """Return kept / size of every layer."""
        return {name: self.layer_kept[name] / layer.numel() for name, layer in self.items()}

    def same_as(self, other: Mask | None) -> bool:
        """Return whether both masks keep the same weights."""
        return other is self or (
            other is not None and list(self) == list(other) and all(torch.equal(self[n], other[n]) for n in self)
        )

    def within(self, other: Mask | None) -> bool:
        """Return whether every weight that this mask keeps is kept by `other` too (None keeps all)."""
        return other is None or not any(bool((self[n] & ~other[n]).any()) for n in self)

    def to(self, device: torch.device) -> Mask:
        """Return the same mask on `device`."""
        return Mask({name: layer.to(device) for name, layer in self.items()})

    @torch.no_grad()
    def apply_(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the pruned entries of the named tensors to zero, in place."""
        for name, layer in self.items():
            tensors[name].mul_(layer)

    @torch.no_grad()
    def leak(self, tensors: Mapping[str, Tensor]) -> str | None:
        """Return the name of the first tensor with a non-zero pruned entry, or None."""
        for name, layer in self.items():
            if name in tensors and torch.count_nonzero(tensors[name]) != torch.count_nonzero(tensors[name] * layer):
                return name
        return None

    def check_fits(self, model: nn.Module) -> None:
        """Raise ContractError (`mask_shape`) unless the mask has exactly the model's prunable weights and shapes."""
        shapes = prunable_shapes(model)
        if set(shapes) != set(self):
            odd = sorted(set(shapes) ^ set(self))[0]
            raise ContractError(
                "mask_shape",
                f'The mask and the prunable weights differ in "{odd}"; '
                "a mask names every prunable weight exactly as model.named_parameters() does.",
            )
        for name, shape in shapes.items():
            if self[name].shape != shape:
                raise ContractError(
                    "mask_shape", f'The mask of "{name}" has shape {tuple(self[name].shape)}, not {tuple(shape)}.'
                )


def exact_counts(shapes: Shapes, densities: Mapping[str, float]) -> dict[str, int]:
    """Round layer densities to weight counts whose total is the rounded total, by largest remainders.

    Every layer keeps at least one weight and at most all of them. Raises ConfigError for a density outside [0, 1].
    """
    for name, density in densities.items():
        if not 0.0 <= density <= 1.0:
            raise ConfigError(f'The density of layer "{name}" is {density}; a density lies in [0, 1].')
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    wanted = {name: densities[name] * size for name, size in sizes.items()}
    counts = {name: min(max(math.floor(wanted[name]), 1), sizes[name]) for name in sizes}
    missing = round(sum(wanted.values())) - sum(counts.values())
    by_remainder = sorted(sizes, key=lambda name: counts[name] - wanted[name])
    while missing > 0:
        for name in by_remainder:
            if missing > 0 and counts[name] < sizes[name]:
                counts[name] += 1
                missing -= 1
    while missing < 0 and any(count > 1 for count in counts.values()):
        for name in reversed(by_remainder):
            if missing < 0 and counts[name] > 1:
                counts[name] -= 1
                missing += 1
    return counts


def uniform_densities(shapes: Shapes, density: float) -> dict[str, float]:
    """Give every layer the same density."""
    return dict.fromkeys(shapes, density)


def erk_densities(shapes: Shapes, density: float) -> dict[str, float]:
    """Share `density` out by the Erdos-Renyi-kernel rule (Evci et al. 2020, RigL, section 3).

    A layer's density is proportional to (sum of its dimensions) / (product of its dimensions); layers that would exceed
    1 are dense and the rest is shared out again. Raises ConfigError for a density outside (0, 1].
    """
    if not 0.0 < density <= 1.0:
        raise ConfigError(f"A density lies in (0, 1], got {density}; use a sparsity in [0, 1).")
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    total = density * sum(shape.numel() for shape in shapes.values())
    full: set[str] = set()
    while True:
        open_layers = [name for name in shapes if name not in full]
        budget = total - sum(shapes[name].numel() for name in full)
        scale = budget / sum(raw[name] * shapes[name].numel() for name in open_layers) if open_layers else 0.0
        over = [name for name in open_layers if scale * raw[name] > 1.0]
        if not over:
            return {name: 1.0 if name in full else scale * raw[name] for name in shapes}
        full.update(over)


def random_mask(shapes: Shapes, densities: Mapping[str, float], generator: torch.Generator) -> Mask:
    """Keep a uniformly random set of weights in every layer, of exactly `exact_counts(shapes, densities)` weights."""
    layers = {}
    for name, count in exact_counts(shapes, densities).items():
        layer = torch.zeros(shapes[name].numel(), dtype=torch.bool)
        layer[torch.randperm(layer.numel(), generator=generator)[:count]] = True
        layers[name] = layer.reshape(shapes[name])
    return Mask(layers)


def erk_mask(model: nn.Module, sparsity: float, generator: torch.Generator) -> Mask | None:
    """Return a random mask with ERK layer densities, or None (dense) at sparsity 0."""
    if sparsity == 0:
        return None
    shapes = prunable_shapes(model)
    return random_mask(shapes, erk_densities(shapes, 1 - sparsity), generator)

"""A model's parameters as one flat vector of which they are views.

One vector makes a copy, a perturbation or a server step one operation; a coordinate's place in it, the dense index,
is the same under every mask.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedfore.masks import Mask


@torch.no_grad()
def flat_parameters(model: nn.Module) -> Tensor:
    """Return the vector [n] behind the parameters of `model`, making them views of it first where they are not.

    Writing to the vector writes to the parameters. Order: `model.parameters()`.
    """
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    vector = parameters[0].data.new_empty(0).set_(parameters[0].untyped_storage(), 0, (size,))  # type: ignore[call-overload]
    offset = 0
    for parameter in parameters:
        placed = parameter.data_ptr() == vector.data_ptr() + offset * vector.element_size()
        if not (placed and parameter.is_contiguous()):
            return _flatten(parameters)
        offset += parameter.numel()
    return vector


def _flatten(parameters: list[nn.Parameter]) -> Tensor:
    vector = torch.cat([p.detach().reshape(-1) for p in parameters])
    offset = 0
    for parameter in parameters:
        parameter.data = vector[offset : offset + parameter.numel()].view(parameter.shape)
        offset += parameter.numel()
    return vector


def kept_entries(shapes: Mapping[str, torch.Size], mask: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Return for every entry of tensors of these shapes, one after the other, whether it may change: boolean [n].

    Entries that the mask prunes may not; all others may.
    """
    return torch.cat([
        mask[name].reshape(-1).to(device)
        if name in mask
        else torch.ones(shape.numel(), dtype=torch.bool, device=device)
        for name, shape in shapes.items()
    ])  # fmt: skip


def kept_parameters(model: nn.Module, mask: Mask | None) -> Tensor | None:
    """Return for every entry of the flat parameter vector of `model` whether it may change: boolean [n].

    Entries that the mask prunes and frozen parameters may not; None means that all may.
    """
    parameters = dict(model.named_parameters())
    trained = [p.requires_grad for p in parameters.values()]
    if mask is None and all(trained):
        return None
    device = next(iter(parameters.values())).device
    kept = kept_entries({name: p.shape for name, p in parameters.items()}, mask or {}, device)
    for entries, may in zip(kept.split([p.numel() for p in parameters.values()]), trained, strict=True):
        entries.logical_and_(torch.tensor(may, device=device))
    return kept


def active_coordinates(model: nn.Module, mask: Mask | None) -> Tensor | None:
    """Return the sorted dense indices [P] of the parameters that may change; None means all of them."""
    kept = kept_parameters(model, mask)
    return None if kept is None else kept.nonzero().squeeze(1)


def select(vector: Tensor, active: Tensor | None) -> Tensor:
    """Return the active entries [..., P] of `vector` [..., n]."""
    return vector if active is None else vector[..., active]


def named_views(model: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Return the parts of `vector` [n] by parameter name and in the parameters' shapes."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    parts = vector.split([p.numel() for p in parameters])
    return {name: part.view(p.shape) for name, part, p in zip(names, parts, parameters, strict=True)}


def float_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the floating-point buffers of `model` by name: they travel and are averaged like weights."""
    return {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what a model sends: its parameters and float buffers by name, detached and not copied."""
    return {name: p.detach() for name, p in model.named_parameters()} | float_buffers(model)


@torch.no_grad()
def load_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors`, named as `model_tensors` does, into `model`."""
    own = model_tensors(model)
    for name, value in tensors.items():
        own[name].copy_(value)

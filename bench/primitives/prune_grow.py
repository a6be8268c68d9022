"""Dynamic pruning at constant density: when masks are adjusted, by how much, and which weights leave and come back.

In an adjustment a layer prunes its a_l active weights of smallest magnitude and grows the a_l pruned ones of largest
gradient (Evci et al. 2020, RigL, section 3). A layer's weights are named by their flat indices in the dense weight,
under every mask; ties go to the lower index. A grown weight starts at zero, because a masked model holds zero there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fedfore.cell import Fraction
from fedfore.masks import Mask
from fedfore.primitives.accounting import dense_gradients
from fedfore.primitives.keys import Key
from fedfore.primitives.local_sgd import LocalSGDConfig, forward_pass, losses

_ROUNDING = 1e-9
_ANNOUNCED = "adjustment"
_VALUES, _INDICES = "gradient_values", "gradient_indices"


@dataclass(frozen=True)
class AdjustmentConfig:
    """The keys of dynamic pruning."""

    adjust_every: Annotated[PositiveInt | Fraction, Key(period=True)] = 0.02
    """Interval between adjustments: rounds (a whole number), or a fraction of the budget, of which 1.0 never adjusts.
    At least two rounds, so that plain training lies between adjustments.
    """
    adjust_until: PositiveInt | Fraction = 0.6
    """End of adjusting, likewise."""
    adjust_rate: Annotated[float, Field(ge=0.0, le=0.5)] = 0.15
    """A layer moves adjust_rate (1 + cos(pi elapsed)) of its active weights, `elapsed` running from 0 to 1 at
    `adjust_until`.
    """
    gradient_batches: PositiveInt = 1
    """Mini-batches, drawn after local training, over which a device averages the dense gradient."""


@dataclass(frozen=True)
class Adjustment:
    """One adjustment: its number, counted from 0, and how much of the time for adjusting has elapsed, in [0, 1)."""

    number: int
    elapsed: float

    def quotas(self, rate: float, mask: Mask, layers: Iterable[str]) -> dict[str, int]:
        """Return a_l of every layer that exchanges any weights.

        a_l = floor(rate (1 + cos(pi elapsed)) active), and at most all that are pruned.
        """
        share = rate * (1.0 + math.cos(math.pi * self.elapsed))
        active = {name: mask.layer_kept[name] for name in layers}
        counts = {
            name: min(math.floor(share * kept + _ROUNDING), mask[name].numel() - kept) for name, kept in active.items()
        }
        return {name: count for name, count in counts.items() if count > 0}


def announce(config: AdjustmentConfig, round: int, progress: float, state: dict[str, Any]) -> dict[str, Tensor]:
    """Decide on the server whether a training round adjusts; return what to add to the broadcast's tensors.

    The first round to start at or after a positive multiple of `adjust_every` adjusts, if it starts before
    `adjust_until`. Under a budget of data passes a round's length depends on its cohort, so a device cannot know this
    from `round` and `progress`: the server remembers the last multiple in `state` and sends 16 bytes, the bits of two
    float64 as int64, which no `wire_precision` rounds: both sides compute with the same values. Where rounds are so
    long that a multiple of a fraction falls due right after an adjustment, a round of plain training comes first.
    """
    state.pop(_ANNOUNCED, None)
    reached = _falls_due(config, round, progress, state.get("multiples_reached", 0))
    waits = isinstance(config.adjust_every, float) and state.get("adjusted_round") == round - 1
    if reached is None or waits:
        return {}
    number = state.get("adjustments", 0)
    state |= {"multiples_reached": reached, "adjustments": number + 1, "adjusted_round": round}
    elapsed = _position(config.adjust_until, round, progress)
    state[_ANNOUNCED] = torch.tensor([number, elapsed], dtype=torch.float64).view(torch.int64)
    return {_ANNOUNCED: state[_ANNOUNCED]}


def first_crowded(config: AdjustmentConfig, progress: Sequence[float]) -> int | None:
    """Return the first round in which an adjustment falls due right after another one, or None.

    `progress` are the fractions of the budget at which the rounds start.
    """
    adjusted, reached = -2, 0
    for round, spent in enumerate(progress):
        multiple = _falls_due(config, round, spent, reached)
        if multiple is not None:
            if adjusted == round - 1:
                return round
            adjusted, reached = round, multiple
    return None


def _falls_due(config: AdjustmentConfig, round: int, progress: float, reached: int) -> int | None:
    """Return the multiple of `adjust_every` for which a round adjusts, `reached` being the last one; None trains."""
    multiple = math.floor(_position(config.adjust_every, round, progress) + _ROUNDING)
    over = _position(config.adjust_until, round, progress) >= 1.0 - _ROUNDING
    return None if over or multiple <= reached else multiple


def announced(tensors: Mapping[str, Any]) -> Adjustment | None:
    """Return this round's adjustment from a device's `ctx.received` or the server's `ctx.state`; None trains only."""
    if _ANNOUNCED not in tensors:
        return None
    number, elapsed = tensors[_ANNOUNCED].view(torch.float64).tolist()
    return Adjustment(int(number), elapsed)


def _position(unit: int | float, round: int, progress: float) -> float:
    return (round if isinstance(unit, int) else progress) / unit


def lowest_active(weight: Tensor, kept: Tensor, count: int) -> Tensor:
    """Return the ascending flat indices [count] of the active weights of smallest magnitude."""
    return _largest(weight.detach().abs().neg_(), kept, count)


def highest_pruned(gradient: Tensor, kept: Tensor, count: int) -> Tensor:
    """Return the ascending flat indices [count] of the pruned weights of largest gradient magnitude."""
    return _largest(gradient.abs(), ~kept, count)


def _largest(scores: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return the ascending flat indices of the `count` candidates (all, if they are fewer) of largest score.

    Overwrites `scores`. NaN counts as the largest, so that a diverging device still sends what is expected of it.
    """
    count = min(count, int(candidates.sum()))
    if count == 0:
        return torch.empty(0, dtype=torch.long, device=scores.device)
    finite = scores.reshape(-1).nan_to_num_(nan=math.inf, posinf=math.inf)
    values = finite.masked_fill_(~candidates.reshape(-1), -math.inf)
    least = values.topk(count, sorted=False).values.min()
    above = (values > least).nonzero().squeeze(1)
    level = (values == least).nonzero().squeeze(1)[: count - len(above)]
    return torch.cat([above, level]).sort().values


def exchange(mask: Mask, pruned: Mapping[str, Tensor], grown: Mapping[str, Tensor]) -> Mask:
    """Return the mask without the `pruned` and with the `grown` weights, both flat indices by layer name."""
    layers = {name: layer.reshape(-1).clone() for name, layer in mask.items()}
    for name, indices in pruned.items():
        layers[name][indices] = False
    for name, indices in grown.items():
        layers[name][indices] = True
    return Mask({name: layer.reshape(mask[name].shape) for name, layer in layers.items()})


def prune_and_grow(
    mask: Mask, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], quotas: Mapping[str, int]
) -> Mask:
    """Return the mask after every layer of `quotas` pruned its smallest weights and grew those of largest gradient.

    Both choices are made under the present mask, so that a weight pruned now cannot come straight back.
    """
    return exchange(
        mask,
        pruned={name: lowest_active(weights[name], mask[name], count) for name, count in quotas.items()},
        grown={name: highest_pruned(gradients[name], mask[name], count) for name, count in quotas.items()},
    )


def weight_gradients(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], layers: Collection[str], config: LocalSGDConfig
) -> dict[str, Tensor]:
    """Return the dense gradients of the mean loss over `batches` with respect to the named weights, and only these.

    They are taken with the memory options of local training.

    Raises KeyError for a name that is no parameter of `model`.
    """
    parameters = dict(model.named_parameters())
    weights = {name: parameters[name] for name in layers}
    forward = forward_pass(model, config)
    examples = 0
    for x, y in batches:
        for loss in losses(forward, x, y, config.micro_batch):
            with dense_gradients():
                (loss * len(y)).backward(inputs=list(weights.values()))
        examples += len(y)
    gradients = {}
    for name, weight in weights.items():
        found = torch.zeros_like(weight, requires_grad=False) if weight.grad is None else weight.grad
        gradients[name] = found.div_(examples)
        weight.grad = None
    return gradients


def pack_gradients(gradients: dict[str, Tensor], mask: Mask, quotas: Mapping[str, int]) -> dict[str, Tensor]:
    """Return the message of a device's a_l largest gradients over pruned weights: values and int32 flat indices.

    Layers follow each other in the order of `quotas`. Empties `gradients` layer by layer, to keep the peak low.
    """
    values, indices = [], []
    for name, count in quotas.items():
        gradient = gradients.pop(name)
        chosen = highest_pruned(gradient, mask[name], count)
        values.append(gradient.reshape(-1)[chosen])
        indices.append(chosen.to(torch.int32))
    return {_VALUES: torch.cat(values), _INDICES: torch.cat(indices)}


def sum_gradients(
    messages: Sequence[Mapping[str, Tensor]], shares: Sequence[float], mask: Mask, quotas: Mapping[str, int]
) -> dict[str, Tensor]:
    """Return by layer the sum, weighted by `shares`, of what `pack_gradients` made on the devices; zero elsewhere."""
    counts = list(quotas.values())
    sums = {name: torch.zeros(mask[name].shape, device=mask[name].device) for name in quotas}
    for message, share in zip(messages, shares, strict=True):
        parts = zip(quotas, message[_VALUES].split(counts), message[_INDICES].split(counts), strict=True)
        for name, values, indices in parts:
            sums[name].view(-1)[indices.long()] += share * values
    return sums


def pack_mask(mask: Mask) -> Tensor:
    """Return the mask's layers one after the other, boolean [n_p]: on the wire a bit a weight."""
    return torch.cat([layer.reshape(-1) for layer in mask.values()])


def unpack_mask(bits: Tensor, shapes: Mapping[str, torch.Size]) -> Mask:
    """Return the mask that `pack_mask` flattened to bits [n_p]."""
    parts = bits.split([shape.numel() for shape in shapes.values()])
    return Mask({name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)})

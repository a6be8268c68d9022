"""Local training by backpropagation, and the weighted mean that ends a round of federated averaging."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.masks import Mask
from fedfore.primitives.accounting import account
from fedfore.primitives.checkpointing import checkpointed
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.keys import Key

Correction = Callable[[str, Tensor], None]
"""Given a parameter's name and the parameter, changes its gradient in place; called once a step."""


@dataclass(frozen=True)
class LocalSGDConfig:
    """The keys of local SGD."""

    lr: PositiveFloat = 0.05
    """Learning rate."""
    momentum: NonNegativeFloat = 0.0
    """Momentum of SGD; it starts anew with each local training."""
    weight_decay: NonNegativeFloat = 0.0
    """Factor of the L2 penalty's gradient, added to the gradient."""
    local_epochs: PositiveInt | None = None
    """Epochs of a client in a round. Give this or `local_steps`; with neither it is one epoch."""
    local_steps: Annotated[PositiveInt | None, Key(local_steps=True)] = None
    """Mini-batches of a client in a round, instead of whole epochs."""
    lr_schedule: Literal["constant", "cosine", "exponential"] = "constant"
    """Schedule of the rate over rounds: `cosine` falls to 0 at the end of the budget, `exponential` is times `lr_decay`
    each round.
    """
    lr_decay: PositiveFloat = 0.99
    """Factor of the `exponential` schedule."""
    memory: Literal["none", "checkpoint", "accumulate", "optimizer_in_backward"] = "none"
    """How a device saves memory without changing the result: `checkpoint` keeps the inputs of the model's segments only
    and runs all but the last again; `accumulate` adds up gradients of micro-batches, over which batch norm then takes
    its statistics; `optimizer_in_backward` updates each parameter as soon as it has a gradient, and frees that.
    """
    micro_batch: PositiveInt | None = None
    """Examples of a micro-batch; with `accumulate`, and only with it."""

    def __post_init__(self) -> None:
        if self.local_epochs is not None and self.local_steps is not None:
            raise ValueError("give local_epochs or local_steps, not both")
        if (self.memory == "accumulate") != (self.micro_batch is not None):
            raise ValueError('give micro_batch with memory = "accumulate", and only with it')

    def steps(self, num_examples: int, batch_size: int) -> int:
        """Return the number of local steps on a device that holds `num_examples`."""
        return self.local_steps or (self.local_epochs or 1) * -(-num_examples // batch_size)

    def lr_at(self, round: int, progress: float) -> float:
        """Return the learning rate of a round, `progress` being the fraction of the budget already spent."""
        if self.lr_schedule == "cosine":
            return self.lr * (1.0 + math.cos(math.pi * min(progress, 1.0))) / 2.0
        return self.lr * self.lr_decay**round if self.lr_schedule == "exponential" else self.lr


def local_sgd(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    config: LocalSGDConfig,
    lr: float | Tensor,
    mask: Mask | None,
    correct: Correction | None = None,
) -> None:
    """Train `model` in place on `batches` by SGD with momentum and weight decay; pruned weights stay exactly zero.

    A scalar tensor as `lr` is read anew at every step. `correct` changes the gradient of each parameter before the
    step, such as by a proximal term or a control variate; whatever it adds where the mask prunes is taken away.
    """
    forward = forward_pass(model, config)
    parameters: dict[str, Tensor] = {name: own for name, own in model.named_parameters() if own.requires_grad}

    def prepare(name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            if correct is not None:
                with torch.no_grad():
                    correct(name, parameter)
            if mask is not None and name in mask:
                parameter.grad.mul_(mask[name])

    if config.memory == "optimizer_in_backward":
        with _updates_in_backward(parameters, prepare, config, lr):
            for x, y in batches:
                for loss in losses(forward, x, y, config.micro_batch):
                    loss.backward()
        return
    optimizer = _optimizer(parameters.values(), config, lr)
    for x, y in batches:
        for loss in losses(forward, x, y, config.micro_batch):
            loss.backward()
        _update(optimizer, parameters, prepare)


def forward_pass(model: nn.Module, config: LocalSGDConfig) -> Callable[[Tensor], Tensor]:
    """Return the model's forward pass, which keeps the activations that the configured `memory` lets it keep."""
    return checkpointed(model) if config.memory == "checkpoint" else model


def losses(forward: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, micro_batch: int | None) -> Iterator[Tensor]:
    """Yield the losses, one a micro-batch, whose sum is the mean loss of a mini-batch; free each before the next."""
    size = micro_batch or len(y)
    for part_x, part_y in zip(x.split(size), y.split(size), strict=True):
        yield cross_entropy(forward(part_x), part_y) * (len(part_y) / len(y))


def _optimizer(parameters: Iterable[Tensor], config: LocalSGDConfig, lr: float | Tensor) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, lr=lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def _update(optimizer: torch.optim.SGD, parameters: Mapping[str, Tensor], prepare: Correction) -> None:
    """Take a step along the gradients of `parameters`, each prepared before, and free them."""
    for name, parameter in parameters.items():
        prepare(name, parameter)
    with account("optimizer"):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


@contextmanager
def _updates_in_backward(
    parameters: Mapping[str, Tensor], prepare: Correction, config: LocalSGDConfig, lr: float | Tensor
) -> Iterator[None]:
    optimizers = {name: _optimizer([parameter], config, lr) for name, parameter in parameters.items()}

    def update(name: str, parameter: Tensor) -> None:
        _update(optimizers[name], {name: parameter}, prepare)

    hooks = [
        parameter.register_post_accumulate_grad_hook(partial(update, name)) for name, parameter in parameters.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def weighted_mean_(model: nn.Module, received: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> None:
    """Set every parameter and float buffer of `model` to the mean of the received ones, weighted by `shares`."""
    for name, own in model_tensors(model).items():
        own.zero_()
        for tensors, share in zip(received, shares, strict=True):
            own.add_(tensors[name], alpha=share)

"""Activation checkpointing: less memory for one forward pass more (Chen et al. 2016, arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fedfore.errors import Skip
from fedfore.masks import prunable_weights
from fedfore.primitives.sequences import is_sequence, units


def segments(model: nn.Module) -> list[nn.Sequential]:
    """Cut a model into segments: each layer or block with prunable weights, and the norm, activation, pool behind it.

    A segment so never starts with an operation in place, which would change what the segment is run again on. Raises
    Skip unless `model` is one sequence.
    """
    if not (isinstance(model, nn.Sequential) and is_sequence(model)):
        raise Skip("checkpointing needs a model that is one nn.Sequential of layers and blocks")
    found: list[list[nn.Module]] = [[]]
    for unit in units(model):
        if prunable_weights(unit) and any(prunable_weights(earlier) for earlier in found[-1]):
            found.append([])
        found[-1].append(unit)
    return [nn.Sequential(*units) for units in found]


def checkpointed(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the forward pass of `model` that keeps the segments' inputs only; all but the last run again in backward.

    Gradients and running statistics are exactly those of `model`. Batch norm's count of batches goes up twice.
    """
    *parts, last = segments(model)

    def forward(x: Tensor) -> Tensor:
        for part in parts:
            contexts = partial(_contexts, part)
            x = checkpoint(part, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
        y: Tensor = last(x)
        return y

    return forward


def _contexts(part: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _frozen_running_statistics(part)


@contextmanager
def _frozen_running_statistics(part: nn.Module) -> Iterator[None]:
    norms = [module for module in part.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

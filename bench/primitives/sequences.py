"""Sequences of layers that are run one by one, however they are nested."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


class Chain(nn.Sequential):
    """An `nn.Sequential` that runs the layers of the sequences in it itself.

    A nested `nn.Sequential` keeps its input alive until its last layer is done, because its caller's frame does: on
    ResNet-20 a quarter of the memory of a forward pass. Hooks of the sequences inside are not called.
    """

    def forward(self, input: Tensor) -> Tensor:
        for unit in units(self):
            input = unit(input)
        return input


def units(sequence: nn.Sequential) -> Iterator[nn.Module]:
    """Yield the layers and blocks of `sequence` and of the sequences in it, in the order in which they run."""
    for child in sequence:
        if isinstance(child, nn.Sequential) and is_sequence(child):
            yield from units(child)
        else:
            yield child


def is_sequence(model: nn.Module) -> bool:
    """Return whether the forward pass of `model` is that of its children, one after the other."""
    return type(model).forward in (nn.Sequential.forward, Chain.forward)

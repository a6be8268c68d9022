"""NewMethod: what is new about it, and the paper it follows.

This file is a whole method, and its name is the file's. `BPFreeMethod` trains by forward passes alone: a device sends K
loss differences along random directions of weights that the mask keeps, and the server rebuilds the gradient from the
common seed. So a subclass may bring nothing but a mask, as this one does. To change the training itself, write
`client_update`, `client_updates` and `aggregate` anew; BPFreeMethod's are the pattern. All hooks and rules are in the
docstrings of `fedfore.api.Method` and what it names.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from fedfore.api import (
    BPFreeConfig,
    BPFreeMethod,
    Mask,
    ServerContext,
    erk_densities,
    prunable_shapes,
    random_mask,
    uniform_densities,
)


@dataclass(frozen=True)
class Config(BPFreeConfig):
    """The keys of BP-free training and your own: each has a type, which is checked, a default, and a sentence.

    A matrix sets one as `densities = "erk"` under `[params.<method>]`, or sweeps it as an axis.
    """

    densities: Literal["uniform", "erk"] = "uniform"
    """Densities of the mask's layers: all the same, or larger in small layers."""


class NewMethod(BPFreeMethod):
    """BP-free training under a random mask: the first line is what `fedfore ls methods` shows."""

    Config = Config
    uses: ClassVar = frozenset({"sparsity", "estimator"})
    """Axes of a matrix that mean something to it; without "sparsity" it runs once, as a reference line."""

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        """On the server, before anything is sent: return the first mask, or None for a dense model.

        `model` has the initial weights. A mask has a boolean tensor a prunable weight, by its name, and keeps
        1 - sparsity of all of them together, within 0.01. Random numbers come from `ctx.rng("method")`.
        """
        super().start(model, ctx)
        if ctx.cell.sparsity == 0:
            return None
        shapes = prunable_shapes(model)
        spread = uniform_densities if self.config.densities == "uniform" else erk_densities
        return random_mask(shapes, spread(shapes, 1 - ctx.cell.sparsity), ctx.rng("method"))

"""FedAvg under one random mask, drawn before training and never changed."""

from typing import ClassVar

from torch import nn

from fedfore.api import Mask, Method, ServerContext, erk_mask


class FedAvgERK(Method):
    """FedAvg under a static random mask with ERK layer densities.

    Erdos-Renyi-kernel densities as in RigL (Evci et al. 2020, arXiv 1911.11134, section 3).
    """

    uses: ClassVar = frozenset({"sparsity"})

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        return erk_mask(model, ctx.cell.sparsity, ctx.rng("method"))

"""FedAvg under one random mask, drawn before training and never changed."""

from typing import ClassVar

from torch import nn

from bench.api import Mask, Method, ServerContext, erk_densities, prunable_shapes, random_mask


class FedAvgERK(Method):
    """FedAvg under a static random mask with ERK layer densities (Evci et al. 2020, RigL, arXiv 1911.11134, section 3)."""

    uses: ClassVar = frozenset({"sparsity"})

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        if ctx.cell.sparsity == 0:
            return None
        shapes = prunable_shapes(model)
        return random_mask(shapes, erk_densities(shapes, 1 - ctx.cell.sparsity), ctx.rng("method"))

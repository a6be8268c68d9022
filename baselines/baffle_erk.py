"""BAFFLE under one random mask, drawn before training and never changed."""

from typing import ClassVar

from torch import nn

from fedfore.api import BPFreeMethod, Mask, ServerContext, erk_mask


class BaffleERK(BPFreeMethod):
    """BP-free training under a static random mask with ERK layer densities (Evci et al. 2020, RigL, section 3).

    The control of every foresight pruning: the same sparsity, no saliency. Its weights start as dense BAFFLE's do (see
    `Baffle`), by the protocol's initialiser, but a mask makes the network's function smaller: compare it with a dense
    network of tuned `init_scale`.
    """

    uses: ClassVar = frozenset({"sparsity", "estimator"})

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        super().start(model, ctx)
        return erk_mask(model, ctx.cell.sparsity, ctx.rng("method"))

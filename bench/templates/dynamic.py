"""NewMethod: what is new about it, and the paper it follows.

This file is a whole method, and its name is the file's. `DynamicPruningMethod` is FedAvg under a mask of constant
density, of which some rounds exchange weights: a subclass says which layers, what a device sends, and what the server
grows. Hooks that stay as they are need not be written. All hooks and rules are in the docstrings of
`fedfore.api.Method` and what it names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat
from torch import nn

from fedfore.api import (
    Client,
    ClientContext,
    DynamicPruningConfig,
    DynamicPruningMethod,
    Mask,
    Method,
    ServerContext,
    Update,
    shares,
)
from fedfore.primitives.prune_grow import prune_and_grow, sum_gradients


@dataclass(frozen=True)
class Config(DynamicPruningConfig):
    """The keys of local SGD and of adjustments, and your own: each has a type, which is checked, a default, a sentence.

    A matrix sets one as `exploration = 0.5` under `[params.<method>]`, or sweeps it as an axis.
    """

    exploration: NonNegativeFloat = 0.1
    """Deviation of the noise on the gradients by which weights grow, over the largest of the layer; 0 is without."""


class NewMethod(DynamicPruningMethod):
    """FedAvg under a moving mask that explores: the first line is what `fedfore ls methods` shows."""

    Config = Config

    def adjusted_layers(self, mask: Mask, number: int) -> Iterable[str]:
        """On both sides: return the names of the layers that adjustment `number` (0, 1, ...) exchanges weights in."""
        return mask

    def client_adjustment(
        self, model: nn.Module, client: Client, ctx: ClientContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Update:
        """On a device, in an adjustment: return its trained weights and what the server is to grow by.

        `quotas` says how many weights each layer exchanges. By default these are the layer's so many largest gradients
        over pruned weights, packed by `pack_gradients`; other rounds go to `client_update`.
        """
        return super().client_adjustment(model, client, ctx, mask, quotas)

    @torch.no_grad()
    def server_adjustment(
        self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Mask:
        """On the server, in an adjustment: change `model` and return the new mask, of the same density.

        The default averages the weights, prunes each layer's smallest and grows those of largest summed gradient.
        """
        Method.aggregate(self, model, updates, ctx)
        gradients = sum_gradients([update.tensors for update in updates], shares(updates), mask, quotas)
        generator = ctx.rng("method")
        for gradient in gradients.values():
            noise = torch.empty(gradient.shape).normal_(generator=generator).to(gradient)
            gradient.add_(noise, alpha=self.config.exploration * float(gradient.abs().max()))
        return prune_and_grow(mask, dict(model.named_parameters()), gradients, quotas)

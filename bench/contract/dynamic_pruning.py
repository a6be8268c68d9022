"""Dynamic pruning as a base class: federated training under a mask of constant density that some rounds adjust.

`DynamicPruningMethod` is to methods that prune and grow what `Method` is to those that train: a subclass states which
layers an adjustment works on, or what device and server do in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from fedfore.cell import Cell
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, Context, ServerContext
from fedfore.contract.exchange import Message, Update, shares
from fedfore.contract.method import Method
from fedfore.errors import ConfigError
from fedfore.masks import Mask, erk_mask
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.primitives.prune_grow import (
    Adjustment,
    AdjustmentConfig,
    announce,
    announced,
    first_crowded,
    pack_gradients,
    prune_and_grow,
    sum_gradients,
    weight_gradients,
)


@dataclass(frozen=True)
class DynamicPruningConfig(LocalSGDConfig, AdjustmentConfig):
    """Local SGD and adjustments."""


class DynamicPruningMethod(Method):
    """FedAvg under a mask that starts random, with ERK layer densities, and changes in adjustment rounds.

    Every `adjust_every` the server announces an adjustment, in which each of the `adjusted_layers` exchanges the a_l
    weights of its `quotas`. By default clients send their a_l largest gradients over pruned weights, taken after local
    training; the server prunes the a_l smallest of the averaged weights that were active, and grows the a_l largest of
    the summed gradients.
    """

    Config: ClassVar[type] = DynamicPruningConfig
    uses: ClassVar = frozenset({"sparsity"})
    grows: ClassVar = True

    def check(self, cell: Cell) -> None:
        """Raise ConfigError where adjustments would leave no round of plain training between them.

        How many rounds data passes are is known beforehand where clients train whole epochs; an interval in rounds does
        not depend on it.
        """
        super().check(cell)
        train, config = cell.train, self.config
        if cell.sparsity == 0 or train.budget == 0:
            return
        passes_per_round = (config.local_epochs or 1) * train.cohort_size / train.clients
        rounds = train.rounds or (math.ceil(train.budget / passes_per_round) if config.local_steps is None else None)
        crowded = first_crowded(config, [r / rounds for r in range(rounds)] if rounds else [0.0] * 3)
        if crowded is not None:
            share = f" ({_at_least(2 / rounds)} of the budget)" if rounds else ""
            raise ConfigError(
                f"params.{cell.method}.adjust_every = {config.adjust_every} adjusts the mask in rounds {crowded - 1} "
                f"and {crowded} with no plain training between them; give an interval of at least two rounds{share}, "
                "or 1.0, which never adjusts."
            )

    def adjusted_layers(self, mask: Mask, number: int) -> Iterable[str]:
        """Return the layers that adjustment `number` (0, 1, ...) works on; all, unless a subclass chooses."""
        return mask

    def client_adjustment(
        self, model: nn.Module, client: Client, ctx: ClientContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Update:
        """Do a device's work of an adjustment round."""
        update = super().client_update(model, client, ctx)
        gradients = weight_gradients(model, client.batches(steps=self.config.gradient_batches), quotas, self.config)
        return replace(update, tensors=pack_gradients(gradients, mask, quotas))

    def server_adjustment(
        self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Mask:
        """Change the server's model in an adjustment round and return the new mask."""
        super().aggregate(model, updates, ctx)
        gradients = sum_gradients([update.tensors for update in updates], shares(updates), mask, quotas)
        return prune_and_grow(mask, dict(model.named_parameters()), gradients, quotas)

    def adjustment(self, ctx: Context) -> Adjustment | None:
        """Return the adjustment that this round is, as the server has announced it; None where it only trains."""
        if isinstance(ctx, ServerContext):
            return announced(ctx.state_of(DynamicPruningMethod))
        return announced(ctx.received) if isinstance(ctx, ClientContext) else None

    def quotas(self, ctx: Context) -> dict[str, int]:
        """Return how many weights every layer exchanges in this round; nothing where it only trains."""
        adjustment = self.adjustment(ctx)
        if adjustment is None or ctx.mask is None:
            return {}
        layers = self.adjusted_layers(ctx.mask, adjustment.number)
        return adjustment.quotas(self.config.adjust_rate, ctx.mask, layers)

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        return erk_mask(model, ctx.cell.sparsity, ctx.rng("method"))

    def round_kind(self, ctx: Context) -> str:
        return "adjust" if self.quotas(ctx) else super().round_kind(ctx)

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        if ctx.mask is None:
            return Message()
        return Message(announce(self.config, ctx.round, ctx.progress, ctx.state_of(DynamicPruningMethod)))

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        quotas = self.quotas(ctx)
        if ctx.mask is None or not quotas:
            return super().client_update(model, client, ctx)
        return self.client_adjustment(model, client, ctx, ctx.mask, quotas)

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        quotas = self.quotas(ctx)
        if ctx.mask is None or not quotas:
            return super().aggregate(model, updates, ctx)
        return self.server_adjustment(model, updates, ctx, ctx.mask, quotas)


def _at_least(share: float) -> str:
    """Return `share` in two digits, rounded up, so that an interval of as much is no shorter."""
    unit = 10.0 ** (math.floor(math.log10(share)) - 1)
    return f"{math.ceil(share / unit - 1e-9) * unit:.2g}"

"""Top-k sparsified updates with error feedback (Stich et al. 2018, arXiv 1809.07599; Seide et al. 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from fedfore.api import Client, ClientContext, Fraction, Mask, Method, ServerContext, Update, shares
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    """Local SGD's keys, and one more."""

    kept: Fraction = 0.01
    """Share of an update's entries that a client sends, those of largest magnitude."""


class TopK(Method):
    """FedAvg whose clients send the largest entries of their update, and keep the rest for the next time."""

    Config = Config

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        config, vector = self.config, flat_parameters(model)
        received = vector.clone()
        batches = client.batches(steps=config.steps(client.num_examples, ctx.cell.train.batch_size))
        local_sgd(model, batches, config, config.lr_at(ctx.round, ctx.progress), ctx.mask)
        step = (vector - received).add_(client.state.get("left", 0))
        chosen = step.abs().topk(max(1, int(config.kept * len(step)))).indices
        sent = torch.zeros_like(step).index_copy_(0, chosen, step[chosen])
        client.state["left"] = step - sent
        return Update(client.num_examples, tensors={"step": sent})

    @torch.no_grad()
    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        for update, share in zip(updates, shares(updates), strict=True):
            flat_parameters(model).add_(update.tensors["step"], alpha=share)
        return None

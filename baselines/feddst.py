"""FedDST: every client adjusts its own mask, the server averages and prunes again (Bibikar et al. 2022, AAAI)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import nn

from fedfore.api import Client, ClientContext, DynamicPruningMethod, Mask, Method, ServerContext, Update, shares
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.local_sgd import local_sgd
from fedfore.primitives.prune_grow import (
    exchange,
    lowest_active,
    pack_mask,
    prune_and_grow,
    unpack_mask,
    weight_gradients,
)


class FedDST(DynamicPruningMethod):
    """Federated dynamic sparse training (arXiv 2112.09824): masks adjusted on the devices.

    FedAvg under a random ERK mask. In an adjustment round a client trains half of its steps, exchanges the a_l smallest
    weights of every layer for the a_l pruned ones of largest gradient, trains the other half under its own mask, and
    sends weights and mask. The server averages every weight over the clients that keep it, and prunes each layer's
    smallest averages back to the layer's density.

    A client's own mask travels as one bit a weight and its grown weights as a list beside the model, in which the
    weights that it pruned are zeros that are sent for nothing. Decisions of this suite: half of the steps (the released
    code adjusts after the last epoch, so that grown weights arrive as zeros and the server prunes most of them again);
    the share of FedTiny (the released commands start at 1% of the weights); one fresh mini-batch for the gradient;
    momentum starts anew after an adjustment; the first mask's positions are random (the released code keeps the largest
    initial weights, a larger function); only weights pruned before the adjustment grow (the released code takes the
    largest gradients of all weights, so that active ones may be "grown").
    """

    def client_adjustment(
        self, model: nn.Module, client: Client, ctx: ClientContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Update:
        config, lr = self.config, self.config.lr_at(ctx.round, ctx.progress)
        steps = config.steps(client.num_examples, ctx.cell.train.batch_size)
        batches = client.batches(steps=steps)
        local_sgd(model, islice(batches, steps // 2), config, lr, mask)

        weights = model_tensors(model)
        gradients = weight_gradients(model, client.batches(steps=config.gradient_batches), quotas, config)
        own = prune_and_grow(mask, weights, gradients, quotas)
        del gradients
        own.apply_(weights)
        local_sgd(model, batches, config, lr, own)

        bits = pack_mask(own)
        grown = torch.cat([weights[name].reshape(-1) for name in mask])[bits & ~pack_mask(mask)]
        mask.apply_(weights)
        return Update(client.num_examples, weights, tensors={"mask": bits, "grown": grown})

    @torch.no_grad()
    def server_adjustment(
        self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Mask:
        Method.aggregate(self, model, updates, ctx)
        before = pack_mask(mask)
        total, votes = torch.zeros(mask.size, device=ctx.device), torch.zeros(mask.size, device=ctx.device)
        for update, share in zip(updates, shares(updates), strict=True):
            assert update.weights is not None
            own, sent = update.tensors["mask"], torch.cat([update.weights[name].reshape(-1) for name in mask])
            sent.masked_scatter_(own & ~before, update.tensors["grown"])
            total.add_(sent, alpha=share)
            votes.add_(own, alpha=share)
        weights = dict(model.named_parameters())
        averages = torch.where(votes > 0, total / votes, 0.0).split([layer.numel() for layer in mask.values()])
        for name, average in zip(mask, averages, strict=True):
            weights[name].copy_(average.view_as(mask[name]))
        union = unpack_mask(votes > 0, {name: layer.shape for name, layer in mask.items()})
        surplus = {name: union.layer_kept[name] - mask.layer_kept[name] for name in mask}
        return exchange(union, {name: lowest_active(weights[name], union[name], n) for name, n in surplus.items()}, {})

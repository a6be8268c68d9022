"""Vanilla BAFFLE: backpropagation-free federated learning (Feng et al. 2023, arXiv 2301.12195)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from bench.api import Client, ClientContext, Context, Mask, Message, Method, ServerContext, Skip, Update, shares
from bench.primitives.flat import active_coordinates, flat_parameters
from bench.primitives.perturbations import Directions
from bench.primitives.server_optimizer import ServerAdamConfig, adam_step_
from bench.primitives.zeroth_order import Batch, ZerothOrderConfig, client_scalars, reconstruct


@dataclass(frozen=True)
class Config(ZerothOrderConfig, ServerAdamConfig):
    """Device side: `ZerothOrderConfig`. Server side: `ServerAdamConfig`."""


class Baffle(Method):
    """BAFFLE: K forward passes on perturbed weights, K scalars sent back, no backpropagation on a device.

    A round (section 3, algorithm 1): the server sends the model and one seed; every client evaluates K loss
    differences on one mini-batch along the seed's directions; the server averages the scalars by the clients' shares
    p_i, rebuilds g_hat from the same directions and takes one Adam step.

    As published: one seed for all clients, weights p_i, no clipping. Not here: the released code's independent
    directions, per-client clipping, equal weights and moving average. The paper leaves the server's optimizer open;
    Adam's betas and weight decay are the released code's.
    """

    Config = Config
    uses: ClassVar = frozenset({"estimator"})

    def prepare(self, model: nn.Module) -> nn.Module:
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            raise Skip("batch statistics change between forward passes of one step; choose a model with norm=group")
        return model

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"seed": torch.tensor(ctx.seed("perturbation"))})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        return self.client_updates(model, [client], ctx)[0]

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        batches = [Batch(*next(client.batches(steps=1))) for client in clients]
        directions = self._directions(int(ctx.received["seed"]), ctx)
        scalars = client_scalars(ctx.cell.estimator, model, batches, directions, self.config, ctx.mask)
        return [Update(client.num_examples, scalars=s) for client, s in zip(clients, scalars, strict=True)]

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        sent = torch.stack([update.scalars for update in updates if update.scalars is not None])
        scalars = torch.tensor(shares(updates), device=sent.device) @ sent
        weights = flat_parameters(model)
        directions = self._directions(ctx.seed("perturbation"), ctx)
        gradient = reconstruct(
            scalars, directions, self.config.sigma, len(weights), active_coordinates(model, ctx.mask)
        )
        adam_step_(weights, gradient, ctx.state, self.config, self.config.lr)
        return None

    def _directions(self, seed: int, ctx: Context) -> Directions:
        return Directions(seed, ctx.round, distribution=self.config.distribution)

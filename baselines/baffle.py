"""Vanilla BAFFLE: backpropagation-free federated learning (Feng et al. 2023, arXiv 2301.12195)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import nn

from bench.api import Cell, Client, ClientContext, Mask, Message, Method, ServerContext, Skip, Update, shares
from bench.primitives.flat import flat_parameters
from bench.primitives.gradients import Batch
from bench.primitives.server_optimizer import ServerAdamConfig, adam_step_
from bench.primitives.zeroth_order import Sent, Step, ZerothOrderConfig, check_estimator


@dataclass(frozen=True)
class Config(ZerothOrderConfig, ServerAdamConfig):
    """Device side: `ZerothOrderConfig`. Server side: `ServerAdamConfig`, and:

    weighting: clients count by their `examples` (the paper's p_i) or `equal`ly (the released code's 1/C).
    """

    weighting: Literal["examples", "equal"] = "examples"


class Baffle(Method):
    """BAFFLE: K forward passes on perturbed weights, K scalars sent back, no backpropagation on a device."""

    Config = Config
    uses: ClassVar = frozenset({"estimator"})

    def check(self, cell: Cell) -> None:
        check_estimator(cell.estimator, self.config)

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
        step = self._step(ctx.cell, int(ctx.received["seed"]), ctx.round)
        sent = step.send(model, batches, [client.id for client in clients], ctx.mask)
        return [_update(client, one) for client, one in zip(clients, sent, strict=True)]

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        step = self._step(ctx.cell, ctx.seed("perturbation"), ctx.round)
        weights = shares(updates) if self.config.weighting == "examples" else [1 / len(updates)] * len(updates)
        gradient = step.estimate([_sent(update) for update in updates], weights, ctx.cohort, model, ctx.mask)
        adam_step_(flat_parameters(model), gradient, ctx.state, self.config, self.config.lr)
        return None

    def _step(self, cell: Cell, seed: int, round: int) -> Step:
        return Step(cell.estimator or "finite_difference", self.config, seed, round)


def _update(client: Client, sent: Sent) -> Update:
    tensors = {} if sent.gradient is None else {"gradient": sent.gradient}
    return Update(client.num_examples, scalars=sent.scalars, tensors=tensors, bypass=sent.draw)


def _sent(update: Update) -> Sent:
    return Sent(update.scalars, update.tensors.get("gradient"), update.bypass)

"""SCAFFOLD (Karimireddy et al. 2020, arXiv 1910.06378): control variates against the drift of clients."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Mask, Message, Method, ServerContext, Update
from fedfore.primitives.flat import flat_parameters, model_tensors, named_views
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    """Local SGD's keys."""


class Scaffold(Method):
    """SCAFFOLD (algorithm 1, option II, global rate 1): local steps along g - c_i + c."""

    Config = Config

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"control": ctx.state.setdefault("control", torch.zeros_like(flat_parameters(model)))})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        config, rate = self.config, self.config.lr_at(ctx.round, ctx.progress)
        own = client.state.setdefault("control", torch.zeros_like(ctx.received["control"]))
        drift = named_views(model, ctx.received["control"] - own)
        received = flat_parameters(model).clone()

        def against_drift(name: str, parameter: Tensor) -> None:
            if parameter.grad is not None:
                parameter.grad.add_(drift[name])

        steps = config.steps(client.num_examples, ctx.cell.train.batch_size)
        local_sgd(model, client.batches(steps=steps), config, rate, ctx.mask, correct=against_drift)
        mean_gradient = (received - flat_parameters(model)) / (steps * rate)
        change = mean_gradient - ctx.received["control"]
        client.state["control"] = own + change
        return Update(client.num_examples, weights=model_tensors(model), tensors={"change": change})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        super().aggregate(model, updates, ctx)
        for update in updates:
            ctx.state["control"].add_(update.tensors["change"], alpha=1 / ctx.cell.train.clients)
        return None

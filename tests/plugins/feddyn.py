"""FedDyn (Acar et al. 2021, arXiv 2111.04263): a regulariser that aligns every client's optimum with the server's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Mask, Method, ServerContext, Update
from fedfore.primitives.flat import flat_parameters, model_tensors, named_views
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    """Local SGD's keys, and one more."""

    penalty: PositiveFloat = 0.1
    """Weight of the quadratic penalty: the paper's alpha."""


class FedDyn(Method):
    """FedDyn (algorithm 1): local steps along g - h_i + alpha (w - w_server), the server corrected by the mean h."""

    Config = Config

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        config, vector = self.config, flat_parameters(model)
        received = vector.clone()
        server = named_views(model, received)
        own = client.state.setdefault("gradient", torch.zeros_like(vector))
        gradient = named_views(model, own)

        def regularised(name: str, parameter: Tensor) -> None:
            if parameter.grad is not None:
                parameter.grad.sub_(gradient[name]).add_(parameter - server[name], alpha=config.penalty)

        batches = client.batches(steps=config.steps(client.num_examples, ctx.cell.train.batch_size))
        local_sgd(model, batches, config, config.lr_at(ctx.round, ctx.progress), ctx.mask, correct=regularised)
        client.state["gradient"] = own - config.penalty * (vector - received)
        return Update(client.num_examples, weights=model_tensors(model))

    @torch.no_grad()
    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        before, penalty = flat_parameters(model).clone(), self.config.penalty
        super().aggregate(model, updates, ctx)
        vector = flat_parameters(model)
        drift = ctx.state.setdefault("drift", torch.zeros_like(vector))
        drift.sub_(vector - before, alpha=penalty * len(updates) / ctx.cell.train.clients)
        vector.sub_(drift, alpha=1 / penalty)
        return None

"""NewMethod: what is new about it, and the paper it follows.

This file is a whole method, and its name is the file's. `Method` is FedAvg, so a subclass writes the hooks in which it
differs and deletes the rest; these three are a round, in the order of their calls. As it stands it is FedAvgM (Hsu et
al. 2019, arXiv 1909.06335). All hooks and rules are in the docstrings of `fedfore.api.Method` and what it names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import NonNegativeFloat
from torch import nn

from fedfore.api import Client, ClientContext, Mask, Message, Method, ServerContext, Update
from fedfore.primitives.flat import flat_parameters, model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    """The keys of local SGD and your own: each has a type, which is checked, a default, and a sentence.

    A matrix sets one as `server_momentum = 0.5` under `[params.<method>]`, or sweeps it as an axis.
    """

    server_momentum: NonNegativeFloat = 0.9
    """Share of the server's last step that is added to its next one; 0 is FedAvg."""


class NewMethod(Method):
    """FedAvg whose server keeps momentum: the first line is what `fedfore ls methods` shows."""

    Config = Config

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        """On the server: return what goes to every client of the round.

        The values of `model` that the mask keeps go by themselves. A tensor beside them, `Message({"drift": vector})`,
        is `ctx.received["drift"]` on a device; whatever is sent is encoded, and its bytes are counted.
        """
        return Message()

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        """On a device, whose `model` holds what it received: work, and return what goes up.

        `client` has the device's examples, drawn in batches (x [B, C, H, W], y [B]), and `client.state`, a dict that it
        keeps. `correct=` of `local_sgd` changes the gradient before each step, such as by a proximal term. Weights go
        up by name; other tensors as `Update(..., tensors={"drift": vector})`.
        """
        config = self.config
        batches = client.batches(steps=config.steps(client.num_examples, ctx.cell.train.batch_size))
        local_sgd(model, batches, config, config.lr_at(ctx.round, ctx.progress), ctx.mask)
        return Update(client.num_examples, weights=model_tensors(model))

    @torch.no_grad()
    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        """On the server: change `model` by the decoded updates; return a new mask, or None to keep the present one.

        `super().aggregate` leaves the mean, weighted by examples, in `model`. The server's memory is the dict
        `ctx.state`: tensors, numbers and strings, copies of its own. `self` is read-only.
        """
        vector = flat_parameters(model)
        before = vector.clone()
        super().aggregate(model, updates, ctx)
        step = vector - before
        if "step" in ctx.state:
            step.add_(ctx.state["step"], alpha=self.config.server_momentum)
        vector.copy_(before + step)
        ctx.state["step"] = step
        return None

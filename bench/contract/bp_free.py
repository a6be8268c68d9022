"""BP-free training as a base class: the BAFFLE algorithm (Feng et al. 2023, arXiv 2301.12195) under any mask.

`BPFreeMethod` is to zeroth-order methods what `Method` is to those that backpropagate: a subclass that brings a mask
trains the surviving weights by forward passes alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from fedfore.cell import Cell, Fraction
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, ServerContext
from fedfore.contract.exchange import Estimate, Message, Update, shares
from fedfore.contract.method import Method
from fedfore.errors import Skip
from fedfore.masks import Mask, prunable_weights
from fedfore.primitives.flat import flat_parameters, kept_parameters, model_tensors, named_views
from fedfore.primitives.gradients import Batch
from fedfore.primitives.server_optimizer import ServerAdamConfig, adam_step_
from fedfore.primitives.zeroth_order import Sent, Step, ZerothOrderConfig, check_estimator, pack, unpack


@dataclass(frozen=True)
class BPFreeConfig(ZerothOrderConfig, ServerAdamConfig):
    """Device side: `ZerothOrderConfig`. Server side: `ServerAdamConfig`, and the keys below."""

    communication: Literal["step", "epoch"] = "step"
    """Scalars of one mini-batch a round (`step`), or of one local epoch (`epoch`), in which a client takes plain steps
    along its own estimates and the server averages the replayed models.
    """
    local_lr: PositiveFloat = 1e-3
    """Size of a client's plain steps, in the `epoch` form."""
    weighting: Literal["examples", "equal"] = "examples"
    """Clients count by their `examples` (the paper's p_i), or `equal`ly (the released code's 1/C)."""
    first_epoch_lr: PositiveFloat | None = None
    """The server's rate in the first epoch, where it differs from `lr`."""
    ema_decay: Fraction | None = None
    """Decay of the moving average that is evaluated instead of the model, updated once an epoch; unset is off. It
    starts at the initial weights, and update t = 1, 2, ... has the decay min(ema_decay, (1 + t) / (10 + t)), as in the
    torch_ema package that the released code uses.
    """
    init_scale: PositiveFloat = 1.0
    """Factor that prunable weights are multiplied by before anything else; a control, since a mask changes the scale of
    the network's function too.
    """


class BPFreeMethod(Method):
    """BP-free training: K forward passes on perturbed weights a device, K scalars sent back.

    A round (section 3, algorithm 1): the server sends the model and one seed; every client evaluates K loss
    differences on one mini-batch along the seed's directions; the server averages them by the clients' shares p_i,
    rebuilds g_hat from the same directions and takes one step. Only unmasked coordinates are perturbed.

    Decisions of this suite: in the `epoch` form a client steps by plain gradient descent, so that its path can be
    replayed from its scalars, and the server takes the weighted mean of the replayed models. An epoch is a pass over
    all clients' data: the mini-batches of a client of the first cohort's mean size, times clients over cohort size. It
    is fixed by the first round, a whole number of rounds; in the `epoch` form it is the local epoch, one round.

    The initial weights are the protocol's `train.init`: He-normal by default, PyTorch's own in BAFFLE's released code,
    0.41 times as large in every layer and with biases. A zeroth-order comparison of masks depends on that scale, since
    a mask changes the function's scale too: tune `init_scale` for dense and sparse models alike. There is no schedule
    of the rate but `first_epoch_lr`: a long run ends at the noise floor of its constant rate, which P / K sets (P
    perturbed coordinates), so that two long runs compare floors.
    """

    Config = BPFreeConfig
    uses: ClassVar = frozenset({"estimator"})

    def check(self, cell: Cell) -> None:
        check_estimator(cell.estimator, self.config, local_steps=self.config.communication == "epoch")

    def prepare(self, model: nn.Module) -> nn.Module:
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
            raise Skip("batch statistics change between forward passes of one step; choose a model with norm=group")
        return model

    @torch.no_grad()
    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        for weight in prunable_weights(model).values():
            weight.mul_(self.config.init_scale)
        return None

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"seed": torch.tensor(ctx.seed("perturbation"))})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if self.config.communication == "step":
            return self._one_step(model, [client], ctx)[0]
        step = self._step(ctx.cell, int(ctx.received["seed"]), ctx.round)
        sent = []
        for number, (x, y) in enumerate(client.batches(epochs=1)):
            step = replace(step, local_step=number)
            sent += step.send(model, [Batch(x, y)], [client.id], ctx.mask)
            estimate = step.estimate(sent[-1:], [1.0], [client.id], model, ctx.mask)
            flat_parameters(model).sub_(estimate, alpha=self.config.local_lr)
        return Update(client.num_examples, **pack(sent))

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        return self._one_step(model, clients, ctx) if self.config.communication == "step" else None

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        config, state = self.config, ctx.state_of(BPFreeMethod)
        weights = shares(updates) if config.weighting == "examples" else [1 / len(updates)] * len(updates)
        step = self._step(ctx.cell, ctx.seed("perturbation"), ctx.round)
        vector = flat_parameters(model)
        if config.ema_decay is not None and "average" not in state:
            state["average"] = vector.clone()
        epoch = state.setdefault("epoch_rounds", self._epoch_rounds(updates, ctx))
        if config.communication == "step":
            gradient = step.estimate(
                [self._sent(update)[0] for update in updates], weights, ctx.cohort, model, ctx.mask
            )
            rate = config.first_epoch_lr if config.first_epoch_lr and ctx.round < epoch else config.lr
            trained = kept_parameters(model, None)
            received = None if trained is None else vector.clone()
            adam_step_(vector, gradient, state.setdefault("adam", {}), config, rate)
            if trained is not None and received is not None:  # weight decay does not reach frozen parameters
                vector.copy_(torch.where(trained, vector, received))
        else:
            vector.sub_(self._replayed(step, updates, weights, model, ctx), alpha=config.local_lr)
        ended, rest = divmod(ctx.round + 1, epoch)
        if config.ema_decay is not None and rest == 0:
            state["average"].lerp_(vector, 1 - min(config.ema_decay, (1 + ended) / (10 + ended)))
        return None

    def evaluation_weights(self, model: nn.Module, ctx: ServerContext) -> Mapping[str, Tensor] | None:
        average = ctx.state_of(BPFreeMethod).get("average")
        return None if average is None else model_tensors(model) | named_views(model, average)

    def estimate(self, model: nn.Module, update: Update, client: Client, ctx: ClientContext) -> Estimate | None:
        sent = self._sent(update)
        if not sent:
            return None
        step = self._step(ctx.cell, int(ctx.received["seed"]), ctx.round)
        return Estimate(step.estimate(sent[:1], [1.0], [client.id], model, ctx.mask), step)

    def _one_step(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        batches = [Batch(*next(client.batches(steps=1))) for client in clients]
        step = self._step(ctx.cell, int(ctx.received["seed"]), ctx.round)
        sent = step.send(model, batches, [client.id for client in clients], ctx.mask, ctx.map)
        return [Update(client.num_examples, **pack([one])) for client, one in zip(clients, sent, strict=True)]

    def _replayed(
        self, step: Step, updates: Sequence[Update], weights: Sequence[float], model: nn.Module, ctx: ServerContext
    ) -> Tensor:
        """Return the weighted sum over clients of the estimates along their local paths."""
        total = torch.zeros_like(flat_parameters(model))
        for number, of_all in enumerate(zip_longest(*(self._sent(update) for update in updates))):
            took = [item for item in zip(of_all, weights, ctx.cohort, strict=True) if item[0] is not None]
            sent, own, clients = (list(column) for column in zip(*took, strict=True))
            total += replace(step, local_step=number).estimate(sent, own, clients, model, ctx.mask)
        return total

    def _epoch_rounds(self, updates: Sequence[Update], ctx: ServerContext) -> int:
        """Return the rounds of an epoch, as the cohort's examples have it."""
        if self.config.communication == "epoch":
            return 1
        train, examples = ctx.cell.train, sum(update.num_examples for update in updates)
        batches = math.ceil(examples / len(updates) / train.batch_size)
        return round(batches * train.clients / len(updates))

    def _step(self, cell: Cell, seed: int, round: int) -> Step:
        return Step(cell.estimator or "finite_difference", self.config, seed, round)

    def _sent(self, update: Update) -> list[Sent]:
        return unpack(update, self.config.num_perturbations)

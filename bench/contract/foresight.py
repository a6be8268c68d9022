"""Foresight pruning as a base class: a mask made before training, by federated rounds of scoring or on the server.

`ForesightPruning` says nothing of training: a method that puts it before another base trains by that base's hooks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from fedfore.cell import Cell, Phase
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, Context, ServerContext
from fedfore.contract.exchange import Message, Update
from fedfore.contract.method import Method
from fedfore.errors import Skip
from fedfore.masks import Mask, prunable_shapes, random_mask
from fedfore.primitives.accounting import account
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.keys import Key
from fedfore.primitives.pruning import (
    ALLOCATIONS,
    Schedule,
    density_at,
    from_entries,
    keep_top,
    shuffled,
    to_entries,
)
from fedfore.primitives.saliency import NEEDS_PASSES, Inputs, SaliencyConfig, importance, score, score_without_passes

SENT = {"scores": "scores", "masks": "mask"}
"""The name of the tensor [kept] that a client sends, by `upload`: float32, or boolean."""


@dataclass(frozen=True)
class ForesightConfig(SaliencyConfig):
    """`SaliencyConfig`, and the keys of the rounds in which a mask is made."""

    iterations: Annotated[PositiveInt, Key(tiny=2)] = 20
    """Scoring rounds, after each of which the mask shrinks."""
    schedule: Schedule = "exponential"
    """How density falls to d over the scoring rounds, s being the share of them that is done: `exponential` d^s,
    `linear` 1 - (1 - d) s, `inverse` 1 / (1 + (1/d - 1) s).
    """
    where: Literal["devices", "devices_forward", "server"] = "devices"
    """Scores come from the `devices` by backpropagation, from `devices_forward` by central differences in the mask, or
    from the `server` alone.
    """
    forward_directions: Annotated[PositiveInt, Key(linear_in="setup")] = 100
    """Central differences of a scoring on `devices_forward`."""
    upload: Literal["scores", "masks"] = "scores"
    """A device sends its `scores`, or its own mask, of which the server counts the votes."""
    min_layer_weights: NonNegativeInt = 1
    """What every layer keeps at least; 0 is no guard, and an emptied layer an error."""
    shuffle: bool = False
    """The ablation that keeps the final mask's layer densities and draws its positions at random."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.where == "devices_forward" and self.saliency != "ntk":
            raise ValueError(f'forward passes estimate the ntk score only; with {self.saliency} set where = "devices"')


class ForesightPruning(Method):
    """Foresight pruning before federated training, the setup of FedNTK (arXiv 2405.04765) for any saliency.

    A setup round: every client of the cohort scores the weights that the mask keeps, on inputs and draws of its own;
    the server averages the signed scores, equally for Gaussian inputs and by the shares p_i for real ones, and keeps
    the largest of all layers together. Training starts from the initial weights under the last mask. A device gets the
    model only where its weights are scored (`weights = "fixed"`); redrawn ones come from its own generator.

    A server that scores alone makes as many draws as all clients of a round together: no round, no device's memory, no
    byte, and in a cell that only meters no score. Masks that need no pass (magnitude, random, erk, uniform) are made by
    it too, in one step.
    """

    Config: ClassVar[type] = ForesightConfig
    uses: ClassVar = frozenset({"sparsity"})

    def check(self, cell: Cell) -> None:
        super().check(cell)
        config = self.config
        if config.saliency in NEEDS_PASSES and config.where == "server" and config.inputs == "real":
            raise Skip('real inputs never leave the devices; with where = "server" use inputs = "gaussian"')

    def setup_rounds(self, cell: Cell) -> int:
        by_devices = self.config.saliency in NEEDS_PASSES and self.config.where != "server"
        return self.config.iterations if by_devices else 0

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        dense = super().start(model, ctx)
        if ctx.cell.sparsity == 0:
            return dense
        if not prunable_shapes(model):
            raise Skip("the model has no convolutional or linear layer, so there is nothing to prune")
        ctx.state_of(ForesightPruning)["initial"] = flat_parameters(model).clone()
        scores_alone = self.config.saliency in NEEDS_PASSES and self.config.where == "server"
        if self.setup_rounds(ctx.cell) or (scores_alone and ctx.cell.train.meter_only):
            return dense
        generator = ctx.rng("method")
        mask = self._server_mask(model, ctx, generator)
        return self.settle(model, mask, ctx, generator)

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        if ctx.phase != "setup":
            return super().broadcast(model, ctx)
        return Message(model=self.config.weights == "fixed")

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if ctx.phase != "setup":
            return super().client_update(model, client, ctx)
        config, generator = self.config, ctx.rng("method", client)
        if config.inputs == "real":
            inputs = self._real_inputs(client, ctx.cell.train.batch_size)
        else:
            inputs = self._gaussian_inputs(config.draws, ctx, generator)
        directions = config.forward_directions if config.where == "devices_forward" else None
        sent: Mapping[str, Tensor] = score(model, ctx.mask, config, inputs, generator, ctx.initialise, directions)
        if config.upload == "masks":
            sent = self._pruned(sent, ctx, ctx.mask, ctx.round + 1, generator)
        with account("messages"):
            entries = to_entries(sent, ctx.mask)
        return Update(client.num_examples, tensors={SENT[config.upload]: entries})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        if ctx.phase != "setup":
            return super().aggregate(model, updates, ctx)
        name = SENT[self.config.upload]
        weights = [update.num_examples if self.config.inputs == "real" else 1 for update in updates]
        total = torch.zeros_like(updates[0].tensors[name], dtype=torch.float64)
        for update, weight in zip(updates, weights, strict=True):
            total.add_(update.tensors[name], alpha=weight)  # whole numbers: equal votes stay equal
        scores = from_entries(total / sum(weights), prunable_shapes(model), ctx.mask)
        generator = ctx.rng("method")
        mask = self._pruned(scores, ctx, ctx.mask, ctx.round + 1, generator)
        return self.settle(model, mask, ctx, generator) if ctx.round + 1 == self.config.iterations else mask

    def examples_at_once(self, phase: Phase) -> int:
        if phase != "setup":
            return super().examples_at_once(phase)
        return self.config.inputs_per_draw if self.config.inputs == "real" else 0

    def centralised(self, clients: int, *, real_inputs: bool = False) -> ForesightConfig:
        config: ForesightConfig = self.config
        inputs = "real" if real_inputs else config.inputs
        return replace(config, where="devices", shuffle=False, draws=config.draws * clients, inputs=inputs)

    def settle(self, model: nn.Module, mask: Mask, ctx: ServerContext, generator: torch.Generator) -> Mask:
        """Put `model` back to all of its initial weights and return the mask that training begins with."""
        flat_parameters(model).copy_(ctx.state_of(ForesightPruning).pop("initial"))
        return shuffled(mask, generator) if self.config.shuffle else mask

    def _server_mask(self, model: nn.Module, ctx: ServerContext, generator: torch.Generator) -> Mask:
        config, shapes = self.config, prunable_shapes(model)
        if config.saliency in ALLOCATIONS:
            densities = ALLOCATIONS[config.saliency](shapes, 1 - ctx.cell.sparsity)
            return random_mask(shapes, densities, generator).to(ctx.device)
        if config.saliency not in NEEDS_PASSES:
            scores = score_without_passes(model, config.saliency, generator)
            return self._pruned(scores, ctx, None, config.iterations, generator)
        mask: Mask | None = None
        for iteration in range(1, config.iterations + 1):
            inputs = self._gaussian_inputs(config.draws * ctx.cell.train.cohort_size, ctx, generator)
            scores = score(model, mask, config, inputs, generator, ctx.initialise)
            mask = self._pruned(scores, ctx, mask, iteration, generator)
        assert mask is not None, "there is at least one iteration"
        return mask

    def _pruned(
        self, scores: Mapping[str, Tensor], ctx: Context, mask: Mask | None, iteration: int, generator: torch.Generator
    ) -> Mask:
        """Return the mask after an iteration (1, 2, ...), made from the signed `scores` under `mask`."""
        config = self.config
        density = density_at(config.schedule, iteration, config.iterations, 1 - ctx.cell.sparsity)
        count = round(density * sum(value.numel() for value in scores.values()))
        found = keep_top(importance(scores, config.saliency), count, mask, generator, config.min_layer_weights)
        return found.to(ctx.device)

    def _gaussian_inputs(self, draws: int, ctx: Context, generator: torch.Generator) -> Iterator[Inputs]:
        shape = (self.config.inputs_per_draw, *ctx.input_shape)
        for _ in range(draws):
            yield torch.empty(shape).normal_(generator=generator).to(ctx.device), None

    def _real_inputs(self, client: Client, batch_size: int) -> Iterator[Inputs]:
        """Yield a draw's `inputs_per_draw` examples, or all of a client that holds fewer.

        There are fewer too where an epoch of the client ends between them.
        """
        size = min(self.config.inputs_per_draw, client.num_examples)
        for _ in range(self.config.draws):
            x, y = zip(*client.batches(steps=-(-size // batch_size)), strict=True)
            yield torch.cat(x)[:size], torch.cat(y)[:size]

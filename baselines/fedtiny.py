"""FedTiny: a first mask chosen by adaptive batch-norm selection, then progressive pruning (arXiv 2212.01977)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.api import (
    Cell,
    Client,
    ClientContext,
    Context,
    DynamicPruningConfig,
    DynamicPruningMethod,
    Mask,
    Message,
    ServerContext,
    Update,
    erk_densities,
    prunable_shapes,
    random_mask,
    shares,
    uniform_densities,
)
from fedfore.primitives.accounting import account
from fedfore.primitives.prune_grow import pack_mask, unpack_mask

STATISTICS, LOSSES = 0, 1
"""The setup rounds."""
POOL = ("candidates", "mean", "variance")
"""What the server keeps during setup: masks [candidates, n_p], batch-norm statistics [candidates, S]."""
BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class FedTinyConfig(DynamicPruningConfig):
    """`DynamicPruningConfig`, and the keys of the first mask's choice."""

    candidates: PositiveInt = 5
    """Masks to choose from."""
    density_spread: Annotated[float, Field(ge=0.0, le=0.5)] = 0.25
    """A candidate's layer density d differs from its pattern's by at most 2 density_spread min(d, 1 - d)."""
    blocks: PositiveInt = 5
    """Groups of layers that take turns in being adjusted."""


class FedTiny(DynamicPruningMethod):
    """FedTiny (Huang et al. 2023, ICDCS): adaptive batch-norm selection, then progressive pruning.

    Setup, two rounds of the same clients. Every candidate is a mask on the same dense initial weights. Clients run each
    one forward on their data and send its batch-norm statistics; the server pools them. Clients then send each
    candidate's loss under the pooled statistics, and the server keeps the one of least mean loss, with its statistics.
    A model without batch norm leaves the first of these rounds empty: "FedTiny (loss selection)", not the published
    method.

    Training: FedAvg under the mask. Every `adjust_every`, one block of contiguous layers, from output to input and
    over again, is adjusted: clients send their a_l largest gradients over pruned weights, taken after local training;
    the server prunes the a_l smallest of the averaged weights that were active and grows the a_l largest of the summed
    gradients.

    Decisions of this suite: five candidates with random positions (the released codes keep the largest initial weights,
    a larger function), of ERK, uniform, and randomly changed layer densities; statistics averaged over a client's
    batches by their size instead of with the layer's momentum; losses weighted by examples; blocks of equally many
    layers; one mini-batch for the gradient, as in the released code, which also updates running statistics. Setup FLOPs
    are counted as dense.

    What to keep in mind: the candidates are cut from untrained weights, while adaptive batch-norm selection was made
    for a trained network; on random weights the loss ranks candidates by how small their logits are, which favours
    uniform densities. Selection pools total variances, training then averages running variances by examples, as FedAvg
    does. Under batch norm a channel without weights multiplies its gradients by 1 / sqrt(eps), about 316, so growth by
    gradient prefers dead channels; uniform masks of low density leave many.
    """

    Config: ClassVar[type] = FedTinyConfig
    one_setup_cohort: ClassVar = True

    def adjusted_layers(self, mask: Mask, number: int) -> list[str]:
        return block(list(mask), self.config.blocks, number)

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        if ctx.cell.sparsity > 0:
            ctx.state["candidates"] = self._candidates(model, ctx).to(ctx.device)
        return None

    def setup_rounds(self, cell: Cell) -> int:
        return 2

    def round_kind(self, ctx: Context) -> str:
        if ctx.phase == "setup":
            return "statistics" if ctx.round == STATISTICS else "losses"
        quotas = self.quotas(ctx)
        return f"adjust {next(iter(quotas))}" if quotas else ctx.phase

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        if ctx.phase == "train":
            return super().broadcast(model, ctx)
        normalised = bool(_batch_norms(model))
        if ctx.round == STATISTICS and not normalised:
            return Message(model=False)
        pool: dict[str, Tensor] = {name: ctx.state[name] for name in POOL if name in ctx.state}
        return Message(pool, model=ctx.round == STATISTICS or not normalised)

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if ctx.phase == "train":
            return super().client_update(model, client, ctx)
        return _measure_candidates(model, client, ctx) if ctx.round == STATISTICS else _losses(model, client, ctx)

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        if ctx.phase == "train":
            return super().aggregate(model, updates, ctx)
        if ctx.round == LOSSES:
            return self._select(model, updates, ctx)
        self._pool(updates, ctx)
        return None

    def _candidates(self, model: nn.Module, ctx: ServerContext) -> Tensor:
        """Return the candidate masks, boolean [candidates, n_p]; the first is the mask of `fedavg_erk`."""
        shapes, density = prunable_shapes(model), 1.0 - ctx.cell.sparsity
        patterns = (erk_densities(shapes, density), uniform_densities(shapes, density))
        generator = ctx.rng("method")
        rows = []
        for number in range(self.config.candidates):
            densities = patterns[number % 2]
            if number >= len(patterns):
                densities = spread_densities(densities, shapes, self.config.density_spread, generator)
            rows.append(pack_mask(random_mask(shapes, densities, generator)))
        return torch.stack(rows)

    def _pool(self, updates: Sequence[Update], ctx: ServerContext) -> None:
        """Pool the statistics of all clients: the mean of their means, and their total variance."""
        if not updates[0].tensors:
            return
        weights = torch.tensor(shares(updates), device=ctx.device)
        means, variances = (torch.stack([u.tensors[name] for u in updates]) for name in ("mean", "variance"))
        mean = torch.tensordot(weights, means, 1)
        ctx.state["mean"] = mean
        ctx.state["variance"] = torch.tensordot(weights, variances + (means - mean).square(), 1)

    def _select(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask:
        """Return the candidate of least mean loss, and note the losses; a loss that is not finite is the largest."""
        weights = torch.tensor(shares(updates), device=ctx.device)
        sent = [update.scalars for update in updates if update.scalars is not None]
        losses = torch.tensordot(weights, torch.stack(sent), 1).nan_to_num(nan=torch.finfo(torch.float32).max)
        chosen = int(losses.argmin())
        norms = _batch_norms(model)
        if norms:
            _set_statistics(norms, ctx.state["mean"][chosen], ctx.state["variance"][chosen])
        ctx.note("selection", {"losses": losses.tolist(), "chosen": chosen, "beats_first": chosen != 0})
        if not norms:
            ctx.note("variant", "loss selection")
        mask = unpack_mask(ctx.state["candidates"][chosen], prunable_shapes(model))
        for name in POOL:
            ctx.state.pop(name, None)
        return mask


def block(layers: Sequence[str], blocks: int, number: int) -> list[str]:
    """Return the contiguous layers that adjustment `number` works on: blocks from output to input, over and over."""
    count = min(blocks, len(layers))
    turn = number % count
    return list(layers[::-1][turn * len(layers) // count : (turn + 1) * len(layers) // count])


def spread_densities(
    densities: Mapping[str, float], shapes: Mapping[str, torch.Size], spread: float, generator: torch.Generator
) -> dict[str, float]:
    """Change layer densities at random, their total staying as it is.

    A layer has the room r = min(d, 1 - d) and moves by r (u - c), u uniform in +-spread, c the mean of all u weighted
    by room: |u - c| <= 2 spread <= 1 keeps d in [0, 1].
    """
    room = {name: min(d, 1.0 - d) for name, d in densities.items()}
    draws = (2.0 * torch.rand(len(shapes), generator=generator) - 1.0).mul(spread).tolist()
    weights = [room[name] * shape.numel() for name, shape in shapes.items()]
    centre = sum(w * u for w, u in zip(weights, draws, strict=True)) / sum(weights)
    return {name: densities[name] + room[name] * (u - centre) for name, u in zip(shapes, draws, strict=True)}


def _batch_norms(model: nn.Module) -> list[BatchNorm]:
    return [module for module in model.modules() if isinstance(module, BatchNorm) and module.track_running_stats]


@torch.no_grad()
def _each_candidate(model: nn.Module, masks: Tensor) -> Iterator[int]:
    """Give `model` every candidate's weights in turn: its dense ones under the masks [candidates, n_p]."""
    shapes, weights = prunable_shapes(model), dict(model.named_parameters())
    with account("parameters"):
        dense = {name: weights[name].clone() for name in shapes}
    for number, bits in enumerate(masks):
        for name, kept in unpack_mask(bits, shapes).items():
            torch.mul(dense[name], kept, out=weights[name])
        yield number


@torch.no_grad()
def _measure_candidates(model: nn.Module, client: Client, ctx: ClientContext) -> Update:
    """Send the means and variances [candidates, S] of every candidate's batch norms on the client's data."""
    norms = _batch_norms(model)
    if not norms:
        return Update(client.num_examples)
    sent = [_statistics(model, norms, client) for _ in _each_candidate(model, ctx.received["candidates"])]
    means, variances = (torch.stack(values) for values in zip(*sent, strict=True))
    return Update(client.num_examples, tensors={"mean": means, "variance": variances})


@torch.no_grad()
def _losses(model: nn.Module, client: Client, ctx: ClientContext) -> Update:
    """Send every candidate's mean loss on the client's data, under the pooled statistics: scalars [candidates]."""
    norms, losses = _batch_norms(model), []
    model.eval()
    for number in _each_candidate(model, ctx.received["candidates"]):
        if norms:
            _set_statistics(norms, ctx.received["mean"][number], ctx.received["variance"][number])
        total = sum(cross_entropy(model(x), y, reduction="sum") for x, y in client.batches(epochs=1))
        losses.append(total / client.num_examples)
    return Update(client.num_examples, scalars=torch.tensor(losses))


def _statistics(model: nn.Module, norms: Sequence[BatchNorm], client: Client) -> tuple[Tensor, Tensor]:
    """Return the running means and variances [S] of all norms, each the mean over batches weighted by their size."""
    momenta = [norm.momentum for norm in norms]
    examples = 0
    for x, _ in client.batches(epochs=1):
        examples += len(x)
        for norm in norms:
            norm.momentum = len(x) / examples
        model(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    mean, variance = (torch.cat([norm.get_buffer(name) for norm in norms]) for name in ("running_mean", "running_var"))
    return mean, variance


@torch.no_grad()
def _set_statistics(norms: Sequence[BatchNorm], mean: Tensor, variance: Tensor) -> None:
    """Set the running means and variances of all norms from [S]."""
    sizes = [norm.num_features for norm in norms]
    for name, values in (("running_mean", mean), ("running_var", variance)):
        for norm, own in zip(norms, values.split(sizes), strict=True):
            norm.get_buffer(name).copy_(own)

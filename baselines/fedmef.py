"""FedMef: dynamic pruning with extrusion, pruned activations and normalised convolutions (arXiv 2403.14737)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from bench.api import Client, ClientContext, Context, Mask, Message, Method, ServerContext, Update, erk_mask, shares
from bench.primitives.activation_pruning import pruned_activations
from bench.primitives.extrusion import ExtrusionConfig, extrude
from bench.primitives.flat import model_tensors
from bench.primitives.local_sgd import LocalSGDConfig
from bench.primitives.prune_grow import (
    AdjustmentConfig,
    announce,
    announced,
    exchange,
    highest_pruned,
    lowest_active,
    pack_gradients,
    prune_and_grow,
    sum_gradients,
    weight_gradients,
)
from bench.primitives.sparse_normalisation import normalise_convolutions


@dataclass(frozen=True)
class FedMefConfig(LocalSGDConfig, AdjustmentConfig, ExtrusionConfig):
    """Local SGD, adjustments, extrusion, and:

    sap_rate: the share of a layer's input that is dropped for the weight's gradient; 0 keeps all. nsconv: whether
    convolutions are normalised.
    """

    lr_schedule: Literal["constant", "cosine", "exponential"] = "exponential"
    adjust_rate: Annotated[float, Field(ge=0.0, le=0.5)] = 0.2
    sap_rate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    nsconv: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory == "checkpoint" and self.sap_rate > 0:
            raise ValueError('memory = "checkpoint" keeps no activations to prune; give sap_rate = 0 with it')


class FedMef(Method):
    """FedMef (Huang et al. 2024, CVPR): memory-efficient federated dynamic pruning by backpropagation.

    FedAvg under a mask that starts random, with ERK layer densities. Every `adjust_every`, all layers are adjusted: a
    client marks the a_l smallest active weights of the model it received, the same on every client, trains with
    budget-aware extrusion, and sends its a_l largest gradients over pruned weights; the server prunes the marked
    weights and grows the a_l largest of the summed gradients. All training prunes the activations kept for
    backpropagation, and convolutions are normalised, each of which has a switch.

    Decisions of this suite: the penalty follows from a target shrink, and the learning rate decays over rounds, since
    at the published port's constants the extrusion does nothing; 90% of an activation is dropped and what is kept is
    stored as a bitmap and values, since at the library's 50% with indices nothing is saved; the gradients by which
    weights grow are those of one mini-batch, after local training, with pruned activations as well; where weights were
    not extruded (`off`, `bump_only`) none are marked, and the server prunes the smallest of the averaged weights, as
    FedTiny does. Norm layers stay where the model has them, and then hold most of the memory: the paper has none.
    """

    Config = FedMefConfig
    uses: ClassVar = frozenset({"sparsity"})
    grows: ClassVar = True

    def prepare(self, model: nn.Module) -> nn.Module:
        return normalise_convolutions(model) if self.config.nsconv else model

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        return erk_mask(model, ctx.cell.sparsity, ctx.rng("method"))

    def round_kind(self, ctx: Context) -> str:
        return "adjust" if isinstance(ctx, ClientContext) and announced(ctx.received) else "train"

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({} if ctx.mask is None else announce(self.config, ctx.round, ctx.progress, ctx.state))

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        config, mask, quotas = self.config, ctx.mask, self._quotas(ctx.mask, ctx.received)
        with pruned_activations(config.sap_rate):
            if mask is None or not quotas:
                return super().client_update(model, client, ctx)
            if config.extrusion == "off":
                update = super().client_update(model, client, ctx)
            else:
                epoch = -(-client.num_examples // ctx.cell.train.batch_size)
                steps = config.local_steps or (config.local_epochs or 1) * epoch
                lr, marked = config.lr_at(ctx.round, ctx.progress), _marked(model, mask, quotas)
                extrude(model, client.batches(steps=steps), steps, config, config, lr, marked, mask)
                update = Update(weights=model_tensors(model), num_examples=client.num_examples)
            gradients = weight_gradients(model, client.batches(steps=config.gradient_batches), quotas)
        return replace(update, tensors=pack_gradients(gradients, mask, quotas))

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        mask, quotas = ctx.mask, self._quotas(ctx.mask, ctx.state)
        if mask is None or not quotas:
            return super().aggregate(model, updates, ctx)
        marked = _marked(model, mask, quotas)
        super().aggregate(model, updates, ctx)
        gradients = sum_gradients([update.tensors for update in updates], shares(updates), mask, quotas)
        if self.config.extrusion != "on":
            return prune_and_grow(mask, dict(model.named_parameters()), gradients, quotas)
        return exchange(
            mask, marked, {name: highest_pruned(gradients[name], mask[name], count) for name, count in quotas.items()}
        )

    def _quotas(self, mask: Mask | None, announcement: Mapping[str, Any]) -> dict[str, int]:
        """Return how many weights every layer exchanges in this round; nothing where it only trains."""
        adjustment = announced(announcement)
        if mask is None or adjustment is None:
            return {}
        return adjustment.quotas(self.config.adjust_rate, mask, mask)


def _marked(model: nn.Module, mask: Mask, quotas: Mapping[str, int]) -> dict[str, Tensor]:
    """Return by layer the flat indices of the weights to prune: the smallest active ones of the broadcast model."""
    weights = dict(model.named_parameters())
    return {name: lowest_active(weights[name], mask[name], count) for name, count in quotas.items()}

"""FedMef: dynamic pruning with extrusion, pruned activations and normalised convolutions (arXiv 2403.14737)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from fedfore.api import (
    Client,
    ClientContext,
    DynamicPruningConfig,
    DynamicPruningMethod,
    Mask,
    Method,
    ServerContext,
    Update,
    shares,
)
from fedfore.primitives.activation_pruning import pruned_activations
from fedfore.primitives.extrusion import ExtrusionConfig, extrude
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.prune_grow import (
    exchange,
    highest_pruned,
    lowest_active,
    pack_gradients,
    sum_gradients,
    weight_gradients,
)
from fedfore.primitives.sparse_normalisation import normalise_convolutions


@dataclass(frozen=True)
class FedMefConfig(DynamicPruningConfig, ExtrusionConfig):
    """`DynamicPruningConfig`, `ExtrusionConfig`, and the keys below."""

    lr_schedule: Literal["constant", "cosine", "exponential"] = "exponential"
    adjust_rate: Annotated[float, Field(ge=0.0, le=0.5)] = 0.2
    sap_rate: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Share of a layer's input that is dropped for the weight's gradient; 0 keeps all."""
    nsconv: bool = True
    """Whether convolutions are standardised, which on a model with `norm = none` is the same as `norm = standardised`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory == "checkpoint" and self.sap_rate > 0:
            raise ValueError('memory = "checkpoint" keeps no activations to prune; give sap_rate = 0 with it')


class FedMef(DynamicPruningMethod):
    """FedMef (Huang et al. 2024, CVPR): memory-efficient federated dynamic pruning by backpropagation.

    FedAvg under a mask that starts random, with ERK layer densities. Every `adjust_every`, all layers are adjusted: a
    client marks the a_l smallest active weights of the model it received, the same on every client, trains with
    budget-aware extrusion, and sends its a_l largest gradients over pruned weights; the server prunes the marked
    weights and grows the a_l largest of the summed gradients. All training prunes the activations kept for
    backpropagation, and convolutions are normalised (NSConv), each of which has a switch.

    NSConv is a reconstruction: scaled weight standardisation over active weights, and, where there are no norm layers,
    the scaled residual branches that belong to it (`fedfore.primitives.sparse_normalisation`). Under it the neutral
    value of a weight that is to be pruned is its filter's mean: a marked weight that was shrunk to 0 still counts.

    Decisions of this suite: the penalty follows from a target shrink, and the learning rate decays over rounds, since
    at the published port's constants the extrusion does nothing; 90% of an activation is dropped and what is kept is
    stored as a bitmap and values, since at the library's 50% with indices nothing is saved; the gradients by which
    weights grow are those of one mini-batch, after local training, with pruned activations as well; where weights were
    not extruded (`off`, `bump_only`) none are marked, and the server prunes the smallest of the averaged weights, as
    FedTiny does; the first mask's positions are random, where the released code keeps the largest initial weights, a
    larger function. Norm layers stay where the model has them, and then hold most of the memory: the paper has none.
    """

    Config: ClassVar[type] = FedMefConfig

    def prepare(self, model: nn.Module) -> nn.Module:
        return normalise_convolutions(model) if self.config.nsconv else model

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        with pruned_activations(self.config.sap_rate):
            return super().client_update(model, client, ctx)

    def client_adjustment(
        self, model: nn.Module, client: Client, ctx: ClientContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Update:
        config = self.config
        if config.extrusion == "off":
            return super().client_adjustment(model, client, ctx, mask, quotas)
        steps = config.steps(client.num_examples, ctx.cell.train.batch_size)
        lr, marked = config.lr_at(ctx.round, ctx.progress), _marked(model, mask, quotas)
        extrude(model, client.batches(steps=steps), steps, config, lr, marked, mask)
        gradients = weight_gradients(model, client.batches(steps=config.gradient_batches), quotas, config)
        return Update(client.num_examples, model_tensors(model), tensors=pack_gradients(gradients, mask, quotas))

    def server_adjustment(
        self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext, mask: Mask, quotas: Mapping[str, int]
    ) -> Mask:
        if self.config.extrusion != "on":
            return super().server_adjustment(model, updates, ctx, mask, quotas)
        marked = _marked(model, mask, quotas)
        Method.aggregate(self, model, updates, ctx)
        gradients = sum_gradients([update.tensors for update in updates], shares(updates), mask, quotas)
        grown = {name: highest_pruned(gradients[name], mask[name], count) for name, count in quotas.items()}
        return exchange(mask, marked, grown)


def _marked(model: nn.Module, mask: Mask, quotas: Mapping[str, int]) -> dict[str, Tensor]:
    """Return by layer the flat indices of the weights to prune: the smallest active ones of the broadcast model."""
    weights = dict(model.named_parameters())
    return {name: lowest_active(weights[name], mask[name], count) for name, count in quotas.items()}

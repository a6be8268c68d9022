"""NewMethod: what is new about it, and the paper it follows.

This file is a whole method, and its name is the file's. `ForesightPruning` makes a mask before training: in each of
`setup_rounds` federated rounds devices score the weights that are kept, and the server keeps the largest. It says
nothing of training, so the hooks of `Method`, FedAvg, do that; with `BPFreeMethod` as the second base class, and
`BPFreeConfig` as the second base of Config, training would be BP-free.

For scores of your own write `client_update`: where `ctx.phase == "setup"` return
`Update(client.num_examples, tensors={"scores": scores})`, a float32 for each weight that `ctx.mask` keeps, layer after
layer; elsewhere `super().client_update(...)`. All hooks and rules are in the docstrings of `fedfore.api.Method` and
what it names.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from fedfore.api import ForesightConfig, ForesightPruning, Mask, ServerContext
from fedfore.primitives.local_sgd import LocalSGDConfig


@dataclass(frozen=True)
class Config(ForesightConfig, LocalSGDConfig):
    """The keys of scoring and of local SGD, and your own: each has a type, which is checked, a default, a sentence.

    A matrix sets one as `positions = "scored"` under `[params.<method>]`, or sweeps it as an axis.
    """

    positions: Literal["largest", "scored"] = "largest"
    """Which weights a layer keeps: its largest initial ones, or those of the scores; how many, the scores say."""

    def __post_init__(self) -> None:
        ForesightConfig.__post_init__(self)
        LocalSGDConfig.__post_init__(self)


class NewMethod(ForesightPruning):
    """FedAvg under a mask scored before training: the first line is what `fedfore ls methods` shows."""

    Config = Config

    def settle(self, model: nn.Module, mask: Mask, ctx: ServerContext, generator: torch.Generator) -> Mask:
        """On the server, after the last scores: return the mask that training begins with.

        `super().settle` puts `model` back to its initial weights. `mask` holds a boolean tensor a prunable weight, by
        its name, and keeps as many as the cell's sparsity asks for; the returned one has to keep as many again.
        """
        mask = super().settle(model, mask, ctx, generator)
        if self.config.positions == "scored":
            return mask
        weights = dict(model.named_parameters())
        layers = {}
        for name, kept in mask.items():
            largest = weights[name].detach().abs().flatten().topk(mask.layer_kept[name]).indices
            layers[name] = torch.zeros_like(kept).flatten().index_fill_(0, largest, True).view_as(kept)
        return Mask(layers)

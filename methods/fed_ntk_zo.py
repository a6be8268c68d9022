"""Federated NTK foresight pruning and BP-free training (arXiv 2405.04765)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from fedfore.api import (
    BPFreeConfig,
    BPFreeMethod,
    Client,
    ClientContext,
    ForesightConfig,
    ForesightPruning,
    Mask,
    ServerContext,
    Update,
)
from fedfore.primitives.offset import add_offsets, set_offsets


@dataclass(frozen=True)
class Config(ForesightConfig, BPFreeConfig):
    """Setup: `ForesightConfig`. Training: `BPFreeConfig`."""

    mask_perturbations_only: bool = False
    """A control: the mask restricts perturbations and updates alone, and pruned weights keep their initial values in
    the network's function.
    """


class FedNTKZO(ForesightPruning, BPFreeMethod):
    """Federated NTK foresight pruning, then zeroth-order training of the surviving weights (arXiv 2405.04765).

    Setup: T rounds of NTK-SAP's weight-noise score (arXiv 2304.02840), by backpropagation on Gaussian inputs, so that
    no data is used. The defaults are those of NTK-SAP's released code for ResNet-20: T = 20, R = 5 draws of 100 inputs,
    noise 0.01, an exponential schedule, redrawn weights. Training: BAFFLE's step under the mask (see `BPFreeMethod`).

    Deviations: the paper's text was not at hand, and what its abstract leaves open is this suite's choice: devices
    upload scores, which the server averages; the mask has exact counts and empties no layer; the statistics of every
    kind of norm layer are frozen while scoring. With redrawn weights the mask is a rule for layer densities, its
    positions being nearly random (`shuffle` is the control). A device's memory peaks while it scores, on all inputs of
    a draw at once by default; `scoring_micro_batch` lowers that.

    Training starts from the protocol's initial weights (`train.init`, He-normal by default; BAFFLE's released code has
    PyTorch's, 0.40 to 0.41 times as large), scoring redraws weights from the same initialiser. A mask makes the
    network's function smaller, and zeroth-order training gains by that alone: compare with dense BAFFLE at a tuned
    `init_scale`, with the rate tuned too, since none decays.
    """

    Config = Config
    uses: ClassVar = frozenset({"sparsity", "estimator"})

    def prepare(self, model: nn.Module) -> nn.Module:
        model = super().prepare(model)
        return add_offsets(model) if self.config.mask_perturbations_only else model

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if self.config.mask_perturbations_only and ctx.phase == "setup":
            set_offsets(model, None)
        return super().client_update(model, client, ctx)

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        return None if ctx.phase == "setup" else super().client_updates(model, clients, ctx)

    def settle(self, model: nn.Module, mask: Mask, ctx: ServerContext, generator: torch.Generator) -> Mask:
        mask = super().settle(model, mask, ctx, generator)
        if self.config.mask_perturbations_only:
            set_offsets(model, mask)
        return mask

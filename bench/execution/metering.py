"""What a cell would cost a device, without training and without data files.

The meters run as in training, on random images of the data set's shape. A cost that follows from a mask is that of ERK
layer densities, or of given ones, where the cell's own setup would have to run to its end to know its mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from fedfore.cell import Cell, Phase
from fedfore.contract.config import declared_keys
from fedfore.contract.instance import instantiate
from fedfore.contract.method import Method
from fedfore.execution.record_fields import cost_fields
from fedfore.federation.loop import Federation
from fedfore.masks import Mask, erk_densities, prunable_shapes, random_mask
from fedfore.streams import stream_seed, torch_generator
from fedfore.tasks import loading

ROUNDS = 100
"""Rounds, or periods, of an imagined training, in which every kind of round that is metered has to occur."""


def metered_fields(
    cell: Cell, method: type[Method], device: torch.device, densities: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return the fields of a cell's record that its costs are (see `fedfore.execution.record_fields.cost_fields`).

    `densities` of the prunable layers take the place of ERK's; a mask that the server makes without a score is the
    method's own. Totals over rounds have no value, bytes per client and round are those of a first training
    round whose mask was sent before, or of a second one where messages or devices' states begin empty, and a setup is
    metered where it begins, with nothing pruned. A method whose setup ends with more than a mask is metered without
    that. Kinds of rounds recur after `Key.period` rounds.
    """
    train = replace(
        cell.train, rounds=ROUNDS, data_passes=None, min_client_examples=1, validation_fraction=0.0, meter_only=True
    )
    imagined = replace(cell, train=train, alpha="iid")
    instance = instantiate(method, cell.params)
    share = max(2 * train.batch_size, *(instance.examples_at_once(phase) for phase in get_args(Phase)))
    dataset = loading.stand_in(cell.dataset, share * train.clients)

    def stand_in(model: nn.Module) -> Mask:
        shapes = prunable_shapes(model)
        chosen = erk_densities(shapes, 1 - cell.sparsity) if densities is None else densities
        return random_mask(shapes, chosen, torch_generator(stream_seed(cell.seed, "method")))

    declared = (cell.params[name] for name, key in declared_keys(method.Config).items() if key.period)
    periods = sorted({1, *(period for period in declared if isinstance(period, int))})
    result = Federation(imagined, method, dataset, device).meter(stand_in, periods)
    return cost_fields(result)

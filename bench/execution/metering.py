"""What a cell would cost a device, without training and without data files.

The meters run as in training, on random images of the data set's shape. A cost that follows from a mask is that of ERK
layer densities, or of given ones, where the cell's own setup would have to run to its end to know its mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import nn

from fedfore.cell import Cell, Phase
from fedfore.contract.config import declared_keys
from fedfore.contract.context import ServerContext
from fedfore.contract.exchange import Message
from fedfore.contract.instance import instantiate
from fedfore.contract.method import Method
from fedfore.federation.ledger import Totals
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter, round_kind
from fedfore.federation.observers.sums import DeviceTraffic, ModelSize, Stopwatch
from fedfore.federation.server import client_context
from fedfore.federation.world import World
from fedfore.masks import Mask, erk_densities, prunable_shapes, random_mask
from fedfore.measure.device import DeviceCost, examples_at_once
from fedfore.streams import stream_seed, torch_generator
from fedfore.tasks import loading

IMAGINED_ROUNDS = 100
"""Rounds, or periods, of an imagined training, in which every kind of round that is metered has to occur."""


def metered_fields(
    cell: Cell, method: type[Method], device: torch.device, densities: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Return the fields of a cell's record that tell what a device pays.

    `densities` of the prunable layers take the place of ERK's; a mask that the server makes without a score is the
    method's own. Totals over rounds have no value, bytes per client and round are those of a first training
    round whose mask was sent before, or of a second one where messages or devices' states begin empty, and a setup is
    metered where it begins, with nothing pruned. A method whose setup ends with more than a mask is metered without
    that. Kinds of rounds recur after `Key.period` rounds.
    """
    train = replace(
        cell.train,
        rounds=IMAGINED_ROUNDS,
        data_passes=None,
        min_client_examples=1,
        validation_fraction=0.0,
        meter_only=True,
    )
    imagined = replace(cell, train=train, alpha="iid")
    instance = instantiate(method, cell.params)
    share = max(2 * train.batch_size, *(examples_at_once(instance, phase) for phase in get_args(Phase)))
    world = World.of(imagined, loading.stand_in(cell.dataset, share * train.clients), device)
    rehearsal = Rehearsal(world, method)
    rehearsal.meter_setup()
    if cell.sparsity > 0 and rehearsal.server.mask is None:
        rehearsal.server.adopt(_stand_in(rehearsal.server.model, cell, densities))
    rehearsal.server.check_sparsity()
    rehearsal.channel.give_mask()
    rehearsal.meter_training()
    declared = (cell.params[name] for name, key in declared_keys(method.Config).items() if key.period)
    for period in sorted({1, *(period for period in declared if isinstance(period, int))}):
        rehearsal.meter_periods(period)
    return rehearsal.fields()


def _stand_in(model: nn.Module, cell: Cell, densities: Mapping[str, float] | None) -> Mask:
    """Return a random mask in place of one that would have to be scored."""
    shapes = prunable_shapes(model)
    chosen = erk_densities(shapes, 1 - cell.sparsity) if densities is None else densities
    return random_mask(shapes, chosen, torch_generator(stream_seed(cell.seed, "method")))


class Rehearsal(Federation):
    """A federation that meters one device's update in a round of every kind, and trains nothing."""

    def __init__(self, world: World, method: type[Method]) -> None:
        self.meter = CostMeter()
        super().__init__(world, method, [self.meter, DeviceTraffic(), ModelSize(), Stopwatch()])

    def meter_setup(self) -> None:
        """Run the setup up to the first round of its last kind, and meter that."""
        contexts = [client_context(self.server.context("setup", round, 0.0), {}) for round in range(self.start())]
        kinds = [round_kind(self, ctx) for ctx in contexts]
        if kinds:
            last = kinds.index(kinds[-1])
            for round in range(last):
                self.round("setup", round)
            self._meter(self.server.context("setup", last, 0.0, self.server.cohort("setup", last)))

    def meter_training(self) -> None:
        """Meter the first training round; where devices keep a state or a message begins as zeros, the second.

        The ledger ends with the bytes of that round.
        """
        first = self.server.cohort("train", 0)
        cost, message = self._meter(self.server.context("train", 0, 0.0, first))
        if cost.kept_bytes or _begins_empty(message):
            self.round("train", 0, first[:1])
            self.ledger.totals["train"] = Totals()
            cost, _ = self._meter(self.server.context("train", 1, 0.0, self.server.cohort("train", 1)), again=True)
        totals = self.ledger.totals["train"]
        totals.client_rounds = self.world.cell.train.cohort_size
        totals.uplink_bytes = cost.uplink_bytes * totals.client_rounds

    def meter_periods(self, period: int) -> None:
        """Meter the rounds in which kinds may recur in a training of many periods: their multiples, and what follows.

        The ledger and the server's memory stay as they are.
        """
        spent, state = self.ledger.state_dict(), copy.deepcopy(self.server.state)
        rounds = IMAGINED_ROUNDS * period
        cell = replace(self.world.cell, train=replace(self.world.cell.train, rounds=rounds))
        for round in sorted({number + after for number in range(period, rounds, period) for after in (0, 1)}):
            cohort = self.server.cohort("train", round)
            ctx = self.server.context("train", round, min(round / rounds, 1.0), cohort)
            self._meter(replace(ctx, cell=cell, state=state))
        self.ledger.load_state_dict(spent)

    def _meter(self, asked: ServerContext, *, again: bool = False) -> tuple[DeviceCost, Message]:
        """Return the cost of a round's device and the server's message.

        It is sent where no round of this kind has been metered, or `again`.
        """
        message = self.server.message(asked)
        ctx = client_context(asked, message.tensors)
        if again or not self.meter.knows(self, ctx):
            received = self.channel.down(message, asked)
            self.clients.receive(asked.cohort, received.model, asked.phase)
            ctx = replace(ctx, received=received.tensors)
        return self.meter.cost(self, ctx, asked.cohort), message


def _begins_empty(message: Message) -> bool:
    """Return whether a message has a tensor of zeros beside the model."""
    return any(tensor.numel() > 1 and not bool(tensor.any()) for tensor in message.tensors.values())

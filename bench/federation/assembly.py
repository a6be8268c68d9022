"""A cell's federation with everything that its record wants to know: the list of all observers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import torch

from fedfore.cell import Cell
from fedfore.contract.method import Method
from fedfore.federation.clients import Clients, MakeClients
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.federation.observers.diagnoser import GradientDiagnoser
from fedfore.federation.observers.evaluator import Evaluator
from fedfore.federation.observers.ideal_masks import MaskComparison
from fedfore.federation.observers.kernels import KernelProbe
from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.observers.plugged import PluginMetrics
from fedfore.federation.observers.sums import (
    Budget,
    DeviceTraffic,
    MaskMovement,
    ModelSize,
    Partition,
    Spending,
    Stopwatch,
    Variant,
)
from fedfore.federation.world import World
from fedfore.masks import Mask
from fedfore.measure.clock import Clock
from fedfore.tasks.examples import Dataset


def observers(cell: Cell) -> list[Observer]:
    """Return one of each, in the order in which they are told: who needs FLOPs comes after who books them.

    A trial of tuning has those alone that tell how it was trained and what was learnt.
    """
    if cell.is_trial:
        return [Evaluator(), Budget(), Partition(), Variant(), Stopwatch()]
    return [
        CostMeter(),
        KernelProbe(),
        MaskComparison(centralised_mask),
        Evaluator(),
        GradientDiagnoser(),
        Budget(),
        Spending(),
        DeviceTraffic(),
        ModelSize(),
        MaskMovement(),
        Partition(),
        Variant(),
        PluginMetrics(),
        Stopwatch(),
    ]


def federation_of(
    cell: Cell,
    method: type[Method],
    dataset: Dataset,
    torch_device: torch.device,
    *,
    also: Iterable[Observer] = (),
    clients: MakeClients = Clients,
) -> Federation:
    """Return the federation of a cell; `also` are observers beside the usual ones."""
    clock = Clock()
    with clock.charge("data"):
        world = World.of(cell, dataset, torch_device)
    return Federation(world, method, [*observers(cell), *also], clients=clients, clock=clock)


def centralised_mask(view: View, config: Any, number: int) -> Mask:
    """Return the mask that the method's setup makes, under this Config, of all data on one client.

    Masks of different numbers are independent.
    """
    cell = view.world.cell
    central = view.world.pooled(replace(cell, params=asdict(config)), cell.train.clients + number)
    mask = Federation(central, type(view.server.method)).setup()
    assert mask is not None, "a cell with a mask has one when its data are pooled"
    return mask

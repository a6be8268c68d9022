"""One device: its share of the data, its memory between rounds, and where it is in its epochs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfore.cell import Phase
from fedfore.contract.client import Client
from fedfore.federation.ledger import PHASES
from fedfore.federation.world import World
from fedfore.streams import stream_seed
from fedfore.tasks.augmentation import augment


@dataclass
class Device:
    """One client's share of the data by phase, its memory between rounds, and the model that it last received."""

    clients: Mapping[Phase, Client]
    state: dict[str, Any]
    model: Mapping[str, Tensor] | None = None


def client_of(
    world: World, client: int, indices: np.ndarray, state: dict[str, Any], phase: str, *, as_they_are: bool = False
) -> Client:
    """Return a client that draws from the training examples `indices` by the streams of `phase`.

    Training augments its examples where the protocol says so, unless they are asked for `as_they_are`.
    """
    augmented = world.cell.train.augment and not as_they_are
    own = torch.from_numpy(indices).to(world.torch_device)

    def batch(chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = world.train_set.batch(own[chosen.to(own.device)])
        return (augment(x, generator) if augmented else x), y

    def stream(epoch: int) -> int:
        return stream_seed(world.cell.seed, "batches", phase, epoch, client)

    return Client(
        id=client,
        num_examples=len(own),
        state=state,
        _batch=batch,
        _batch_size=world.cell.train.batch_size,
        _stream=stream,
    )


def device_of(world: World, client: int) -> Device:
    """Return a device as it is before its first round."""
    state: dict[str, Any] = {}
    clients = {phase: client_of(world, client, world.parts[client], state, phase) for phase in PHASES}
    return Device(clients=clients, state=state)


def drawing(client: Client) -> dict[str, Any]:
    """Return where a client is in its epochs; nothing before it drew its first batch."""
    if not client.batches_drawn:
        return {}
    return {
        "epoch": client._epoch,
        "order": client._order.clone(),
        "generator": client._generator.get_state(),
        "examples_drawn": client.examples_drawn,
        "batches_drawn": client.batches_drawn,
    }


def draw_on(client: Client, drawn: Mapping[str, Any]) -> None:
    """Put a fresh client where `drawing` found one."""
    if drawn:
        client._epoch = drawn["epoch"]
        client._order = drawn["order"]
        client._generator = torch.Generator()
        client._generator.set_state(drawn["generator"])
        client.examples_drawn, client.batches_drawn = drawn["examples_drawn"], drawn["batches_drawn"]

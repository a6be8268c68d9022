"""The devices of a federation: shares of the data, one `Client` a phase, and what each last received."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfore.cell import Cell
from fedfore.contract.client import Client
from fedfore.primitives.gradients import Batch
from fedfore.streams import stream_seed
from fedfore.tasks.augmentation import augment
from fedfore.tasks.examples import Examples

PHASES = ("setup", "train")


@dataclass
class Device:
    """What the harness keeps of one client; its `state` is the client's own memory between rounds."""

    clients: dict[str, Client]
    state: dict[str, Any]
    model: Mapping[str, Tensor] | None = None
    mask_version: int = 0


@dataclass(frozen=True)
class Fleet:
    """The training examples and `parts`, each device's indices into them: one int64 vector (examples,) a device."""

    cell: Cell
    train: Examples
    parts: Sequence[np.ndarray]
    device: torch.device

    def make(self) -> list[Device]:
        """Return every device, fresh."""
        return [self._device(client) for client in range(len(self.parts))]

    def batch(self, indices: np.ndarray) -> Batch:
        """Return these training examples as one batch, as they are."""
        return Batch(*self.train.batch(torch.from_numpy(indices).to(self.device)))

    def client(
        self, client: int, indices: np.ndarray, state: dict[str, Any], phase: str, *, as_they_are: bool = False
    ) -> Client:
        """Return a client that draws from the examples `indices` by the streams of `phase`.

        Training augments its examples where the protocol says so, unless they are asked for `as_they_are`.
        """
        augmented = self.cell.train.augment and not as_they_are
        own = torch.from_numpy(indices).to(self.device)

        def batch(chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, y = self.train.batch(own[chosen.to(own.device)])
            return (augment(x, generator) if augmented else x), y

        def stream(epoch: int) -> int:
            return stream_seed(self.cell.seed, "batches", phase, epoch, client)

        return Client(client, len(own), state, batch, self.cell.train.batch_size, stream)

    @property
    def largest(self) -> int:
        """Examples of the largest device."""
        return max(len(part) for part in self.parts)

    @property
    def largest_batch(self) -> int:
        """Examples of the largest batch that any device can draw."""
        return min(self.cell.train.batch_size, self.largest)

    def metered_client(self, examples: int, state: dict[str, Any], phase: str) -> Client:
        """Return a client for the meters that holds this many examples and draws them in the largest batches."""
        indices = np.arange(examples) % len(self.train)
        client = self.client(0, indices, copy.deepcopy(state), phase)
        return replace(client, _batch_size=self.largest_batch)

    def _device(self, client: int) -> Device:
        state: dict[str, Any] = {}
        return Device({phase: self.client(client, self.parts[client], state, phase) for phase in PHASES}, state)

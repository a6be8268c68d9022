"""Labelled images in memory: bytes or floats, which become normalised floats batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfore.cell import InputScaling
from fedfore.tasks.dataset_spec import DatasetSpec

Indices = Tensor | NDArray[np.integer]
"""Positions of examples, int64 [B] (not a boolean mask)."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images; they stay bytes in memory and become normalised floats batch by batch.

    `images: uint8 [N, C, H, W]`, or float32, `labels: int64 [N]`, `mean, std: float32 [C]` in units of a byte's full
    range, or of the floats: with them batches have mean 0 and deviation 1 over the training set, unless `scaled` says
    otherwise. `client: int64 [N]` are the examples' natural owners, where they have any.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor
    client: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name; `client` is among them where there is one."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return `x: float32 [B, C, H, W]`, pixels / 255 (floats as they are) less `mean` over `std`, `y: int64 [B]`.

        x lies in memory with channels last, in which convolutions run up to twice as fast.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        full_range = 255 if self.images.dtype == torch.uint8 else 1
        mean, std = (full_range * value.view(-1, 1, 1) for value in (self.mean, self.std))
        x = self.images[index].to(torch.float32, memory_format=torch.channels_last)
        return x.sub_(mean).div_(std), self.labels[index]

    def subset(self, indices: Indices) -> Examples:
        """Return a copy of the examples at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        client = None if self.client is None else self.client[index]
        return replace(self, images=self.images.index_select(0, index), labels=self.labels[index], client=client)

    def scaled(self, scaling: InputScaling) -> Examples:
        """Return the same images, whose batches are scaled as `scaling` says; `unit` leaves pixels / 255."""
        if scaling == "standardised":
            return self
        return replace(self, mean=torch.zeros_like(self.mean), std=torch.ones_like(self.std))

    def to(self, device: torch.device | str) -> Examples:
        """Return the same examples on `device`."""
        return Examples(**{name: value.to(device) for name, value in self.tensors.items()})


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, split as published."""

    spec: DatasetSpec
    train: Examples
    test: Examples

    def owned(self, owners: NDArray[np.int64]) -> Dataset:
        """Return the same data, whose training examples have these owners, [N]."""
        return replace(self, train=replace(self.train, client=torch.from_numpy(owners)))

    def scaled(self, scaling: InputScaling) -> Dataset:
        """Return the same data, whose batches are scaled as `scaling` says (see `Examples.scaled`)."""
        return replace(self, train=self.train.scaled(scaling), test=self.test.scaled(scaling))

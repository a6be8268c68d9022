"""The partition of a cell that ran, as a file with which any cell can run."""

from __future__ import annotations

from dataclasses import replace

import torch

from fedfore.errors import ConfigError
from fedfore.federation.observers.sums import partition_sha256
from fedfore.federation.world import World
from fedfore.records.record import Record, cell_of
from fedfore.tasks.examples import Dataset
from fedfore.tasks.partition_file import PartitionFile, from_clients


def partition_of(record: Record, dataset: Dataset, name: str) -> PartitionFile:
    """Return the partition with which a cell ran, drawn again: positions in the published training set of `dataset`.

    Held-out examples are in nobody's share. `dataset` has the owners of a partition file where the cell names one.
    Raises ConfigError where what is drawn is not what the record says.
    """
    total = len(dataset.train)
    numbered = replace(dataset.train, images=torch.arange(total).view(-1, 1, 1, 1))  # each image is its own position
    world = World.of(cell_of(record), replace(dataset, train=numbered), torch.device("cpu"))
    if record.partition_sha256 not in (None, partition_sha256(world.shares)):
        raise ConfigError(
            f"{record.cell_id}: its clients had other shares than the present code and data give; check out commit "
            f"{(record.git_commit or 'of its record')[:12]}, or name the folder of its data."
        )
    clients = [world.train_set.images[part].flatten().numpy() for part in world.parts]
    return from_clients(name, clients, total, record.dataset)

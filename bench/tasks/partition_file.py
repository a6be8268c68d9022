"""Partitions as files: which training examples each client has, known by name and content. No torch.

A JSON file holds one object, whose order of indices means nothing:

    {"num_examples": 1437, "clients": [[0, 5, 17], [1, 2, 30]], "dataset": "digits"}

`clients` are the positions, from 0, of each client's examples in the published training set, of which there are
`num_examples`. `dataset` may be left out. An .npz file holds `client`, int [num_examples]: the client of each example,
numbered from 0. What no client has, with -1 in an .npz file, takes no part.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedfore.errors import ConfigError
from fedfore.tasks.heterogeneity import HASH_DIGITS
from fedfore.tasks.own_arrays import NO_ARRAYS

NOBODY = -1
MOST_EXAMPLES = 10**8


@dataclass(frozen=True, eq=False)
class PartitionFile:
    """A partition, whatever file it comes from. `name` is that file's stem, of letters, digits, ".", "_" and "-".

    `owners: int64 [num_examples]` is the client of each example, NOBODY of what takes no part; every client has one.
    """

    name: str
    owners: NDArray[np.int64]
    dataset: str | None = None

    @cached_property
    def key(self) -> str:
        """`NAME@HASH`: the beginning of the SHA-256 of the owners, as little-endian int64."""
        digest = hashlib.sha256(self.owners.astype("<i8").tobytes()).hexdigest()
        return f"{self.name}@{digest[:HASH_DIGITS]}"

    @property
    def sizes(self) -> list[int]:
        """The number of examples of each client."""
        return [int(size) for size in np.bincount(self.owners[self.owners >= 0])]

    def text(self) -> str:
        """Return the partition as its JSON file, a line a client."""
        lines = [json.dumps(np.flatnonzero(self.owners == client).tolist()) for client in range(len(self.sizes))]
        dataset = f' "dataset": {json.dumps(self.dataset)},\n' if self.dataset else ""
        clients = ",\n  ".join(lines)
        return f'{{\n{dataset} "num_examples": {len(self.owners)},\n "clients": [\n  {clients}\n ]\n}}\n'

    def require_fit(self, dataset: str, num_examples: int, clients: int, min_examples: int) -> None:
        """Raise ConfigError where a federation on a data set could not have this partition."""
        whose = f'The partition file "{self.name}"'
        if self.dataset not in (None, dataset):
            raise ConfigError(f"{whose} is of {self.dataset}, and the data set is {dataset}; take one of that.")
        if len(self.owners) != num_examples:
            raise ConfigError(
                f"{whose} is of {len(self.owners)} training examples, and {dataset} has {num_examples}; take one of "
                f"{dataset}."
            )
        if len(self.sizes) != clients:
            raise ConfigError(
                f"{whose} has {len(self.sizes)} clients, and train.clients = {clients}; set it to {len(self.sizes)}."
            )
        if min(self.sizes) < min_examples:
            client = int(np.argmin(self.sizes))
            raise ConfigError(
                f"{whose} gives client {client} {min(self.sizes)} examples, below min_client_examples = "
                f"{min_examples}; lower that, or give it more."
            )


def from_clients(
    name: str, clients: Sequence[NDArray[np.integer]], num_examples: int, dataset: str | None = None
) -> PartitionFile:
    """Return the partition in which client i has the examples `clients[i]`.

    Raises ConfigError for an index that is out of range or given twice, and for a client without any.
    """
    owners = np.full(num_examples, NOBODY, np.int64)
    for client, indices in enumerate(clients):
        if len(indices) == 0:
            raise ConfigError(f"client {client} has no example")
        for index in indices:
            if not 0 <= index < num_examples:
                raise ConfigError(
                    f"client {client} has the index {index}, and {num_examples} training examples are 0 to "
                    f"{num_examples - 1}"
                )
            if owners[index] != NOBODY:
                raise ConfigError(f"client {client} has the index {index}, which client {owners[index]} has already")
            owners[index] = client
    return _checked(PartitionFile(_tidy(name), owners, dataset))


def read_partition(path: Path) -> PartitionFile:
    """Return the partition in a JSON or .npz file. Raises ConfigError, which names the file, for what is none."""
    try:
        return parsed(path, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"The partition file {path} cannot be read ({error.strerror or error}).") from None


def parsed(path: Path, content: bytes) -> PartitionFile:
    """Return the partition in the content of a file of that path; raises as `read_partition` does."""
    stem = path.name.partition("@")[0].removesuffix(".json").removesuffix(".npz")
    try:
        if path.suffix == ".npz":
            with np.load(io.BytesIO(content)) as arrays:
                return _from_vector(stem, arrays)
        return _from_object(stem, json.loads(content.decode()))
    except ConfigError as error:
        raise ConfigError(f"The partition file {path} cannot be used: {error}.") from None
    except (*NO_ARRAYS, RecursionError):
        raise ConfigError(f"The partition file {path} is no JSON of UTF-8 and no .npz file of numbers.") from None


def _from_object(name: str, found: Any) -> PartitionFile:
    if not isinstance(found, dict) or not {"num_examples", "clients"} <= found.keys() <= _KEYS:
        raise ConfigError('it is no object of "num_examples", "clients" and maybe "dataset"')
    total, clients, dataset = found["num_examples"], found["clients"], found.get("dataset")
    if not (_is_count(total) and 1 <= total <= MOST_EXAMPLES):
        raise ConfigError(f'"num_examples" is {total!r}, and no whole number from 1 to {MOST_EXAMPLES:,}')
    if not isinstance(dataset, str | None):
        raise ConfigError(f'"dataset" is {dataset!r}, and no name')
    if not (isinstance(clients, list) and all(isinstance(one, list) and all(map(_is_count, one)) for one in clients)):
        raise ConfigError('"clients" is no list of lists of whole numbers')
    return from_clients(name, clients, total, dataset)


def _from_vector(name: str, arrays: Any) -> PartitionFile:
    if set(arrays) != {"client"}:
        raise ConfigError(f"it has the arrays {', '.join(sorted(arrays)) or 'none'}, and not `client` alone")
    owners = arrays["client"]
    if owners.ndim != 1 or not np.issubdtype(owners.dtype, np.integer) or not len(owners):
        raise ConfigError(f"`client` is {owners.dtype} {list(owners.shape)}, and no vector of whole numbers")
    if owners.min() < NOBODY or owners.max() >= len(owners):
        raise ConfigError(
            f"`client` runs from {owners.min()} to {owners.max()}; clients are numbered from 0, -1 is none"
        )
    return _checked(PartitionFile(_tidy(name), owners.astype(np.int64)))


_KEYS = {"num_examples", "clients", "dataset"}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _checked(partition: PartitionFile) -> PartitionFile:
    sizes = partition.sizes
    if not sizes or min(sizes) == 0:
        raise ConfigError(f"client {sizes.index(0) if sizes else 0} has no example")
    return partition


def _tidy(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem) or "partition"

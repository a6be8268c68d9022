"""The world of a federation: what is given before anything is learnt, and stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from fedfore.cell import Cell, Phase
from fedfore.contract.method import Method
from fedfore.federation.rules import expect
from fedfore.masks import Mask
from fedfore.primitives.gradients import Batch
from fedfore.records.probes import PROBE_EXAMPLES
from fedfore.streams import numpy_generator, stream_seed, torch_generator
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.models import build, initialise
from fedfore.tasks.partition import partition
from fedfore.tasks.validation import split_validation


@dataclass(frozen=True, eq=False)
class World:
    """The cell, its data, and every choice that its seed makes: partition, initial model, cohorts, probes.

    parts: every client's indices into `train_set`, one int64 vector (examples,) a client. `torch_device` is where all
    tensors live. `taken` are the positions of `train_set` among the training examples that are not held out, None where
    it is all of these.
    """

    cell: Cell
    spec: DatasetSpec
    train_set: Examples
    validation_set: Examples
    test_set: Examples
    parts: Sequence[np.ndarray]
    torch_device: torch.device
    taken: np.ndarray | None = None

    @classmethod
    def of(cls, cell: Cell, dataset: Dataset, torch_device: torch.device) -> World:
        """Split and partition a data set as the cell says; what no client has of the training set is left out of it.

        Raises ConfigError where that cannot be done.
        """
        dataset, train = dataset.scaled(cell.train.input_scaling), cell.train
        train_set, validation_set = split_validation(
            dataset.train, train.validation_fraction, _generator(cell, "partition", "validation")
        )
        parts = partition(
            train_set.labels.cpu().numpy(),
            train.clients,
            cell.alpha,
            train.min_client_examples,
            _generator(cell, "partition"),
            None if train_set.client is None else train_set.client.cpu().numpy(),
        )
        taken = None
        if sum(map(len, parts)) < len(train_set):
            taken = np.sort(np.concatenate(parts))
            train_set, parts = train_set.subset(taken), [np.searchsorted(taken, part) for part in parts]
        return cls(
            cell=cell,
            spec=dataset.spec,
            train_set=train_set.to(torch_device),
            validation_set=validation_set.to(torch_device),
            test_set=dataset.test,
            parts=parts,
            torch_device=torch_device,
            taken=taken,
        )

    @property
    def shares(self) -> Sequence[np.ndarray]:
        """Every client's examples by their position among the training examples that are not held out."""
        return self.parts if self.taken is None else [self.taken[part] for part in self.parts]

    @property
    def examples(self) -> tuple[Examples, Examples, Examples]:
        """All examples: for training, for validation and for testing."""
        return self.train_set, self.validation_set, self.test_set

    def initial_model(self, method: Method) -> nn.Module:
        """Return the model that every method of this seed begins with, as `method` prepares it."""
        model = method.prepare(build(self.cell.model, self.spec.input_shape, self.spec.num_classes))
        expect(model, nn.Module, "prepare")
        self.initialise(model, torch_generator(stream_seed(self.cell.seed, "init")))
        return model.to(self.torch_device)

    @cached_property
    def initialise(self) -> Callable[[nn.Module, torch.Generator], None]:
        """Draws the weights of a model anew, as the protocol's `train.init` says."""
        return partial(initialise, init=self.cell.train.init)

    def cohort(self, phase: Phase, round: int) -> tuple[int, ...]:
        """Return the clients of a round, in order."""
        train = self.cell.train
        chosen = self.generator("cohort", phase, round).choice(train.clients, size=train.cohort_size, replace=False)
        return tuple(sorted(int(client) for client in chosen))

    def context(self, phase: Phase, round: int, mask: Mask | None, progress: float) -> dict[str, Any]:
        """Return the fields of a round's contexts that server and devices have in common."""
        return {
            "cell": self._shown_cell,
            "phase": phase,
            "round": round,
            "mask": mask,
            "progress": progress,
            "device": self.torch_device,
            "input_shape": self.spec.input_shape,
            "initialise": self.initialise,
        }

    @cached_property
    def _shown_cell(self) -> Cell:
        """The cell as hooks see it, with parameters that nobody can change."""
        return replace(self.cell, params=MappingProxyType(dict(self.cell.params)))

    def batch(self, indices: np.ndarray) -> Batch:
        """Return these training examples as one batch, as they are."""
        return Batch(*self.train_set.batch(torch.from_numpy(indices).to(self.torch_device)))

    @cached_property
    def probe(self) -> np.ndarray:
        """The training examples [at most PROBE_EXAMPLES] on which gradients are looked at, by index."""
        return self.generator("probe").permutation(len(self.train_set))[:PROBE_EXAMPLES]

    def generator(self, role: str, phase: str = "", round: int = 0) -> np.random.Generator:
        """Return the generator of one of the seed's streams (see `fedfore.streams`)."""
        return _generator(self.cell, role, phase, round)

    def pooled(self, cell: Cell, client: int) -> PooledWorld:
        """Return the same data in the hands of one client of that id, which is every cohort, for a cell of its own."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return PooledWorld(**{**given, "cell": cell, "parts": [np.arange(len(self.train_set))] * (client + 1)})


class PooledWorld(World):
    """A world without federation: the last client holds all data and is every cohort."""

    def cohort(self, phase: Phase, round: int) -> tuple[int, ...]:
        return (len(self.parts) - 1,)


def _generator(cell: Cell, role: str, phase: str = "", round: int = 0) -> np.random.Generator:
    return numpy_generator(stream_seed(cell.seed_of(role), role, phase, round))

"""Cells that could not run, told before the first of them does: from descriptions and seeds, without any file."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from fedfore.cell import Cell
from fedfore.errors import ConfigError
from fedfore.streams import numpy_generator, stream_seed
from fedfore.tasks.datasets import spec
from fedfore.tasks.heterogeneity import NATURAL
from fedfore.tasks.partition import require_partition
from fedfore.tasks.validation import class_counts_left, num_held_out

MOST_EVALUATIONS = 1_000_000
"""The largest number of evaluations that a budget may be divided into."""


@dataclass
class Feasibility:
    """Judges cells one by one; what was found of a partition holds for every cell that asks for the same one."""

    possible: set[Hashable] = field(default_factory=set)

    def require(self, cell: Cell) -> None:
        """Raise ConfigError for a budget, a cadence of evaluations or a partition that the cell could not have.

        And for a trial of tuning that would have nothing to be judged by.
        """
        train = cell.train
        if cell.is_trial:
            _require_validation(cell)
        if train.meter_only:
            return
        if not train.setup_only:
            _require_budget(cell)
        asked = (
            cell.dataset, cell.alpha, cell.seed_of("partition"), train.clients, train.min_client_examples,
            train.validation_fraction,
        )  # fmt: skip
        if asked not in self.possible:
            _require_partition(cell)
            self.possible.add(asked)


def _require_budget(cell: Cell) -> None:
    train = cell.train
    examples = spec(cell.dataset).num_train
    if train.data_passes is not None and train.data_passes * examples < 1:
        raise ConfigError(
            f"train.data_passes = {train.data_passes:g} is less than one of the {examples} training examples of "
            f"{cell.dataset}: nothing would be trained."
        )
    if cell.is_trial:
        return
    if train.evaluation_interval > train.budget:
        raise ConfigError(
            f"train.eval_every = {train.evaluation_interval:g} is above the budget of {train.budget:g}: lower it, or "
            "leave it out."
        )
    if train.budget / train.evaluation_interval > MOST_EVALUATIONS:
        raise ConfigError(
            f"train.eval_every = {train.evaluation_interval:g} divides the budget of {train.budget:g} into more than "
            f"{MOST_EVALUATIONS:,} evaluations: raise it."
        )


def _require_validation(cell: Cell) -> None:
    train = cell.train
    if not num_held_out(spec(cell.dataset).num_train, train.validation_fraction):
        raise ConfigError(
            f"train.validation_fraction = {train.validation_fraction:g} holds out no example of {cell.dataset}, and a "
            "trial of tuning is judged by validation data: raise it."
        )
    if not train.budget:
        raise ConfigError("A trial of tuning has to train: leave train.setup_only and train.meter_only out.")


def _require_partition(cell: Cell) -> None:
    described, train = spec(cell.dataset), cell.train
    if cell.alpha == NATURAL and described.num_owners < train.clients:
        whose = f"{described.num_owners} owners of" if described.num_owners else "no owners of"
        raise ConfigError(
            f'alpha = "natural" over {train.clients} clients: {cell.dataset} knows {whose} its examples; '
            + ("lower clients." if described.num_owners else "choose another alpha.")
        )
    counts = described.class_counts and class_counts_left(described.class_counts, train.validation_fraction)
    require_partition(
        described.num_train - num_held_out(described.num_train, train.validation_fraction),
        counts,
        train.clients,
        cell.alpha,
        train.min_client_examples,
        numpy_generator(stream_seed(cell.seed_of("partition"), "partition")),
    )

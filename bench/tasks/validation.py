"""Validation examples held out of the training data, by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedfore.errors import ConfigError
from fedfore.tasks.examples import Examples


def split_validation(examples: Examples, fraction: float, rng: np.random.Generator) -> tuple[Examples, Examples]:
    """Split off round(fraction x N) random examples and return (train, validation), each in the original order.

    Stratified: a class's validation share differs from `fraction` by less than one example. Where none is held out,
    train is `examples`, not a copy. Raises ConfigError unless 0 <= fraction < 1 leaves an example to train on.
    """
    total = len(examples)
    wanted = num_held_out(total, fraction)
    shuffled = rng.permutation(total)
    by_label = shuffled[np.argsort(examples.labels.cpu().numpy()[shuffled], kind="stable")]
    validation = np.zeros(total, dtype=bool)
    validation[by_label[_held_out(total, wanted)]] = True
    train = examples.subset(np.flatnonzero(~validation)) if wanted else examples
    return train, examples.subset(np.flatnonzero(validation))


def num_held_out(total: int, fraction: float) -> int:
    """Return the number of validation examples. Raises ConfigError as `split_validation` does."""
    if not 0 <= fraction < 1 or total - round(fraction * total) < 1:
        raise ConfigError(
            f"validation_fraction = {fraction} leaves nothing of {total} examples: give a number from 0 up to, "
            "but not including, 1."
        )
    return round(fraction * total)


def class_counts_left(class_counts: Sequence[int], fraction: float) -> list[int]:
    """Return the training examples of each class that `split_validation` leaves; they depend on no draw."""
    total, ends = sum(class_counts), np.cumsum(class_counts)
    held = np.searchsorted(ends, _held_out(total, num_held_out(total, fraction)), side="right")
    left = np.array(class_counts) - np.bincount(held, minlength=len(ends))
    return [int(count) for count in left]


def _held_out(total: int, wanted: int) -> NDArray[np.int64]:
    """Return the positions, among examples sorted by label, of the `wanted` ones that are held out."""
    return np.arange(wanted) * total // max(wanted, 1)

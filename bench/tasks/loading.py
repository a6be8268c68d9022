"""Data sets by name, read into memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from fedfore.errors import DataError
from fedfore.tasks.datasets import DatasetSpec, spec
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.files import data_root, ensure_present
from fedfore.tasks.readers import Part

UNREADABLE = (
    AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError
)  # fmt: skip
"""What a reader may raise of files that are not what it expects."""


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a data set into memory (CIFAR: 184 MB).

    Raises ConfigError for an unknown name, DataError for bad files and for data that are not as described.
    """
    ensure_present(name, data_dir)
    wanted, root = spec(name), data_root(data_dir)
    assert wanted.read is not None, "ensure_present refuses an entry without a reader"
    try:
        train, test = wanted.read(root)
    except UNREADABLE as error:
        get = f"; run `fedfore data get {name}`" if wanted.downloadable else ""
        raise DataError(f'Data set "{name}" cannot be read from {root} ({error}){get}.') from error
    for part, size in ((train, wanted.num_train), (test, wanted.num_test)):
        _check_part(part, size, wanted)
    mean, std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    return Dataset(wanted, Examples(*train, mean, std), Examples(*test, mean, std))


def _check_part(part: Part, size: int, wanted: DatasetSpec) -> None:
    images, labels = part
    found = f"{images.dtype} {list(images.shape)} with {labels.dtype} {list(labels.shape)}"
    described = f"torch.uint8 {[size, *wanted.input_shape]} with torch.int64 {[size]}"
    if found != described:
        raise DataError(f'The reader of data set "{wanted.name}" gives {found}; its entry describes {described}.')
    if not 0 <= int(labels.min()) <= int(labels.max()) < wanted.num_classes:
        raise DataError(
            f'The labels of data set "{wanted.name}" run from {int(labels.min())} to {int(labels.max())}; '
            f"{wanted.num_classes} classes are 0 to {wanted.num_classes - 1}."
        )


def stand_in(name: str, num_train: int) -> Dataset:
    """Return `num_train` random images in the shape of a data set, and none to test on; no file is read."""
    wanted = spec(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_train, *wanted.input_shape), generator=generator, dtype=torch.uint8)
    labels = torch.arange(num_train) % wanted.num_classes
    train = Examples(images, labels, torch.tensor(wanted.mean), torch.tensor(wanted.std))
    return Dataset(wanted, train, train.subset(torch.arange(0)))

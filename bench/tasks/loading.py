"""Data sets by name, read into memory."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfore.errors import DataError
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.datasets import spec
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.files import data_root, ensure_present

UNREADABLE = (
    AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError
)  # fmt: skip
"""What a reader may raise of files that are not what it expects."""
DTYPES = (torch.uint8, torch.float32)
PIXELS_AT_ONCE = 2**24
"""Pixels of which mean and deviation are computed at a time."""


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a data set into memory (CIFAR: 184 MB).

    Raises ConfigError for an unknown name, DataError for bad files and for data that are not as described, PluginError
    for a plug-in that cannot be used.
    """
    ensure_present(name, data_dir)
    wanted, root = spec(name), data_root(data_dir)
    assert wanted.read is not None, "ensure_present refuses an entry without a reader"
    try:
        train, test = (tuple(map(_tensor, part)) for part in wanted.read(root))
    except UNREADABLE as error:
        get = f"; run `fedfore data get {name}`" if wanted.downloadable else ""
        raise DataError(f'Data set "{name}" cannot be read from {root} ({error}){get}.') from error
    for part, size in ((train, wanted.num_train), (test, wanted.num_test)):
        _check_part(part, size, wanted)
    if train[0].dtype != test[0].dtype:
        raise DataError(
            f'Data set "{name}" has {train[0].dtype} images to train on and {test[0].dtype} ones to test on; give both '
            "the same type."
        )
    mean, std = _scale(wanted, train[0])
    parts = (Examples(part[0], part[1], mean, std, *part[2:]) for part in (train, test))
    return Dataset(wanted, *parts)


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))


def _check_part(part: tuple[Tensor, ...], size: int, wanted: DatasetSpec) -> None:
    """Raise DataError unless a part is images, labels and maybe owners, as many and of such shape as described."""
    images, labels, *owners = part
    found = " with ".join(f"{tensor.dtype} {list(tensor.shape)}" for tensor in part)
    fits = images.dtype in DTYPES and list(images.shape) == [size, *wanted.input_shape]
    fits &= all((one.dtype, list(one.shape)) == (torch.int64, [size]) for one in (labels, *owners)) and len(owners) < 2
    if not fits:
        described = f"torch.uint8 or torch.float32 {[size, *wanted.input_shape]} with torch.int64 {[size]}"
        raise DataError(f'The reader of data set "{wanted.name}" gives {found}; its entry describes {described}.')
    if not 0 <= int(labels.min()) <= int(labels.max()) < wanted.num_classes:
        raise DataError(
            f'The labels of data set "{wanted.name}" run from {int(labels.min())} to {int(labels.max())}; '
            f"{wanted.num_classes} classes are 0 to {wanted.num_classes - 1}."
        )
    if images.dtype == torch.float32 and not bool(images.isfinite().all()):
        raise DataError(f'The images of data set "{wanted.name}" hold NaN or infinite values; give finite ones.')


def _scale(wanted: DatasetSpec, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return `mean, std: float32 [C]`, as they are declared or of these images, in units of a byte's full range."""
    if wanted.mean is not None and wanted.std is not None:
        return torch.tensor(wanted.mean), torch.tensor(wanted.std)
    full_range = 255 if images.dtype == torch.uint8 else 1
    pieces = images.split(max(1, PIXELS_AT_ONCE // images[0].numel()))
    count = images.numel() / images.shape[1]
    mean = sum(piece.double().sum((0, 2, 3)) for piece in pieces) / count
    squares = sum((piece.double() - mean.view(-1, 1, 1)).square().sum((0, 2, 3)) for piece in pieces)
    std = (squares / count).sqrt()
    return (mean / full_range).float(), torch.where(std > 0, std / full_range, 1.0).float()


def stand_in(name: str, num_train: int) -> Dataset:
    """Return `num_train` random images in the shape of a data set, and none to test on; no file is read."""
    wanted = spec(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_train, *wanted.input_shape), generator=generator, dtype=torch.uint8)
    labels = torch.arange(num_train) % wanted.num_classes
    train = Examples(images, labels, *_scale(wanted, images))
    return Dataset(wanted, train, train.subset(torch.arange(0)))

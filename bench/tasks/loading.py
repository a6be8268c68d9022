"""Data sets by name, read into memory."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfore.errors import DataError
from fedfore.tasks.channels import channel_moments
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.datasets import spec
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.files import data_root, ensure_present

UNREADABLE = (
    AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError, pickle.PickleError
)  # fmt: skip
"""What a reader may raise of files that are not what it expects."""
DTYPES = (torch.uint8, torch.float32)
Tensors = tuple[Tensor, ...]
"""Images, labels and maybe owners."""


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a data set into memory (CIFAR: 184 MB).

    Raises ConfigError for an unknown name, DataError for bad files and for data that are not as described, PluginError
    for a plug-in that cannot be used.
    """
    ensure_present(name, data_dir)
    wanted, root = spec(name), data_root(data_dir)
    parts = read_parts(wanted, root)
    for _, fault in faults(wanted, parts):
        raise DataError(fault)
    mean, std = _scale(wanted, parts[0][0])
    train, test = (Examples(x, y, mean, std, owners[0] if owners else None) for x, y, *owners in parts)
    return Dataset(wanted, train, test)


def read_parts(wanted: DatasetSpec, root: Path) -> tuple[Tensors, Tensors]:
    """Return what the reader of a data set gives to train on and to test on, as tensors.

    Raises DataError where it gives nothing of the kind, PluginError where that of a plug-in fails.
    """
    assert wanted.read is not None, "ensure_present refuses an entry without a reader"
    try:
        read = wanted.read(root)
        if not isinstance(read, Sequence) or len(read) != 2:
            raise DataError(
                f'The reader of data set "{wanted.name}" gives a {type(read).__name__}; give (train, test).'
            )
        train, test = (tuple(map(_tensor, part)) for part in read)
        _ = (train[1], test[1])
    except UNREADABLE as error:
        get = f"; run `fedfore data get {wanted.name}`" if wanted.downloadable else ""
        raise DataError(f'Data set "{wanted.name}" cannot be read from {root} ({error}){get}.') from error
    return train, test


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(np.ascontiguousarray(values))


def faults(wanted: DatasetSpec, parts: Sequence[Tensors]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the parts of a data set, by rule and sentence, types and shapes before values."""
    name, is_whole = wanted.name, True
    for part, size in zip(parts, (wanted.num_train, wanted.num_test), strict=True):
        types, shapes = [tensor.dtype for tensor in part], [list(tensor.shape) for tensor in part]
        found = " with ".join(f"{dtype} {shape}" for dtype, shape in zip(types, shapes, strict=True))
        described = f"torch.uint8 or torch.float32 {[size, *wanted.input_shape]} with torch.int64 {[size]}"
        sentence = f'The reader of data set "{name}" gives {found}; its entry describes {described}.'
        right = {
            "dtypes": types[0] in DTYPES and all(dtype == torch.int64 for dtype in types[1:]),
            "shapes": shapes[0] == [size, *wanted.input_shape] and shapes[1] == [size],
            "client": len(part) == 2 or shapes[2:] == [[size]],
        }
        yield from ((rule, sentence) for rule, is_right in right.items() if not is_right)
        is_whole &= all(right.values())
    if not is_whole:
        return
    (images, labels, *owners), (others, _, *_) = parts
    if images.dtype != others.dtype:
        yield (
            "dtypes",
            f'Data set "{name}" has {images.dtype} images to train on and {others.dtype} ones to test on; give both '
            "the same type.",
        )
    counts = torch.cat([part[1] for part in parts])
    if not 0 <= int(counts.min()) <= int(counts.max()) < wanted.num_classes:
        yield (
            "labels",
            f'The labels of data set "{name}" run from {int(counts.min())} to {int(counts.max())}; '
            f"{wanted.num_classes} classes are 0 to {wanted.num_classes - 1}.",
        )
    elif wanted.class_counts is not None:
        own = tuple(torch.bincount(labels, minlength=wanted.num_classes).tolist())
        if own != wanted.class_counts:
            yield "class_counts", f'Data set "{name}" has {own} training examples a class, and declares others.'
    if any(part[0].is_floating_point() and not part[0].isfinite().all() for part in parts):
        yield "values", f'The images of data set "{name}" hold NaN or infinite values; give finite ones.'
    if owners and int(owners[0].min()) < 0:
        yield "client", f'Data set "{name}" has an example of client {int(owners[0].min())}; number owners from 0.'
    num_owners = len(owners[0].unique()) if owners else 0
    if num_owners != wanted.num_owners:
        yield (
            "client",
            f'The training examples of data set "{name}" have {num_owners} owners; its entry says num_owners = '
            f"{wanted.num_owners}.",
        )


def _scale(wanted: DatasetSpec, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return `mean, std: float32 [C]`, as they are declared or of these images, in units of a byte's full range."""
    if wanted.mean is not None and wanted.std is not None:
        return torch.tensor(wanted.mean), torch.tensor(wanted.std)
    mean, std = channel_moments(images.numpy())
    return torch.tensor(mean), torch.tensor(std)


def stand_in(name: str, num_train: int) -> Dataset:
    """Return `num_train` random images in the shape of a data set, and none to test on; no file is read."""
    wanted = spec(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_train, *wanted.input_shape), generator=generator, dtype=torch.uint8)
    labels = torch.arange(num_train) % wanted.num_classes
    train = Examples(images, labels, *_scale(wanted, images))
    return Dataset(wanted, train, train.subset(torch.arange(0)))

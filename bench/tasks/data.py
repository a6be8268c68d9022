"""Data sets by name, as uint8 images [N, C, 32, 32]: files in torchvision's layout, and `digits`, which needs none.

To add a data set, write one entry of `DATASETS`: what is known of it before any file is read, and `read`, a function
of the data folder that returns its images and labels (see `fedfore.tasks.readers`). Descriptions need no file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfore.cell import InputScaling
from fedfore.errors import ConfigError, DataError, suggestion
from fedfore.tasks.readers import SIDE, Part, Reader, read_cifar, read_digits, read_mnist

Indices = Tensor | NDArray[np.integer]
"""Positions of examples, int64 [B] (not a boolean mask)."""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read.

    `mean` and `std` are per-channel constants of the training images at 32x32, in units of the full range (0 to 1).
    `files` maps paths below the data folder to MD5 sums; it is empty where the data come inside a package. `read` reads
    the data. `class_counts`, the training examples of each class, let a plan refuse partitions that cannot be drawn;
    they may be left out.
    """

    name: str
    description: str
    input_shape: tuple[int, int, int]
    num_classes: int
    num_train: int
    num_test: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentable: bool = False
    read: Reader | None = field(default=None, repr=False)
    torchvision_class: str | None = None
    class_counts: tuple[int, ...] | None = field(default=None, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    @property
    def downloadable(self) -> bool:
        """Whether the data are files that `download` can fetch."""
        return self.torchvision_class is not None


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled images; they stay bytes in memory and become normalised floats batch by batch.

    `images: uint8 [N, C, 32, 32]`, `labels: int64 [N]`, `mean, std: float32 [C]`: those of `DatasetSpec`, with which
    batches have mean 0 and deviation 1 over the training set, unless `scaled` says otherwise.
    """

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Return `x: float32 [B, C, 32, 32]`, pixels / 255 less `mean` over `std`, and `y: int64 [B]`.

        x lies in memory with channels last, in which convolutions run up to twice as fast.
        """
        index = torch.as_tensor(indices, dtype=torch.int64)
        mean, std = (255 * value.view(-1, 1, 1) for value in (self.mean, self.std))
        x = self.images[index].to(torch.float32, memory_format=torch.channels_last)
        return x.sub_(mean).div_(std), self.labels[index]

    def subset(self, indices: Indices) -> Examples:
        """Return a copy of the examples at `indices`, in that order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def scaled(self, scaling: InputScaling) -> Examples:
        """Return the same images, whose batches are scaled as `scaling` says; `unit` leaves pixels / 255."""
        if scaling == "standardised":
            return self
        return replace(self, mean=torch.zeros_like(self.mean), std=torch.ones_like(self.std))

    def to(self, device: torch.device | str) -> Examples:
        """Return the same examples on `device`."""
        return Examples(*(value.to(device) for value in (self.images, self.labels, self.mean, self.std)))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory, split as published."""

    spec: DatasetSpec
    train: Examples
    test: Examples

    def scaled(self, scaling: InputScaling) -> Dataset:
        """Return the same data, whose batches are scaled as `scaling` says (see `Examples.scaled`)."""
        return replace(self, train=self.train.scaled(scaling), test=self.test.scaled(scaling))


DATASETS: Mapping[str, DatasetSpec] = {
    entry.name: entry
    for entry in (
        DatasetSpec(
            name="digits",
            description="UCI handwritten digits, 8x8 grey, inside scikit-learn",
            input_shape=(1, SIDE, SIDE),
            num_classes=10,
            num_train=1437,
            num_test=360,
            mean=(0.3057,),
            std=(0.3238,),
            read=read_digits,
            class_counts=(142, 146, 141, 147, 144, 146, 145, 143, 139, 144),
        ),
        DatasetSpec(
            name="mnist",
            description="MNIST handwritten digits, 28x28 grey",
            input_shape=(1, SIDE, SIDE),
            num_classes=10,
            num_train=60_000,
            num_test=10_000,
            mean=(0.1309,),
            std=(0.2892,),
            read=partial(read_mnist, "MNIST"),
            torchvision_class="MNIST",
            class_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            files={
                "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
        ),
        DatasetSpec(
            name="fashion_mnist",
            description="Fashion-MNIST articles of clothing, 28x28 grey",
            input_shape=(1, SIDE, SIDE),
            num_classes=10,
            num_train=60_000,
            num_test=10_000,
            mean=(0.2854,),
            std=(0.3384,),
            read=partial(read_mnist, "FashionMNIST"),
            torchvision_class="FashionMNIST",
            class_counts=(6000,) * 10,
            files={
                "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
                "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
                "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
            },
        ),
        DatasetSpec(
            name="cifar10",
            description="CIFAR-10 natural images, 32x32 colour, 10 classes",
            input_shape=(3, SIDE, SIDE),
            num_classes=10,
            num_train=50_000,
            num_test=10_000,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            augmentable=True,
            read=partial(read_cifar, "CIFAR10"),
            torchvision_class="CIFAR10",
            class_counts=(5000,) * 10,
            files={
                "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
                "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
                "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
                "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
            },
        ),
        DatasetSpec(
            name="cifar100",
            description="CIFAR-100 natural images, 32x32 colour, 100 classes",
            input_shape=(3, SIDE, SIDE),
            num_classes=100,
            num_train=50_000,
            num_test=10_000,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            augmentable=True,
            read=partial(read_cifar, "CIFAR100"),
            torchvision_class="CIFAR100",
            class_counts=(500,) * 100,
            files={
                "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
                "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
                "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
            },
        ),
    )
}


def spec(name: str) -> DatasetSpec:
    """Return the description of a data set; raises ConfigError with the nearest name for an unknown one."""
    if name not in DATASETS:
        raise ConfigError(f'Unknown data set "{name}".{suggestion(name, DATASETS)}')
    return DATASETS[name]


def data_root(data_dir: Path | None = None) -> Path:
    """Return the folder of the data files: `data_dir`, else $FEDFORE_DATA, else ~/.cache/fedfore/data.

    A `~` stays as it is where the system knows no home folder.
    """
    chosen = data_dir or os.environ.get("FEDFORE_DATA") or "~/.cache/fedfore/data"
    return Path(os.path.expanduser(chosen))  # noqa: PTH111 - Path.expanduser raises where there is no home folder


def ensure_present(name: str, data_dir: Path | None = None) -> None:
    """Raise DataError unless every file of the data set is in the data folder, bit for bit as published."""
    wanted, root = spec(name), data_root(data_dir)
    if wanted.read is None:
        raise DataError(f'Data set "{name}" has no reader: give its entry in bench/tasks/data.py a function `read`.')
    for file, md5 in wanted.files.items():
        fault = _fault(root / file, md5)
        if fault:
            raise DataError(
                f'Data set "{name}" is not usable in {root}: {file} {fault}; '
                f"run `fedfore data get {name}`, or name the folder that holds it with --data-dir or FEDFORE_DATA."
            )


def _fault(path: Path, md5: str) -> str | None:
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == md5 else "is damaged"


def download(name: str, data_dir: Path | None = None) -> None:
    """Fetch the files of a data set into the data folder, replacing damaged ones; nothing to do for `digits`.

    Raises DataError where the network, the server or the disk refuses.
    """
    wanted, root = spec(name), data_root(data_dir)
    if wanted.torchvision_class is None:
        return
    if str(root).startswith("~"):
        raise DataError("No home folder is known; name the folder for data sets with --data-dir or FEDFORE_DATA.")
    from fedfore.tasks.torchvision_compat import datasets

    try:
        for file, md5 in wanted.files.items():
            if _fault(root / file, md5):  # torchvision does not replace an MNIST file that merely exists
                (root / file).unlink(missing_ok=True)
        getattr(datasets, wanted.torchvision_class)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f'Data set "{name}" could not be downloaded into {root} ({error}): '
            "check the network and the folder, or copy the files there yourself."
        ) from error
    ensure_present(name, data_dir)


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a data set into memory (CIFAR: 184 MB).

    Raises ConfigError for an unknown name, DataError for bad files and for data that are not as described.
    """
    ensure_present(name, data_dir)
    wanted, root = spec(name), data_root(data_dir)
    assert wanted.read is not None, "ensure_present refuses an entry without a reader"
    try:
        train, test = wanted.read(root)
    except (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
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

"""Data sets by name, as uint8 images [N, C, 32, 32]: files in torchvision's layout, and `digits`, which needs none.

Smaller images are enlarged to 32x32 as BAFFLE does for MNIST: bilinearly, corners not aligned, no antialiasing (which
changes nothing when enlarging), then rounded to whole grey levels. From 8 or 28 pixels every interpolation weight is a
short binary fraction, so the pixels are the same on every machine. Descriptions (`DATASETS`) need no file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bench.cell import InputScaling
from bench.errors import ConfigError, DataError, suggestion

SIDE = 32
"""Height and width of every image, pixels."""

Indices = Tensor | NDArray[np.integer]
"""Positions of examples, int64 [B] (not a boolean mask)."""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read.

    `mean` and `std` are per-channel constants of the training images at 32x32, in units of the full range (0 to 1).
    `files` maps paths below the data folder to MD5 sums; it is empty where the data come inside a package.
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
    torchvision_class: str | None = None
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
            torchvision_class="MNIST",
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
            torchvision_class="FashionMNIST",
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
            torchvision_class="CIFAR10",
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
            torchvision_class="CIFAR100",
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
    """Return the folder of the data files: `data_dir`, else $FEDFORE_DATA, else ~/.cache/fedfore/data."""
    chosen = data_dir or os.environ.get("FEDFORE_DATA") or Path.home() / ".cache" / "fedfore" / "data"
    return Path(chosen).expanduser()


def ensure_present(name: str, data_dir: Path | None = None) -> None:
    """Raise DataError unless every file of the data set is in the data folder, bit for bit as published."""
    root = data_root(data_dir)
    for file, md5 in spec(name).files.items():
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
    from bench.torchvision_compat import datasets

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
    """Read a data set into memory (CIFAR: 184 MB). Raises ConfigError for an unknown name, DataError for bad files."""
    wanted = spec(name)
    if wanted.torchvision_class is None:
        train, test = _digits()
    else:
        ensure_present(name, data_dir)
        train, test = (_published(wanted, data_root(data_dir), train) for train in (True, False))
    mean, std = torch.tensor(wanted.mean), torch.tensor(wanted.std)
    return Dataset(wanted, Examples(*train, mean, std), Examples(*test, mean, std))


def stand_in(name: str, num_train: int) -> Dataset:
    """Return `num_train` random images in the shape of a data set, and none to test on; no file is read."""
    wanted = spec(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_train, *wanted.input_shape), generator=generator, dtype=torch.uint8)
    labels = torch.arange(num_train) % wanted.num_classes
    train = Examples(images, labels, torch.tensor(wanted.mean), torch.tensor(wanted.std))
    return Dataset(wanted, train, train.subset(torch.arange(0)))


def _digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (images, labels) for training and for testing; sorted by label, every fifth example is a test one.

    That split is stratified and needs no random numbers, so that no library version can change it.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = _enlarge(torch.from_numpy(bunch.images) * (255 / 16))
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    test = np.sort(np.argsort(bunch.target, kind="stable")[::5])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return (images[train], labels[train]), (images[test], labels[test])


def _published(wanted: DatasetSpec, root: Path, train: bool) -> tuple[Tensor, Tensor]:
    from bench.torchvision_compat import datasets

    assert wanted.torchvision_class is not None
    try:
        source = getattr(datasets, wanted.torchvision_class)(root, train=train, download=False)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f'Data set "{wanted.name}" cannot be read from {root} ({error}); run `fedfore data get {wanted.name}`.'
        ) from error
    labels = torch.as_tensor(source.targets, dtype=torch.int64)
    if isinstance(source.data, Tensor):
        return _enlarge(source.data), labels
    return torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous(), labels


def _enlarge(images: Tensor) -> Tensor:
    """Return `images: [N, h, w]` (grey levels 0 to 255) as uint8 [N, 1, 32, 32]; see the module's docstring."""
    enlarged = torch.empty(len(images), 1, SIDE, SIDE, dtype=torch.uint8)
    for source, target in zip(images.unsqueeze(1).split(4096), enlarged.split(4096), strict=True):
        pixels = functional.interpolate(source.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        target.copy_(pixels.round_())
    return enlarged


def split_validation(examples: Examples, fraction: float, rng: np.random.Generator) -> tuple[Examples, Examples]:
    """Split off round(fraction x N) random examples and return (train, validation), each in the original order.

    Stratified: a class's validation share differs from `fraction` by less than one example. Raises ConfigError unless
    0 <= fraction < 1 leaves an example to train on.
    """
    total = len(examples)
    if not 0 <= fraction < 1 or total - round(fraction * total) < 1:
        raise ConfigError(
            f"validation_fraction = {fraction} leaves nothing of {total} examples: give a number from 0 up to, "
            "but not including, 1."
        )
    wanted = round(fraction * total)
    shuffled = rng.permutation(total)
    by_label = shuffled[np.argsort(examples.labels.cpu().numpy()[shuffled], kind="stable")]
    validation = np.zeros(total, dtype=bool)
    validation[by_label[np.arange(wanted) * total // max(wanted, 1)]] = True
    return examples.subset(np.flatnonzero(~validation)), examples.subset(np.flatnonzero(validation))


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift and mirror each image at random, as BAFFLE does for CIFAR: reflect-pad by 4, crop back, flip half of them.

    `x: [B, C, H, W]`, on any device; returns a new tensor like it. Shifts are uniform over -4..4 in both directions;
    the draws depend on B alone and are made on the generator's device.
    """
    batch, channels, *sides = x.shape
    shifts = torch.randint(-4, 5, (2, batch, 1), generator=generator, device=generator.device)
    mirrored = torch.randint(2, (batch, 1), generator=generator, device=generator.device).bool()
    rows, columns = (
        last - (last - (shift + torch.arange(last + 1, device=shift.device)).abs()).abs()
        for shift, last in zip(shifts, (side - 1 for side in sides), strict=True)
    )
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(x.device), columns.to(x.device)
    examples = torch.arange(batch, device=x.device)[:, None, None, None]
    planes = torch.arange(channels, device=x.device)[:, None, None]
    moved = x[examples, planes, rows[:, None, :, None], columns[:, None, None, :]]
    return moved.contiguous(memory_format=torch.channels_last)

"""Data sets by name: what is known of each before any file is read. No torch.

To add a data set, write one entry of `DATASETS`, its `read` among it: a function of the data folder that returns images
and labels (see `fedfore.tasks.readers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from fedfore.errors import ConfigError, suggestion
from fedfore.tasks.readers import SIDE, Reader, read_cifar, read_digits, read_mnist


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before any file is read.

    `mean` and `std` are per-channel constants of the training images at 32x32, in units of the full range (0 to 1).
    `files` maps paths below the data folder to MD5 sums; it is empty where the data need none there. `read` reads
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


DATASETS: Mapping[str, DatasetSpec] = {
    entry.name: entry
    for entry in (
        DatasetSpec(
            name="digits",
            description="UCI handwritten digits, 8x8 grey, part of the suite",
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
            read=partial(read_mnist, "MNIST/raw"),
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
            read=partial(read_mnist, "FashionMNIST/raw"),
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
            read=partial(
                read_cifar,
                "labels",
                [f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6)],
                ["cifar-10-batches-py/test_batch"],
            ),
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
            read=partial(read_cifar, "fine_labels", ["cifar-100-python/train"], ["cifar-100-python/test"]),
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

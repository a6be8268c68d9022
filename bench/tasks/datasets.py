"""Data sets by name: what is known of each before any file is read. No torch.

A data set is a function of the data folder that returns images and labels, under the decorator that describes it (see
`fedfore.tasks.dataset_spec`): here one that ships, in a file of its own a plug-in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fedfore.errors import ConfigError, suggestion
from fedfore.records.declared import described, known
from fedfore.tasks.dataset_spec import DatasetSpec, dataset
from fedfore.tasks.own_arrays import is_own, parts
from fedfore.tasks.readers import SIDE, Part, read_cifar, read_digits, read_mnist


@dataset(
    input_shape=(1, SIDE, SIDE),
    num_classes=10,
    num_train=1437,
    num_test=360,
    mean=(0.3057,),
    std=(0.3238,),
    class_counts=(142, 146, 141, 147, 144, 146, 145, 143, 139, 144),
)
def digits(root: Path) -> tuple[Part, Part]:
    """UCI handwritten digits, 8x8 grey, part of the suite"""
    return read_digits(root)


@dataset(
    input_shape=(1, SIDE, SIDE),
    num_classes=10,
    num_train=60_000,
    num_test=10_000,
    mean=(0.1309,),
    std=(0.2892,),
    torchvision_class="MNIST",
    class_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    files={
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
def mnist(root: Path) -> tuple[Part, Part]:
    """MNIST handwritten digits, 28x28 grey"""
    return read_mnist("MNIST/raw", root)


@dataset(
    input_shape=(1, SIDE, SIDE),
    num_classes=10,
    num_train=60_000,
    num_test=10_000,
    mean=(0.2854,),
    std=(0.3384,),
    torchvision_class="FashionMNIST",
    class_counts=(6000,) * 10,
    files={
        "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)
def fashion_mnist(root: Path) -> tuple[Part, Part]:
    """Fashion-MNIST articles of clothing, 28x28 grey"""
    return read_mnist("FashionMNIST/raw", root)


@dataset(
    input_shape=(3, SIDE, SIDE),
    num_classes=10,
    num_train=50_000,
    num_test=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    augmentable=True,
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
)
def cifar10(root: Path) -> tuple[Part, Part]:
    """CIFAR-10 natural images, 32x32 colour, 10 classes"""
    return read_cifar(
        "labels",
        [f"cifar-10-batches-py/data_batch_{batch}" for batch in range(1, 6)],
        ["cifar-10-batches-py/test_batch"],
        root,
    )


@dataset(
    input_shape=(3, SIDE, SIDE),
    num_classes=100,
    num_train=50_000,
    num_test=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
    augmentable=True,
    torchvision_class="CIFAR100",
    class_counts=(500,) * 100,
    files={
        "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
        "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    },
)
def cifar100(root: Path) -> tuple[Part, Part]:
    """CIFAR-100 natural images, 32x32 colour, 100 classes"""
    return read_cifar("fine_labels", ["cifar-100-python/train"], ["cifar-100-python/test"], root)


DATASETS: Mapping[str, DatasetSpec] = {
    one.__name__: described(one) for one in (digits, mnist, fashion_mnist, cifar10, cifar100)
}
"""Those that ship."""


_OWN: dict[str, DatasetSpec] = {}
"""The data sets of somebody's own arrays that this process knows, by path and content (see `own_arrays`)."""


def know(found: DatasetSpec) -> None:
    """Make a data set of somebody's own arrays known to this process."""
    _OWN[found.name] = found


def own_spec(name: str, description: Mapping[str, Any]) -> DatasetSpec:
    """Return what `own_arrays.described` says of a data set. Raises ConfigError for a description that is none."""
    try:
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in description.items()
        }
        return DatasetSpec(name=name, description="arrays of one's own", read=partial(parts, name), **given)
    except TypeError as error:
        raise ConfigError(f'What the matrix says of data set "{name}" is no description of one ({error}).') from None


def spec(name: str) -> DatasetSpec:
    """Return the description of a data set, one of a plug-in where this process knows it.

    Raises ConfigError with the nearest name for an unknown one, and for arrays of one's own that nobody has read,
    PluginError for a plug-in that cannot be used.
    """
    if is_own(name):
        if name not in _OWN:
            raise ConfigError(f'Data set "{name}" is known by its matrix alone; name it there, as it is written here.')
        return _OWN[name]
    plugins = known("dataset")
    if name not in (*DATASETS, *plugins):
        raise ConfigError(f'Unknown data set "{name}".{suggestion(name, [*DATASETS, *plugins])}')
    return DATASETS.get(name) or plugins[name].load()

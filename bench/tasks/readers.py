"""How data sets are read: each reader takes the data folder and returns uint8 images [N, C, 32, 32] and their labels.

Smaller images are enlarged to 32x32 as BAFFLE does for MNIST: bilinearly, corners not aligned, no antialiasing (which
changes nothing when enlarging), then rounded to whole grey levels. From 8 or 28 pixels every interpolation weight is a
short binary fraction, so the pixels are the same on every machine.

Readers import torch when they read, so that data sets can be named and described without it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
"""Height and width of every image, pixels."""

DIGITS = Path(__file__).with_name("digits.csv.gz")
"""One line an image: 64 grey levels from 0 to 16, row by row, and the label; source and licence in `digits.txt`."""

Part = tuple["Tensor", "Tensor"]
"""`images: uint8 [N, C, 32, 32]` and `labels: int64 [N]`."""

Reader = Callable[[Path], tuple[Part, Part]]
"""From the data folder to the examples to train on and those to test on."""


def read_digits(root: Path) -> tuple[Part, Part]:
    """Return the digits that ship with the suite, for which no folder is read; every fifth, by label, is a test one.

    That split is stratified and needs no random numbers, so that no library version can change it.
    """
    import torch

    rows = np.loadtxt(DIGITS, delimiter=",", dtype=np.int64)
    images = enlarge(torch.from_numpy(rows[:, :-1].reshape(-1, 8, 8)) * (255 / 16))
    labels = torch.from_numpy(rows[:, -1].copy())
    test = np.sort(np.argsort(rows[:, -1], kind="stable")[::5])
    train = np.setdiff1d(np.arange(len(labels)), test)
    return (images[train], labels[train]), (images[test], labels[test])


def read_mnist(name: str, root: Path) -> tuple[Part, Part]:
    """Return the data of a class of torchvision's that has `data: [N, h, w]`, grey levels, and `targets`."""
    train, test = _torchvision(name, root)
    return (enlarge(train.data), _labels(train)), (enlarge(test.data), _labels(test))


def read_cifar(name: str, root: Path) -> tuple[Part, Part]:
    """Return the data of a class of torchvision's that has `data: [N, 32, 32, 3]` and `targets`."""
    train, test = _torchvision(name, root)
    return (_planes(train.data), _labels(train)), (_planes(test.data), _labels(test))


def _torchvision(name: str, root: Path) -> tuple[Any, Any]:
    from fedfore.tasks.torchvision_compat import datasets

    kind = getattr(datasets, name)
    return kind(root, train=True, download=False), kind(root, train=False, download=False)


def _labels(source: Any) -> Tensor:
    import torch

    return torch.as_tensor(source.targets, dtype=torch.int64)


def _planes(images: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def enlarge(images: Tensor) -> Tensor:
    """Return `images: [N, h, w]` (grey levels 0 to 255) as uint8 [N, 1, 32, 32]; see the module's docstring."""
    import torch
    from torch.nn import functional

    enlarged = torch.empty(len(images), 1, SIDE, SIDE, dtype=torch.uint8)
    for source, target in zip(images.unsqueeze(1).split(4096), enlarged.split(4096), strict=True):
        pixels = functional.interpolate(source.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        target.copy_(pixels.round_())
    return enlarged

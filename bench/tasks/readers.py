"""How data sets are read: each reader takes the data folder and returns uint8 images [N, C, 32, 32] and their labels.

Smaller images are enlarged to 32x32 as BAFFLE does for MNIST: bilinearly, corners not aligned, no antialiasing (which
changes nothing when enlarging), then rounded to whole grey levels. From 8 or 28 pixels every interpolation weight is a
short binary fraction, so the pixels are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 32
"""Height and width of every image, pixels."""

Part = tuple[Tensor, Tensor]
"""`images: uint8 [N, C, 32, 32]` and `labels: int64 [N]`."""

Reader = Callable[[Path], tuple[Part, Part]]
"""From the data folder to the examples to train on and those to test on."""


def read_digits(root: Path) -> tuple[Part, Part]:
    """Return scikit-learn's digits, for which no folder is read; sorted by label, every fifth example is a test one.

    That split is stratified and needs no random numbers, so that no library version can change it.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = enlarge(torch.from_numpy(bunch.images) * (255 / 16))
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    test = np.sort(np.argsort(bunch.target, kind="stable")[::5])
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
    return torch.as_tensor(source.targets, dtype=torch.int64)


def _planes(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def enlarge(images: Tensor) -> Tensor:
    """Return `images: [N, h, w]` (grey levels 0 to 255) as uint8 [N, 1, 32, 32]; see the module's docstring."""
    enlarged = torch.empty(len(images), 1, SIDE, SIDE, dtype=torch.uint8)
    for source, target in zip(images.unsqueeze(1).split(4096), enlarged.split(4096), strict=True):
        pixels = functional.interpolate(source.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        target.copy_(pixels.round_())
    return enlarged

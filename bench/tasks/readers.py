"""How data sets are read: each reader takes the data folder and returns uint8 images [N, C, 32, 32] and their labels.

Smaller images are enlarged to 32x32 as BAFFLE does for MNIST: bilinearly, corners not aligned, no antialiasing (which
changes nothing when enlarging), then rounded to whole grey levels. From 8 or 28 pixels every interpolation weight is a
short binary fraction, so the pixels are the same on every machine.

Readers import torch when they read, so that data sets can be named and described without it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 32
"""Height and width of every image, pixels."""

DIGITS = Path(__file__).with_name("digits.csv.gz")
"""One line an image: 64 grey levels from 0 to 16, row by row, and the label; source and licence in `digits.txt`."""

Part = tuple["Tensor", "Tensor"] | tuple["Tensor", "Tensor", "Tensor"]
"""`images: uint8 [N, C, 32, 32]` and `labels: int64 [N]`; of training examples maybe `client: int64 [N]`, which says
whose each is (see `fedfore.tasks.examples.Examples`).
"""

Reader = Callable[[Path], tuple[Any, Any]]
"""From the data folder to the examples to train on and those to test on, as `fedfore.api.dataset` has them."""


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


def read_mnist(folder: str, root: Path) -> tuple[Part, Part]:
    """Return the data of the four IDX files of MNIST and its likes, below `root` / `folder`."""
    return _idx_part(root / folder, "train"), _idx_part(root / folder, "t10k")


def read_cifar(labels: str, train: Sequence[str], test: Sequence[str], root: Path) -> tuple[Part, Part]:
    """Return the data of CIFAR's Python files below `root`, which hold the labels under the key `labels`."""
    return _pickled_part([root / file for file in train], labels), _pickled_part([root / file for file in test], labels)


def _idx_part(folder: Path, part: str) -> Part:
    """Return the images, which follow a header of 16 bytes that ends with their size, and the labels after 8 bytes."""
    import torch

    content = (folder / f"{part}-images-idx3-ubyte").read_bytes()
    images = np.frombuffer(content, np.uint8, offset=16).reshape(-1, *np.frombuffer(content, ">i4", 2, offset=8))
    labels = np.fromfile(folder / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return enlarge(torch.from_numpy(images.copy())), torch.from_numpy(labels.astype(np.int64))


def _pickled_part(files: Sequence[Path], labels: str) -> Part:
    """Return the images, rows of 3,072 bytes: the red plane, then green, then blue, each row by row; and the labels."""
    import torch

    contents = [pickle.loads(file.read_bytes(), encoding="bytes") for file in files]
    images = np.concatenate([content[b"data"] for content in contents]).reshape(-1, 3, SIDE, SIDE)
    return torch.from_numpy(images), torch.tensor([label for content in contents for label in content[labels.encode()]])


def enlarge(images: Tensor) -> Tensor:
    """Return `images: [N, h, w]` (grey levels 0 to 255) as uint8 [N, 1, 32, 32]; see the module's docstring."""
    import torch
    from torch.nn import functional

    enlarged = torch.empty(len(images), 1, SIDE, SIDE, dtype=torch.uint8)
    for source, target in zip(images.unsqueeze(1).split(4096), enlarged.split(4096), strict=True):
        pixels = functional.interpolate(source.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        target.copy_(pixels.round_())
    return enlarged

"""A data set with natural owners and a model with options of every kind, kept outside the suite's folders."""

from pathlib import Path
from typing import Literal

import numpy as np
from torch import nn

from fedfore.api import dataset, model

SIDE, EXAMPLES = 20, 120


@dataset(input_shape=(3, SIDE, SIDE), num_classes=4, num_train=80, num_test=40, num_owners=7)
def blobs(folder: Path):
    """One bright corner of four, 20x20 floats in colour, of ten owners."""
    rng = np.random.default_rng(0)
    y = np.arange(EXAMPLES) % 4
    x = rng.normal(size=(EXAMPLES, 3, SIDE, SIDE)).astype(np.float32)
    for example, label in enumerate(y):
        top, left = (SIDE // 2 * half for half in divmod(label, 2))
        x[example, :, top : top + SIDE // 2, left : left + SIDE // 2] += 1
    client = np.arange(EXAMPLES) // 12
    return tuple((x[part], y[part], client[part]) for part in (slice(80), slice(80, None)))


@model(smallest=8)
def corners(
    input_shape,
    num_classes,
    *,
    depth: int = 1,
    bias: bool = True,
    width: float = 1.0,
    pool: Literal["max", "mean"] = "max",
):
    """Convolutions, a pooling to 2x2 and a linear layer."""
    channels, layers = round(4 * width), []
    for before in [input_shape[0], *[channels] * (depth - 1)]:
        layers += [nn.Conv2d(before, channels, 3, padding=1, bias=bias), nn.ReLU()]
    pooling = nn.AdaptiveMaxPool2d(2) if pool == "max" else nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(*layers, pooling, nn.Flatten(), nn.Linear(4 * channels, num_classes))

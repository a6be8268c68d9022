"""A data set and a model."""

from pathlib import Path

import numpy as np
from torch import nn

from fedfore.api import dataset, model

SIDE = 12


@dataset(input_shape=(1, SIDE, SIDE), num_classes=2, num_train=96, num_test=48)
def stripes(folder: Path):
    """Noisy stripes, lying or standing, 12x12 grey."""
    rng = np.random.default_rng(0)
    y = np.arange(144) % 2
    lying = np.broadcast_to(200 * (np.arange(SIDE) // 2 % 2)[:, None], (SIDE, SIDE))
    x = np.where(y[:, None, None] == 0, lying, lying.T) + rng.integers(56, size=(144, SIDE, SIDE))
    x = x[:, None].astype(np.uint8)
    return (x[:96], y[:96]), (x[96:], y[96:])


@model(smallest=4)
def two_layers(input_shape, num_classes, *, hidden: int = 16):
    """Two linear layers over 4x4 means."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * input_shape[0], hidden),
        nn.ReLU(),
        nn.Linear(hidden, num_classes),
    )

"""A data set and a model, kept outside the suite's folders."""

import numpy as np
from torch import nn

from fedfore.api import dataset, model


@dataset(input_shape=(3, 20, 20), num_classes=4, num_train=80, num_test=40)
def bright_corner(folder):
    """One bright corner of four, 20x20 in colour."""
    y = np.arange(120) % 4
    x = np.random.default_rng(0).normal(size=(120, 3, 20, 20)).astype("float32")
    for image, label in zip(x, y, strict=True):
        image.reshape(3, 2, 10, 2, 10)[:, label // 2, :, label % 2] += 1
    return (x[:80], y[:80]), (x[80:], y[80:])


@model
def two_by_two(input_shape, num_classes, *, channels: int = 4):
    """A convolution, means of 2x2 areas and a linear layer."""
    convolution = nn.Conv2d(input_shape[0], channels, 3, padding=1)
    return nn.Sequential(
        convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, num_classes)
    )

"""LeNets."""

from __future__ import annotations

from torch import nn

from fedfore.tasks.architectures.layers import ACTIVATIONS, Activation, Norm, Shape, norm_layer, scaled, sequential
from fedfore.tasks.model_registry import model


@model(smallest=16)
def lenet5(
    input_shape: Shape, num_classes: int, *, activation: Activation = "relu", norm: Norm = "none", width: float = 1.0
) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) in today's form: max pooling, ReLU, dense connections; 62,006 parameters on CIFAR-10.

    A norm, where asked for, follows each convolution; `width` scales channels and hidden units.
    """
    channels, *sides = input_shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in sides)
    conv1, conv2, fc1, fc2 = scaled(width, 6, 16, 120, 84)
    act = ACTIVATIONS[activation]
    return sequential(
        conv1=nn.Conv2d(channels, conv1, 5),
        norm1=norm_layer(norm, conv1),
        act1=act(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(conv1, conv2, 5),
        norm2=norm_layer(norm, conv2),
        act2=act(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(conv2 * rows * columns, fc1),
        act3=act(),
        fc2=nn.Linear(fc1, fc2),
        act4=act(),
        fc3=nn.Linear(fc2, num_classes),
    )


@model(smallest=4)
def baffle_lenet(
    input_shape: Shape,
    num_classes: int,
    *,
    activation: Activation = "hardswish",
    norm: Norm = "group",
    width: float = 1.0,
) -> nn.Sequential:
    """The "LeNet" of BAFFLE's released code (arXiv 2301.12195), not LeNet-5: 27,530 parameters on CIFAR-10.

    Two 5x5 convolutions and a linear layer on global averages; `width` scales the channels.
    """
    conv1, conv2 = scaled(width, 16, 64)
    act = ACTIVATIONS[activation]
    return sequential(
        conv1=nn.Conv2d(input_shape[0], conv1, 5, padding=2),
        norm1=norm_layer(norm, conv1),
        act1=act(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(conv1, conv2, 5, padding=2),
        norm2=norm_layer(norm, conv2),
        act2=act(),
        pool2=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(conv2, num_classes),
    )

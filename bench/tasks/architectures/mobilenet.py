"""MobileNets."""

from __future__ import annotations

from torch import nn

from fedfore.tasks.architectures.layers import Norm, Shape, norm_layer, sequential, swap
from fedfore.tasks.model_registry import model


@model(smallest=17)
def mobilenet_v2(input_shape: Shape, num_classes: int, *, norm: Norm = "batch", width: float = 1.0) -> nn.Sequential:
    """torchvision's MobileNetV2 with a first stride of 1 and no dropout: 2,236,682 parameters on CIFAR-10.

    ReLU6 throughout. `width` is torchvision's width_mult, which rounds channels to multiples of 8. Convolutions have no
    biases, also where `norm` is none.
    """
    from fedfore.tasks.torchvision_compat import models

    net = models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    first = net.features[0][0]
    net.features[0][0] = nn.Conv2d(input_shape[0], first.out_channels, 3, padding=1, bias=False)
    net = sequential(
        features=net.features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=net.classifier[1]
    )
    return swap(net, nn.BatchNorm2d, lambda module: norm_layer(norm, module.num_features))

"""Residual networks: those for CIFAR, and torchvision's with a stem for CIFAR."""

from __future__ import annotations

from torch import Tensor, nn

from fedfore.tasks.architectures.layers import (
    ACTIVATIONS,
    Activation,
    Norm,
    Shape,
    norm_layer,
    scaled,
    sequential,
    swap,
)
from fedfore.tasks.model_registry import model

_ONEDNN_BLOCK = 16
"""Of fewer channels, kept last, oneDNN's backward pass of a strided 1x1 convolution writes past its buffers (its issue
6035; torch 2.13): 8 on AVX2, where the process dies of it, 16 on AVX-512."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (option B)."""

    def __init__(self, before: int, after: int, stride: int, activation: Activation, norm: Norm) -> None:
        super().__init__()
        self.body = sequential(
            conv1=nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            norm1=norm_layer(norm, after),
            act1=ACTIVATIONS[activation](),
            conv2=nn.Conv2d(after, after, 3, padding=1, bias=False),
            norm2=norm_layer(norm, after),
        )
        self.shortcut = (
            nn.Sequential()
            if (before, stride) == (after, 1)
            else sequential(conv=nn.Conv2d(before, after, 1, stride, bias=False), norm=norm_layer(norm, after))
        )
        self.act2 = ACTIVATIONS[activation]()
        self._spreads = stride > 1 and before < _ONEDNN_BLOCK

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act2(self.body(x) + self.shortcut(x.contiguous() if self._spreads else x))
        return y


def _cifar_resnet(
    input_shape: Shape, num_classes: int, activation: Activation, norm: Norm, width: float, blocks: int
) -> nn.Sequential:
    """Return the ResNet of 6 `blocks` + 2 layers of He et al. 2016, section 4.2: three stages of `blocks` blocks."""
    widths = scaled(width, 16, 32, 64)

    def stage(before: int, after: int, stride: int) -> nn.Module:
        return sequential(
            block1=BasicBlock(before, after, stride, activation, norm),
            **{f"block{i}": BasicBlock(after, after, 1, activation, norm) for i in range(2, blocks + 1)},
        )

    return sequential(
        conv=nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False),
        norm=norm_layer(norm, widths[0]),
        act=ACTIVATIONS[activation](),
        stage1=stage(widths[0], widths[0], 1),
        stage2=stage(widths[0], widths[1], 2),
        stage3=stage(widths[1], widths[2], 2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(widths[2], num_classes),
    )


@model(smallest=5)
def resnet14(
    input_shape: Shape, num_classes: int, *, activation: Activation = "relu", norm: Norm = "batch", width: float = 1.0
) -> nn.Sequential:
    """ResNet-20 with two blocks a stage instead of three: 175,258 parameters on CIFAR-10.

    Some papers call it ResNet-18, which it is not.
    """
    return _cifar_resnet(input_shape, num_classes, activation, norm, width, blocks=2)


@model(smallest=5)
def resnet20(
    input_shape: Shape, num_classes: int, *, activation: Activation = "relu", norm: Norm = "batch", width: float = 1.0
) -> nn.Sequential:
    """ResNet-20 for CIFAR (He et al. 2016, section 4.2), option-B shortcuts: 272,474 parameters on CIFAR-10.

    Convolutions have no biases, also where `norm` is none; `width` scales the channels.
    """
    return _cifar_resnet(input_shape, num_classes, activation, norm, width, blocks=3)


def _torchvision_resnet(
    name: str, input_shape: Shape, num_classes: int, activation: Activation, norm: Norm
) -> nn.Sequential:
    """Return torchvision's ResNet under its own parameter names, with a 3x3 first convolution and no first pooling.

    A block of torchvision's uses one activation module at several places.
    """
    from fedfore.tasks.torchvision_compat import models

    net = getattr(models, name)(num_classes=num_classes)
    net.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    parts = {part: module for part, module in net.named_children() if part != "maxpool"}
    fc = parts.pop("fc")
    net = sequential(**parts, flatten=nn.Flatten(), fc=fc)
    net = swap(net, nn.BatchNorm2d, lambda module: norm_layer(norm, module.num_features))
    return swap(net, nn.ReLU, lambda module: ACTIVATIONS[activation]())


@model(smallest=9)
def resnet18(
    input_shape: Shape, num_classes: int, *, activation: Activation = "relu", norm: Norm = "batch"
) -> nn.Sequential:
    """torchvision's ResNet-18 with a CIFAR stem: 11,173,962 parameters on CIFAR-10.

    The stem is a 3x3 convolution of stride 1 without pooling. Convolutions have no biases, also where `norm` is none.
    """
    return _torchvision_resnet("resnet18", input_shape, num_classes, activation, norm)


@model(smallest=9)
def resnet50(
    input_shape: Shape, num_classes: int, *, activation: Activation = "relu", norm: Norm = "batch"
) -> nn.Sequential:
    """torchvision's ResNet-50 with a CIFAR stem (see resnet18): 23,520,842 parameters on CIFAR-10."""
    return _torchvision_resnet("resnet50", input_shape, num_classes, activation, norm)

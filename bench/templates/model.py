"""new_plugin: what the model is, and the paper it follows.

The function under `@model` is a whole model, and its name is the model's. All that the decorator takes is in the
docstring of `fedfore.api.model`.
"""

from typing import Literal

from torch import nn

from fedfore.api import model

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


@model(smallest=8)
def new_plugin(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: float = 1.0,
    activation: Literal["relu", "gelu"] = "relu",
) -> nn.Sequential:
    """Two convolutions and a linear layer: the first line is what `fedfore ls models` shows.

    `input_shape` is the channels, height and width of an image. Returns a module from images [B, *input_shape] to
    logits [B, num_classes]. Options are keywords with defaults, which a matrix sets as
    "new_plugin:width=2,activation=gelu": numbers above 0, truth values, or texts of a Literal. What can be pruned are
    the weights of nn.Conv2d and nn.Linear; no two layers share weights, and the harness draws the initial ones.
    """
    channels, _, _ = input_shape
    first, second = round(8 * width), round(16 * width)
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, stride=2, padding=1),
        act(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        act(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * second, num_classes),
    )

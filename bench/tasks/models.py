"""Models by name, with options: `build("resnet20:norm=group,activation=hardswish", (3, 32, 32), 10)`.

To add a model, write one function here and decorate it with `@_model`:

* its name is the model's name, the first line of its docstring what `fedfore ls models` shows;
* its arguments are `(input_shape, num_classes, *, option=default, ...)`. A float as default makes the option a positive
  number (`width`), a text makes it one of `CHOICES`; a new kind of text option is a new entry there;
* it returns an `nn.Sequential` that maps [B, C, H, W] to logits [B, num_classes]. Every place gets a `_norm(...)` and
  an `ACTIVATIONS[...]()` of its own, since meters hook modules. No dropout: it would draw from the global generator.

Every shipped model has the option `norm`. `standardised` is `none` with standardised convolutions and scaled residual
branches (`fedfore.primitives.sparse_normalisation`), which `build` sees to; the parameters are those of `none`.

Weights are no concern of that function: `build` gives every model the weights of seed 0, and `initialise` draws others;
but parameters that it freezes (requires_grad = False) keep their values, travel, and are neither trained nor pruned. No
two layers share a parameter. A layer that the forward pass does not use gets no gradient.
The published parameter count of a new model belongs in tests/test_models.py.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.cell import MOST, Initialiser
from fedfore.errors import ConfigError, suggestion
from fedfore.primitives.sequences import Chain
from fedfore.primitives.sparse_normalisation import normalise_convolutions, note_gains

Shape = tuple[int, int, int]
"""Channels, height and width of an input."""

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "hardswish": partial(nn.Hardswish, inplace=True),
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "norm": ("batch", "group", "none", "standardised"),
    "activation": tuple(ACTIVATIONS),
}
"""The values of every option that is not a number."""

MOST_OPTION = 1_000_000
"""The largest number that an option can be; up to it the sizes of layers can be computed exactly."""


@dataclass(frozen=True)
class Model:
    """A known model: the function that builds it, the defaults of its options, and one line about it."""

    function: Callable[..., nn.Sequential]
    defaults: Mapping[str, str | float]
    description: str


MODELS: dict[str, Model] = {}


def _model(function: Callable[..., nn.Sequential]) -> Callable[..., nn.Sequential]:
    options = [p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    MODELS[function.__name__] = Model(
        function, {p.name: p.default for p in options}, (inspect.getdoc(function) or "").partition("\n")[0]
    )
    return function


def canonical(model: str) -> str:
    """Return the one spelling of a model: options sorted, defaults dropped ("lenet5:norm=none" -> "lenet5").

    Raises ConfigError for an unknown model, option or value.
    """
    name, options = _parse(model)
    defaults = MODELS[name].defaults
    changed = [
        f"{option}={str(value).removesuffix('.0')}"
        for option, value in sorted(options.items())
        if value != defaults[option]
    ]
    return f"{name}:{','.join(changed)}" if changed else name


def build(model: str, input_shape: Shape, num_classes: int) -> nn.Module:
    """Return the model on the CPU, in training mode, with the weights of seed 0 (see `initialise`).

    It maps float [B, *input_shape] to logits [B, num_classes]. Raises ConfigError as `canonical` does, for images too
    small for the model, and for a model that cannot be trained: all of it frozen, or with weights shared by layers.
    """
    module = _assembled(model, input_shape, num_classes, "cpu")
    initialise(module, torch.Generator().manual_seed(0))
    return module


def outline(model: str, input_shape: Shape, num_classes: int) -> nn.Module:
    """Return the model on torch's `meta` device: its layers and shapes, without memory for weights.

    Raises ConfigError as `build` does, and for a model of more than `MOST` parameters.
    """
    module = _assembled(model, input_shape, num_classes, "meta")
    size = sum(parameter.numel() for parameter in module.parameters())
    if size > MOST:
        raise ConfigError(
            f'Model "{model}" would have {size:,} parameters, {4 * size / 2**30:,.0f} GiB; at most {MOST:,} can be '
            "used: give a smaller width."
        )
    return module


def _assembled(model: str, input_shape: Shape, num_classes: int, device: str) -> nn.Module:
    name, options = _parse(model)
    with torch.device(device), torch.random.fork_rng(devices=[]):  # torch's own initialisers draw from the global one
        torch.manual_seed(0)
        module = MODELS[name].function(input_shape, num_classes, **options)
    _check_parameters(name, module)
    for part in module.modules():
        if type(part) is nn.Sequential:
            part.__class__ = Chain
    if options.get("norm") in ("none", "standardised"):
        note_gains(module)
    if options.get("norm") == "standardised":
        normalise_convolutions(module)
    return module


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator, init: Initialiser = "kaiming") -> None:
    """Draw all weights anew, in place, in the order of `named_parameters`: the one initialiser of every method.

    `kaiming`: convolutional and linear weights ~ N(0, 2 / fan_in) (He et al. 2015, section 2.2; gain sqrt 2 for every
    activation), biases 0. `pytorch`: both uniform within 1 / sqrt(fan_in), as `torch.nn` draws them if nobody asks
    otherwise (its kaiming_uniform with a = sqrt 5): weights of 1 / sqrt 6 = 0.41 times that deviation. The weights of
    norms are 1, their biases 0, running statistics are reset. `generator` lives on the CPU, so that the weights do not
    depend on the model's device. Frozen parameters stay as the model's function made them.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, last = name.rpartition(".")
        weight = getattr(model.get_submodule(owner), "weight", parameter) if last == "bias" else parameter
        draw = torch.empty(parameter.shape)
        if init == "pytorch" and weight.dim() > 1:
            bound = weight[0].numel() ** -0.5
            parameter.copy_(draw.uniform_(-bound, bound, generator=generator))
        elif parameter.dim() > 1:
            parameter.copy_(draw.normal_(generator=generator).mul_(math.sqrt(2 / weight[0].numel())))
        else:
            parameter.fill_(0.0 if last == "bias" else 1.0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()


def _check_parameters(name: str, model: nn.Module) -> None:
    """Raise ConfigError where no parameter is trained, or one has two names."""
    first: dict[nn.Parameter, str] = {}
    for own, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(parameter, own) != own:
            raise ConfigError(
                f'Model "{name}" ties "{own}" to "{first[parameter]}"; give each layer weights of its own, since '
                "masks, messages and costs go by name."
            )
    if not any(parameter.requires_grad for parameter in first):
        raise ConfigError(f'Model "{name}" has nothing to train: it has no parameter that requires a gradient.')


def _parse(model: str) -> tuple[str, dict[str, str | float]]:
    """Return the model's name and all of its options, defaults included."""
    name, colon, text = model.partition(":")
    if name not in MODELS:
        raise ConfigError(f'Unknown model "{name}".{suggestion(name, MODELS)}')
    given: dict[str, str | float] = {}
    for item in text.split(",") if colon else ():
        option, equals, value = (part.strip() for part in item.partition("="))
        if not equals or option in given:
            raise ConfigError(f'Model "{model}" cannot be read: write "{name}:option=value,...", each option once.')
        given[option] = _value(name, option, value)
    return name, {**MODELS[name].defaults, **given}


def _value(name: str, option: str, text: str) -> str | float:
    defaults = MODELS[name].defaults
    if option not in defaults:
        raise ConfigError(f'Model "{name}" has no option "{option}".{suggestion(option, defaults)}')
    if isinstance(defaults[option], str):
        if text not in CHOICES[option]:
            raise ConfigError(f'Model "{name}" has no {option} "{text}".{suggestion(text, CHOICES[option])}')
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MOST_OPTION:
        raise ConfigError(
            f'Option {option}={text} of model "{name}" cannot be used: give a positive number up to {MOST_OPTION:,}.'
        )
    return number


def _sequential(**modules: nn.Module | None) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, module) for name, module in modules.items() if module is not None))


def _norm(norm: str, channels: int) -> nn.Module | None:
    """Return batch norm (affine, running statistics), BAFFLE's group norm, or None for `none` and `standardised`.

    Group norm is without affine, in max(2, channels // 16) groups as in BAFFLE's released code, or in the next smaller
    number of groups that divides the channels.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        most = max(2, channels // 16)
        return nn.GroupNorm(next(g for g in range(most, 0, -1) if channels % g == 0), channels, affine=False)
    return None


def _scaled(width: float, *units: int) -> list[int]:
    return [max(1, round(width * count)) for count in units]


@_model
def lenet5(
    input_shape: Shape, num_classes: int, *, activation: str = "relu", norm: str = "none", width: float = 1.0
) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998) in today's form: max pooling, ReLU, dense connections; 62,006 parameters on CIFAR-10.

    A norm, where asked for, follows each convolution; `width` scales channels and hidden units.
    """
    channels, *sides = input_shape
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in sides)
    if min(rows, columns) < 1:
        raise ConfigError(f'Model "lenet5" needs images of at least 16x16 pixels, not {sides[0]}x{sides[1]}.')
    conv1, conv2, fc1, fc2 = _scaled(width, 6, 16, 120, 84)
    act = ACTIVATIONS[activation]
    return _sequential(
        conv1=nn.Conv2d(channels, conv1, 5),
        norm1=_norm(norm, conv1),
        act1=act(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(conv1, conv2, 5),
        norm2=_norm(norm, conv2),
        act2=act(),
        pool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(conv2 * rows * columns, fc1),
        act3=act(),
        fc2=nn.Linear(fc1, fc2),
        act4=act(),
        fc3=nn.Linear(fc2, num_classes),
    )


@_model
def baffle_lenet(
    input_shape: Shape, num_classes: int, *, activation: str = "hardswish", norm: str = "group", width: float = 1.0
) -> nn.Sequential:
    """The "LeNet" of BAFFLE's released code (arXiv 2301.12195), not LeNet-5: 27,530 parameters on CIFAR-10.

    Two 5x5 convolutions and a linear layer on global averages; `width` scales the channels.
    """
    conv1, conv2 = _scaled(width, 16, 64)
    act = ACTIVATIONS[activation]
    return _sequential(
        conv1=nn.Conv2d(input_shape[0], conv1, 5, padding=2),
        norm1=_norm(norm, conv1),
        act1=act(),
        pool1=nn.MaxPool2d(2),
        conv2=nn.Conv2d(conv1, conv2, 5, padding=2),
        norm2=_norm(norm, conv2),
        act2=act(),
        pool2=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(conv2, num_classes),
    )


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (option B)."""

    def __init__(self, before: int, after: int, stride: int, activation: str, norm: str) -> None:
        super().__init__()
        self.body = _sequential(
            conv1=nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            norm1=_norm(norm, after),
            act1=ACTIVATIONS[activation](),
            conv2=nn.Conv2d(after, after, 3, padding=1, bias=False),
            norm2=_norm(norm, after),
        )
        self.shortcut = (
            nn.Sequential()
            if (before, stride) == (after, 1)
            else _sequential(conv=nn.Conv2d(before, after, 1, stride, bias=False), norm=_norm(norm, after))
        )
        self.act2 = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act2(self.body(x) + self.shortcut(x))
        return y


def _cifar_resnet(
    input_shape: Shape, num_classes: int, activation: str, norm: str, width: float, blocks: int
) -> nn.Sequential:
    """Return the ResNet of 6 `blocks` + 2 layers of He et al. 2016, section 4.2: three stages of `blocks` blocks."""
    widths = _scaled(width, 16, 32, 64)

    def stage(before: int, after: int, stride: int) -> nn.Module:
        return _sequential(
            block1=_BasicBlock(before, after, stride, activation, norm),
            **{f"block{i}": _BasicBlock(after, after, 1, activation, norm) for i in range(2, blocks + 1)},
        )

    return _sequential(
        conv=nn.Conv2d(input_shape[0], widths[0], 3, padding=1, bias=False),
        norm=_norm(norm, widths[0]),
        act=ACTIVATIONS[activation](),
        stage1=stage(widths[0], widths[0], 1),
        stage2=stage(widths[0], widths[1], 2),
        stage3=stage(widths[1], widths[2], 2),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(widths[2], num_classes),
    )


@_model
def resnet14(
    input_shape: Shape, num_classes: int, *, activation: str = "relu", norm: str = "batch", width: float = 1.0
) -> nn.Sequential:
    """ResNet-20 with two blocks a stage instead of three: 175,258 parameters on CIFAR-10.

    Some papers call it ResNet-18, which it is not.
    """
    return _cifar_resnet(input_shape, num_classes, activation, norm, width, blocks=2)


@_model
def resnet20(
    input_shape: Shape, num_classes: int, *, activation: str = "relu", norm: str = "batch", width: float = 1.0
) -> nn.Sequential:
    """ResNet-20 for CIFAR (He et al. 2016, section 4.2), option-B shortcuts: 272,474 parameters on CIFAR-10.

    Convolutions have no biases, also where `norm` is none; `width` scales the channels.
    """
    return _cifar_resnet(input_shape, num_classes, activation, norm, width, blocks=3)


def _swap(model: nn.Sequential, kind: type[nn.Module], made: Callable[[Any], nn.Module | None]) -> nn.Sequential:
    """Replace every module of class `kind` by what `made` returns for it, None being the identity."""
    for name, module in list(model.named_modules()):
        if isinstance(module, kind):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made(module) or nn.Identity())
    return model


def _torchvision_resnet(name: str, input_shape: Shape, num_classes: int, activation: str, norm: str) -> nn.Sequential:
    """Return torchvision's ResNet under its own parameter names, with a 3x3 first convolution and no first pooling.

    A block of torchvision's uses one activation module at several places.
    """
    from fedfore.tasks.torchvision_compat import models

    net = getattr(models, name)(num_classes=num_classes)
    net.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    parts = {part: module for part, module in net.named_children() if part != "maxpool"}
    fc = parts.pop("fc")
    net = _sequential(**parts, flatten=nn.Flatten(), fc=fc)
    net = _swap(net, nn.BatchNorm2d, lambda module: _norm(norm, module.num_features))
    return _swap(net, nn.ReLU, lambda module: ACTIVATIONS[activation]())


@_model
def resnet18(input_shape: Shape, num_classes: int, *, activation: str = "relu", norm: str = "batch") -> nn.Sequential:
    """torchvision's ResNet-18 with a CIFAR stem: 11,173,962 parameters on CIFAR-10.

    The stem is a 3x3 convolution of stride 1 without pooling. Convolutions have no biases, also where `norm` is none.
    """
    return _torchvision_resnet("resnet18", input_shape, num_classes, activation, norm)


@_model
def resnet50(input_shape: Shape, num_classes: int, *, activation: str = "relu", norm: str = "batch") -> nn.Sequential:
    """torchvision's ResNet-50 with a CIFAR stem (see resnet18): 23,520,842 parameters on CIFAR-10."""
    return _torchvision_resnet("resnet50", input_shape, num_classes, activation, norm)


@_model
def mobilenet_v2(input_shape: Shape, num_classes: int, *, norm: str = "batch", width: float = 1.0) -> nn.Sequential:
    """torchvision's MobileNetV2 with a first stride of 1 and no dropout: 2,236,682 parameters on CIFAR-10.

    ReLU6 throughout. `width` is torchvision's width_mult, which rounds channels to multiples of 8. Convolutions have no
    biases, also where `norm` is none.
    """
    from fedfore.tasks.torchvision_compat import models

    net = models.mobilenet_v2(num_classes=num_classes, width_mult=width)
    first = net.features[0][0]
    net.features[0][0] = nn.Conv2d(input_shape[0], first.out_channels, 3, padding=1, bias=False)
    net = _sequential(
        features=net.features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), classifier=net.classifier[1]
    )
    return _swap(net, nn.BatchNorm2d, lambda module: _norm(norm, module.num_features))

"""Models by name, with options: `build("resnet20:norm=group,activation=hardswish", (3, 32, 32), 10)`.

Which there are, and how one is added, stands in `fedfore.tasks.architectures`.
"""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from torch import nn

from fedfore.cell import MOST, Initialiser
from fedfore.errors import ConfigError, PluginError, printable, suggestion
from fedfore.primitives.sequences import Chain
from fedfore.primitives.sparse_normalisation import normalise_convolutions, note_gains
from fedfore.tasks.architectures.layers import Shape
from fedfore.tasks.model_registry import MODELS, Architecture, Option, architecture_of

MOST_OPTION = 1_000_000
"""The largest number that an option can be; up to it the sizes of layers can be computed exactly."""
FORWARD_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError)
"""What the code of a model may raise of images that it is not made for."""


def canonical(model: str) -> str:
    """Return the one spelling of a model: options sorted, defaults dropped ("lenet5:norm=none" -> "lenet5").

    Raises ConfigError for an unknown model, option or value.
    """
    name, options = _parse(model)
    defaults = architecture_of(name).defaults
    changed = [f"{option}={_written(value)}" for option, value in sorted(options.items()) if value != defaults[option]]
    return f"{name}:{','.join(changed)}" if changed else name


def build(model: str, input_shape: Shape, num_classes: int) -> nn.Module:
    """Return the model on the CPU, in training mode, with the weights of seed 0 (see `initialise`).

    It maps float [B, *input_shape] to logits [B, num_classes]. Raises ConfigError as `canonical` does, for images too
    small for the model, and for a model that cannot be trained: all of it frozen, or with weights shared by layers;
    PluginError for a plug-in that cannot be used or makes no logits.
    """
    module = _assembled(model, input_shape, num_classes, "cpu")
    if _parse(model)[0] not in MODELS:
        try:
            _check_logits(model, module, torch.zeros(2, *input_shape), num_classes)
        except FORWARD_FAULTS as error:
            said = printable(f"{type(error).__name__}: {error}")
            raise PluginError(f'The model "{model}" fails on two images of {input_shape}: {said}.') from error
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
    if _parse(model)[0] not in MODELS:
        with suppress(*FORWARD_FAULTS):  # not every model can do without values
            _check_logits(model, module, torch.zeros(2, *input_shape, device="meta"), num_classes)
    return module


def _check_logits(model: str, module: nn.Module, images: torch.Tensor, num_classes: int) -> None:
    """Raise PluginError unless the model makes logits of images; its buffers stay as they are."""
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            made = module(images)
    finally:
        module.train()
    found = [*made.shape] if isinstance(made, torch.Tensor) else type(made).__name__
    wanted = [len(images), num_classes]
    if found != wanted:
        raise PluginError(f'The model "{model}" makes {found} of {len(images)} images; return logits, {wanted}.')


def _assembled(model: str, input_shape: Shape, num_classes: int, device: str) -> nn.Module:
    name, options = _parse(model)
    architecture = architecture_of(name)
    _check_size(name, architecture.smallest, input_shape)
    with torch.device(device), torch.random.fork_rng(devices=[]):  # torch's own initialisers draw from the global one
        torch.manual_seed(0)
        module = architecture.build(input_shape, num_classes, **options)
    if not isinstance(module, nn.Module):
        raise PluginError(f'The model "{name}" builds a {type(module).__name__}, and no module.')
    _check_parameters(name, module)
    for part in module.modules():
        if type(part) is nn.Sequential:
            part.__class__ = Chain
    if options.get("norm") in ("none", "standardised") and isinstance(module, nn.Sequential):
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


def _check_size(name: str, smallest: int, input_shape: Shape) -> None:
    _, height, width = input_shape
    if min(height, width) < smallest:
        raise ConfigError(
            f'Model "{name}" needs images of at least {smallest}x{smallest} pixels, not {height}x{width}.'
        )


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


def options_of(model: str) -> tuple[Architecture, dict[str, Option]]:
    """Return a model's architecture and all of its options. Raises as `canonical` does."""
    name, options = _parse(model)
    return architecture_of(name), options


def _written(value: Option) -> str:
    """Return an option's value as a matrix has it."""
    return str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")


def _parse(model: str) -> tuple[str, dict[str, Option]]:
    """Return the model's name and all of its options, defaults included."""
    name, colon, text = model.partition(":")
    architecture = architecture_of(name)
    given: dict[str, Option] = {}
    for item in text.split(",") if colon else ():
        option, equals, value = (part.strip() for part in item.partition("="))
        if not equals or option in given:
            raise ConfigError(f'Model "{model}" cannot be read: write "{name}:option=value,...", each option once.')
        given[option] = _value(name, architecture, option, value)
    return name, {**architecture.defaults, **given}


def _value(name: str, architecture: Architecture, option: str, text: str) -> Option:
    defaults = architecture.defaults
    if option not in defaults:
        raise ConfigError(f'Model "{name}" has no option "{option}".{suggestion(option, defaults)}')
    default = defaults[option]
    known = (False, True) if isinstance(default, bool) else architecture.choices.get(option)
    if known is not None:
        written = {_written(value): value for value in known}
        if text not in written:
            raise ConfigError(f'Model "{name}" has no {option} "{text}".{suggestion(text, written)}')
        return written[text]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    kind = "whole number" if isinstance(default, int) else "number"
    if not 0 < number <= MOST_OPTION or (isinstance(default, int) and not number.is_integer()):
        raise ConfigError(
            f'Option {option}={text} of model "{name}" cannot be used: give a positive {kind} up to {MOST_OPTION:,}.'
        )
    return int(number) if isinstance(default, int) else number

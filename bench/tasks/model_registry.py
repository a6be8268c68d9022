"""Which models there are, by name: every architecture's function, found by its place. No torch.

A model is a function `(input_shape, num_classes, *, option=default, ...)` under the decorator `model`, in a file of
`architectures/` or of a plug-in; its syntax gives its name and the first line of its docstring, and its file is
imported where it is built.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints, overload

from fedfore.errors import ConfigError, PluginError, suggestion
from fedfore.records.declared import declarations, described, known, marked

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "fedfore.tasks.architectures"
ARGUMENTS = ["input_shape", "num_classes"]
"""The arguments of a model's function, beside its options."""
Option = str | bool | int | float
Build = TypeVar("Build", bound="Callable[..., nn.Module]")


@dataclass(frozen=True)
class Architecture:
    """A model's function, and the least height and width of its images, in pixels."""

    build: Callable[..., nn.Module]
    smallest: int = 1

    @cached_property
    def defaults(self) -> Mapping[str, Option]:
        """The options, by name, with their defaults."""
        options = inspect.signature(self.build).parameters.values()
        return {option.name: option.default for option in options if option.kind is option.KEYWORD_ONLY}

    @cached_property
    def choices(self) -> Mapping[str, tuple[Option, ...]]:
        """The values of options whose type is a Literal."""
        hints = get_type_hints(inspect.unwrap(self.build)).items()
        return {name: get_args(hint) for name, hint in hints if get_origin(hint) is Literal}


@dataclass(frozen=True)
class Model:
    """A known model: one line about it, and `load`, which imports it."""

    description: str
    load: Callable[[], Architecture]


@overload
def model(build: Build, /) -> Build: ...
@overload
def model(*, smallest: int = 1) -> Callable[[Build], Build]: ...
def model(build: Any = None, /, *, smallest: int = 1) -> Any:
    """Declare a function as a model, whose name is the function's: `@model`, or `@model(smallest=16)`.

    It is called as `(input_shape, num_classes, **options)` with the channels, height and width of an input, and returns
    a module from float [B, *input_shape] to logits [B, num_classes]. Each option is a keyword of the function, with a
    default: a number above 0, a truth value, or a text whose type is a Literal of the values it can have.
    `smallest` is the least height and width in pixels: smaller images are refused in one sentence.
    """

    def describe(name: str, function: Callable[..., nn.Module]) -> Architecture:
        architecture = Architecture(function, smallest)
        _check(architecture)
        return architecture

    declare = partial(marked, "model", describe=describe)
    return declare if build is None else declare(build)


def _check(architecture: Architecture) -> None:
    """Raise PluginError where a function cannot be called, or its options cannot be written in a matrix."""
    parameters = inspect.signature(architecture.build).parameters.values()
    places = [one.name for one in parameters if one.kind is not one.KEYWORD_ONLY]
    if places != ARGUMENTS:
        raise PluginError(
            f"its arguments are ({', '.join(places)}); write (input_shape, num_classes, *, option=default, ...)"
        )
    for name, default in architecture.defaults.items():
        if not isinstance(default, Option):
            raise PluginError(f"its option {name} has no default that is a text, a number or a truth value")
        if isinstance(default, str) and name not in architecture.choices:
            raise PluginError(f"its option {name} is a text; give it a type of its values, Literal[{default!r}, ...]")


def architecture_of(name: str) -> Architecture:
    """Return what is known of a model, one of a plug-in where this process knows it.

    Raises ConfigError with the nearest name for an unknown one, PluginError for a plug-in that cannot be used.
    """
    plugins = known("model")
    if name not in (*MODELS, *plugins):
        raise ConfigError(f'Unknown model "{name}".{suggestion(name, [*MODELS, *plugins])}')
    return MODELS[name].load() if name in MODELS else plugins[name].load()


@cache
def _shipped(module: str, name: str) -> Any:
    return described(getattr(importlib.import_module(module), name))


MODELS: Mapping[str, Model] = {
    one.name: Model(one.summary, partial(_shipped, f"{PACKAGE}.{file.stem}", one.name))
    for file in sorted(Path(__file__).with_name("architectures").glob("*.py"))
    for one in declarations(file)
}
"""Every model that ships by its name, in the order of the files."""

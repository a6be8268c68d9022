"""Which models there are, by name: every architecture's function, found by its place. No torch.

A model is a function `(input_shape, num_classes, *, option=default, ...)` of a file in `architectures/`; its syntax
gives its name and the first line of its docstring, and its file is imported where it is built.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

PACKAGE = "fedfore.tasks.architectures"
ARGUMENTS = ["input_shape", "num_classes"]
"""The arguments by which a model's function is known, beside its options."""


@dataclass(frozen=True)
class Model:
    """A known model: one line about it, and `load`, which returns the function that builds it."""

    description: str
    load: Callable[[], Callable[..., nn.Sequential]]

    @cached_property
    def defaults(self) -> Mapping[str, str | float]:
        """The options of the model, by name, with their defaults."""
        options = inspect.signature(self.load()).parameters.values()
        return {option.name: option.default for option in options if option.kind is option.KEYWORD_ONLY}


def _models_of(file: Path) -> Iterator[tuple[str, Model]]:
    for node in ast.parse(file.read_bytes()).body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        if [argument.arg for argument in node.args.args] == ARGUMENTS:
            description = (ast.get_docstring(node) or "").partition("\n")[0]
            yield node.name, Model(description, partial(_function, f"{PACKAGE}.{file.stem}", node.name))


def _function(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


MODELS: Mapping[str, Model] = {
    name: model
    for file in sorted(Path(__file__).with_name("architectures").glob("*.py"))
    for name, model in _models_of(file)
}
"""Every model by its name, in the order of the files."""

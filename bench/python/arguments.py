"""What the functions of this door are given: a wrong type is a sentence, as every other fault is. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from fedfore.errors import ConfigError, suggestion

Folders = str | Path | Sequence[str | Path]
"""One folder, or several."""

Given = ParamSpec("Given")
Made = TypeVar("Made")


def typed(function: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a function that raises ConfigError, in one sentence, for arguments that its annotations do not allow."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    names = [name for name in signature(function).parameters if name != "self"]

    @wraps(function)
    def called(*given: Given.args, **named: Given.kwargs) -> Made:
        try:
            return checked(*given, **named)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = first["loc"][0]
            name = names[min(place, len(names) - 1)] if isinstance(place, int) else place
            if first["type"] == "unexpected_keyword_argument":
                raise ConfigError(f'{function.__name__} has no argument "{name}".{suggestion(name, names)}') from None
            if first["type"].startswith("missing"):
                raise ConfigError(f"{function.__name__} is given no {name}.") from None
            said = first["msg"][0].lower() + first["msg"][1:]
            raise ConfigError(f"{function.__name__}({name}={first['input']!r}): {said}.") from None

    return called


def folders(given: Folders) -> list[Path]:
    """Return the folders of an argument that takes one or several."""
    return [Path(folder) for folder in ([given] if isinstance(given, str | Path) else given)]

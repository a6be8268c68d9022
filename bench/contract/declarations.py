"""Whether what a method class declares is what the harness can read of it; told when the file is found."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from fedfore.cell import Phase
from fedfore.contract.config import declared_keys, key_types, unfolded
from fedfore.contract.instance import make_config
from fedfore.contract.method import USABLE_AXES, Method
from fedfore.errors import PluginError
from fedfore.primitives.keys import Key
from fedfore.records.look import Look

LABEL = re.compile(r"\S(.{0,58}\S)?")


def check_declarations(method: object, name: str) -> None:
    """Raise PluginError or ConfigError unless a class declares what the harness reads of it."""
    if not (inspect.isclass(method) and issubclass(method, Method)):
        raise PluginError("it is no subclass of fedfore.api.Method")
    uses: object = method.uses
    if not isinstance(uses, set | frozenset | tuple | list):
        raise PluginError(f'its `uses` is {uses!r}, and not a set of axes, such as frozenset({{"sparsity"}})')
    odd = sorted(map(str, set(uses) - set(USABLE_AXES)))
    if odd:
        raise PluginError(f'its `uses` names "{odd[0]}", and the axes are {" and ".join(USABLE_AXES)}')
    label: object = method.label
    if label is not None and not (isinstance(label, str) and label.isprintable() and LABEL.fullmatch(label)):
        raise PluginError(f"its label {label!r} is no text of 1 to 60 characters in one line")
    if not isinstance(method.look, Look | None):
        raise PluginError(f"its look is a {type(method.look).__name__}, and not a fedfore.api.Look")
    for hook in ("estimate", "client_updates"):
        if not (getattr(method, hook) is None or callable(getattr(method, hook))):
            raise PluginError(f"its `{hook}` is a {type(getattr(method, hook)).__name__}, and not a function")
    if not dataclasses.is_dataclass(method.Config):
        raise PluginError("its Config is no dataclass")
    make_config(method, {}, name)  # every key has a default
    _check_keys(method, name)


def _check_keys(method: type[Method], name: str) -> None:
    """Raise PluginError or ConfigError where a key declares what cannot be of use."""
    for key, hint in key_types(method.Config).items():
        types, beside = unfolded(hint)
        if Key in beside:
            raise PluginError(f"its key {key} is annotated with the class Key; write Key(...) with what it declares")
        if any(_declares(inside) for kind in types for inside in _inside(kind)):
            raise PluginError(f"its key {key} has a Key inside its type, where none is read; write it beside the key")
        for own in (one for one in beside if isinstance(one, Key)):
            _check_key(key, own, types)
    tiny = {key: own.tiny for key, own in declared_keys(method.Config).items() if own.tiny is not None}
    make_config(method, tiny, f"tiny of {name}")


def _check_key(name: str, key: Key, types: list[Any]) -> None:
    phases = get_args(Phase)
    if key.linear_in is not None and key.linear_in not in phases:
        raise PluginError(f"its key {name} is linear_in {key.linear_in!r}, and the phases are {' and '.join(phases)}")
    counts = {"linear_in": key.linear_in, "local_steps": key.local_steps, "period": key.period}
    said = next((what for what, value in counts.items() if value), None)
    if said and int not in types:
        raise PluginError(f"its key {name} declares {said}, which is read of whole numbers, and its type has no int")


def _inside(kind: Any) -> Iterator[Any]:
    """Yield the types of which a plain type is made: the arguments of a container, the keys of a dataclass."""
    yield from get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        yield from key_types(kind).values()


def _declares(hint: Any) -> bool:
    """Return whether a type, or one inside it, has a `Key` beside it."""
    types, beside = unfolded(hint)
    return any(isinstance(own, Key) for own in beside) or any(_declares(one) for kind in types for one in _inside(kind))

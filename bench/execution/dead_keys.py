"""Keys of a method that another value changes nothing at all by.

Looked at are those of local SGD, where a method has them and trains in code of its own, and those that it defines.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from fedfore.contract.config import key_types, unfolded
from fedfore.contract.instance import default_params, make_config
from fedfore.contract.method import Method
from fedfore.errors import ConfigError, FedForeError, Skip
from fedfore.primitives.local_sgd import LocalSGDConfig

Params = Mapping[str, Any]
Changes = Mapping[str, Sequence[tuple[Params, Params]]]
"""By key, pairs of parameters that differ in it, one of which a method that reads the key tells apart."""

SUITE = ("fedfore.contract.", "fedfore.primitives.")

OF_LOCAL_SGD: Changes = {
    "lr": (({}, {"lr": 0.01}),),
    "momentum": (({}, {"momentum": 0.5}),),
    "weight_decay": (({}, {"weight_decay": 0.1}),),
    "local_epochs": (({}, {"local_epochs": 2}),),
    "local_steps": (({}, {"local_steps": 3}),),
    "lr_schedule": (({}, {"lr_schedule": "cosine"}),),
    "lr_decay": (({"lr_schedule": "exponential"}, {"lr_schedule": "exponential", "lr_decay": 0.5}),),
    "memory": (({}, {"memory": "checkpoint"}), ({}, {"memory": "optimizer_in_backward"})),
    "micro_batch": (({"memory": "accumulate", "micro_batch": 4}, {"memory": "accumulate", "micro_batch": 2}),),
}


def writes_its_own_loop(method: type[Method]) -> bool:
    """Return whether a method has the keys of local SGD and trains in code of its own, which may not read them."""
    own = method.client_update is not Method.client_update or method.client_updates is not None
    return own and issubclass(method.Config, LocalSGDConfig)


def own_changes(method: type[Method]) -> Changes:
    """Return changes of the keys that a method defines beside those of the suite's base classes.

    Each is tried with the others at their defaults, and under every choice that another of them offers.
    """
    own = [key for key in key_types(method.Config) if not _owner(method.Config, key).__module__.startswith(SUITE)]
    return {key: pairs for key in own if (pairs := list(_pairs(method, key, own)))}


def _owner(config: type, key: str) -> type:
    """Return the class that defines a key first."""
    return [base for base in config.__mro__ if key in inspect.get_annotations(base)][-1]


def _pairs(method: type[Method], key: str, own: Sequence[str]) -> Iterator[tuple[Params, Params]]:
    """Yield the pairs in which a key changes, none of which the Config refuses."""
    choices = [{name: value} for name in own if name != key for value in _others(method, name, choices=True)]
    for under in ({}, *choices):
        for value in _others(method, key):
            try:
                make_config(method, under, key)
                make_config(method, {**under, key: value}, key)
            except ConfigError:
                continue
            yield under, {**under, key: value}


def _others(method: type[Method], key: str, *, choices: bool = False) -> Iterator[Any]:
    """Yield values of a key other than its default: of `choices`, texts and truth values; else numbers near it, too."""
    value = default_params(method.Config)[key]
    for kind in unfolded(key_types(method.Config)[key])[0]:
        if get_origin(kind) is Literal:
            yield from (other for other in get_args(kind) if other != value)
        elif kind is bool:
            yield not value
        elif kind is NoneType and value is not None:
            yield None
        elif kind is int and not choices:
            yield from (2, 1) if value is None else (value + 1, value - 1, 1)
        elif kind is float and not choices:
            yield from (0.5, 2.0) if not value else (value * 2, value / 2, 0.5)


def dead_keys(observe: Callable[[Params], object], changes: Changes) -> list[str]:
    """Return the keys for which `observe(params)`, all that can be seen of a run, is the same under every change.

    A key whose value is refused is read.
    """
    seen: dict[str, object] = {}

    def observed(params: Params) -> object:
        name = repr(sorted(params.items()))
        if name not in seen:
            seen[name] = observe(params)
        return seen[name]

    dead = []
    for key, pairs in changes.items():
        try:
            if all(observed(one) == observed(other) for one, other in pairs):
                dead.append(key)
        except (FedForeError, Skip):
            continue
    return dead

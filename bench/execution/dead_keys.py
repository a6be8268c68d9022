"""Keys that a method inherits with the Config of local SGD and reads nowhere: another value changes nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fedfore.contract.method import Method
from fedfore.errors import FedForeError, Skip
from fedfore.primitives.local_sgd import LocalSGDConfig

Params = Mapping[str, Any]

CHANGES: Mapping[str, tuple[tuple[Params, Params], ...]] = {
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
"""By key, pairs of parameters that differ in it, one of which a method that reads the key tells apart."""


def writes_its_own_loop(method: type[Method]) -> bool:
    """Return whether a method has the keys of local SGD and trains in code of its own, which may not read them."""
    own = method.client_update is not Method.client_update or method.client_updates is not None
    return own and issubclass(method.Config, LocalSGDConfig)


def dead_keys(observe: Callable[[Params], object]) -> list[str]:
    """Return the keys for which `observe(params)`, all that can be seen of a run, is the same at any value.

    A key whose value is refused is read.
    """
    seen: dict[str, object] = {}

    def observed(params: Params) -> object:
        name = repr(sorted(params.items()))
        if name not in seen:
            seen[name] = observe(params)
        return seen[name]

    dead = []
    for key, pairs in CHANGES.items():
        try:
            if all(observed(one) == observed(other) for one, other in pairs):
                dead.append(key)
        except (FedForeError, Skip):
            continue
    return dead

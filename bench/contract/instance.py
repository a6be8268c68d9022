"""A method's instances: made from a table of parameters, sealed, and looked at for changes."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from functools import cache
from typing import Any

from fedfore.contract.config import validated
from fedfore.contract.method import Method
from fedfore.errors import ContractError


def make_config(method: type[Method], given: Mapping[str, Any], where: str) -> Any:
    """Return the method's validated Config; `where` names its table in messages, such as `params.fedavg`.

    Raises ConfigError for an unknown key, a wrong type or a value out of range.
    """
    return validated(method.Config, given, where)


@cache
def default_params(config: type) -> Mapping[str, Any]:
    """Return the parameters of a method by its Config, each at its default."""
    return dataclasses.asdict(config())


def instantiate(method: type[Method], params: Mapping[str, Any]) -> Method:
    """Return a sealed instance. Raises ContractError (`self_state`) where its attributes are no plain data."""
    instance = method(make_config(method, params, f"params.{method.__name__}"))
    instance.__dict__["_sealed"] = True
    fingerprint(instance)
    return instance


def fingerprint(instance: Method) -> bytes:
    """Return the instance's attributes as bytes, to see whether a hook changed them."""
    try:
        return pickle.dumps({**vars(instance), "config": dataclasses.asdict(instance.config)})
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ContractError(
            "self_state", f"{type(instance).__name__} keeps on self what is no plain data ({error})."
        ) from None

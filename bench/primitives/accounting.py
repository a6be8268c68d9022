"""Labels for what a device allocates, so that the memory meter can split a peak.

Primitives open an account around the tensors they make; the meter reads it. Outside any account a tensor is an
activation. Without a meter the labels cost nothing and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Account = Literal["parameters", "gradients", "activations", "perturbation", "optimizer", "messages"]

_current: ContextVar[Account] = ContextVar("account", default="activations")


@contextmanager
def account(name: Account) -> Iterator[None]:
    """Book the tensors made inside on account `name`."""
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)


def current_account() -> Account:
    """Return the account that a tensor made now is booked on."""
    return _current.get()

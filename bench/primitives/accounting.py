"""Labels for what a device does, so that the meters can split its memory and price its arithmetic.

Primitives open an account around the tensors they make; the memory meter reads it. Outside any account a tensor is an
activation. Without a meter the labels cost nothing and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedfore.cell import Account

_current: ContextVar[Account] = ContextVar("account", default="activations")
_dense_gradients: ContextVar[bool] = ContextVar("dense_gradients", default=False)


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


@contextmanager
def dense_gradients() -> Iterator[None]:
    """Charge the weight gradients made inside whole, not times the layer's density: pruned entries are read as well.

    Growing weights by their gradient needs it; training under a mask does not.
    """
    token = _dense_gradients.set(True)
    try:
        yield
    finally:
        _dense_gradients.reset(token)


def gradients_are_dense() -> bool:
    """Return whether weight gradients made now are charged whole."""
    return _dense_gradients.get()

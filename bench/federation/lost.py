"""What is lost with a process that shares a cell's work, and must not be changed in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedfore.contract.border import unchanged_process
from fedfore.contract.context import ClientContext
from fedfore.contract.instance import fingerprint
from fedfore.contract.method import Method
from fedfore.federation.rules import (
    check_data,
    check_global_rng,
    check_unchanged,
    check_untouched,
    global_rng,
    writes_to,
)
from fedfore.federation.world import World
from fedfore.masks import Mask


@contextmanager
def unchanged(method: Method, world: World, ctx: ClientContext) -> Iterator[None]:
    """Raise ContractError where a method has changed inside what all share, before that is lost unseen."""
    kind, before, rng, writes = type(method), fingerprint(method), global_rng(), writes_to(world.examples)
    mask = None if ctx.mask is None else Mask(ctx.mask)
    with unchanged_process(kind.__name__):
        yield
    check_global_rng(rng, kind)
    check_data(world.examples, writes, kind)
    check_untouched(ctx.mask, mask, kind)
    check_unchanged(method, before)

"""The same work on many items that have nothing to do with one another, whoever does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Map(Protocol):
    """Returns `[work(item) for item in items]`. Several processes may share the items, and what work changes is lost:
    it returns all that counts, which pickle can carry.
    """

    def __call__(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]: ...


def serially(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do the work here, on one item after the other."""
    return [work(item) for item in items]

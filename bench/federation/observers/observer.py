"""What an observer is, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from fedfore.contract.context import ClientContext
from fedfore.contract.exchange import Update
from fedfore.federation.channel import Channel
from fedfore.federation.clients import Clients
from fedfore.federation.ledger import Ledger
from fedfore.federation.server import Server
from fedfore.federation.world import World
from fedfore.measure.clock import Clock


class View(Protocol):
    """A federation as observers see it: its parts, which they leave as they are but for `clients.scratch`."""

    @property
    def world(self) -> World: ...
    @property
    def server(self) -> Server: ...
    @property
    def clients(self) -> Clients: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def clock(self) -> Clock: ...


@dataclass(frozen=True)
class Work:
    """What the devices of a round did: its context and cohort, their updates as received, the examples they drew."""

    ctx: ClientContext
    cohort: Sequence[int]
    updates: Sequence[Update]
    drawn: int


class Observer:
    """Is told what happens in a federation, and returns fields of its record. By default it does and says nothing.

    tells_of: what its fields are about. `learning` holds of a cell that came to its end; `device`, what a device pays a
    step or a round, of any in which a training round ended, and of one that is only metered; `spending` of any.
    """

    tells_of: ClassVar[Literal["learning", "device", "spending"]] = "learning"

    def after_setup(self, view: View) -> None:
        """Training is about to begin."""

    def before_work(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> None:
        """A cohort has received a round's message and is about to work, in either phase."""

    def after_work(self, view: View, work: Work) -> None:
        """The server has received a cohort's updates and is about to aggregate them."""

    def after_round(self, view: View) -> None:
        """A round of training has ended."""

    def fields(self, view: View) -> Mapping[str, Any]:
        """Return its fields of the record, as they are by now."""
        return {}

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the lines that it has by now of files that are written while the cell runs, by file."""
        return {}

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return its lines of files that are written when the cell has come to its end, by file."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as tensors, numbers, strings, lists and dicts of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""

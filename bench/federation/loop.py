"""The only training loop: setup, rounds to the end of the budget, and where each of its parts has its say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from fedfore.cell import Phase
from fedfore.contract.method import Method
from fedfore.errors import ConfigError
from fedfore.federation.channel import Channel
from fedfore.federation.clients import Clients, MakeClients
from fedfore.federation.ledger import Ledger, Totals
from fedfore.federation.observers.observer import Observer, Work
from fedfore.federation.observers.panel import Kind, Panel
from fedfore.federation.rules import check_data, check_global_rng, global_rng, writes_to
from fedfore.federation.server import Server, client_context
from fedfore.federation.world import World
from fedfore.masks import Mask
from fedfore.measure.clock import Clock


class Federation:
    """A server, its clients and the channel between them, for one cell; its observers are a `panel`.

    Raises ContractError where the method breaks a rule, Diverged at the first non-finite weight, Skip where the method
    does not apply.
    """

    def __init__(
        self,
        world: World,
        method: type[Method],
        observers: Iterable[Observer] = (),
        *,
        clients: MakeClients = Clients,
        clock: Clock | None = None,
    ) -> None:
        self.world = world
        self.clock = clock or Clock()
        self.server = Server(method, world)
        self.clients = clients(method, world, self.server.model)
        self.ledger = Ledger(world.cell.train, len(world.train_set))
        self.channel = Channel(self.server, self.ledger)
        self.panel = Panel(observers)
        self.setup_rounds: int | None = None
        self._is_set_up = False
        self._writes = writes_to(world.examples)

    @property
    def model(self) -> nn.Module:
        """The server's model."""
        return self.server.model

    @property
    def mask(self) -> Mask | None:
        """The server's mask."""
        return self.server.mask

    @property
    def notes(self) -> Mapping[str, Any]:
        """What the method noted of itself."""
        return self.server.notes

    @property
    def totals(self) -> Mapping[Phase, Totals]:
        """What each phase used so far."""
        return self.ledger.totals

    def run(self) -> Federation:
        """Go to the end of the budget; return this federation as it ended."""
        while self.advance():
            pass
        return self

    def advance(self) -> bool:
        """Take the next step, `start`, the end of setup or a round of either phase; return whether one was left.

        Between two steps `state_dict` holds everything.
        """
        before = global_rng()
        train = self.ledger.totals["train"]
        if self._sets_up():
            pass
        elif not self._is_set_up:
            self._is_set_up = True
            self.server.check_sparsity()
            self.panel.after_setup(self)
            self.server.forget_start()
        elif not self.ledger.is_spent:
            self.round("train", train.rounds)
            self.server.check_sparsity()
            self.panel.after_round(self)
        else:
            self.server.check_self()
            self.clients.check_self()
            check_data(self.world.examples, self._writes, type(self.server.method))
            return False
        check_global_rng(before, type(self.server.method))
        return True

    def setup(self) -> Mask | None:
        """Run `start` and the setup rounds alone; return the mask that training begins with."""
        while self._sets_up():
            pass
        self.server.check_sparsity()
        return self.mask

    def start(self) -> int:
        """Run `start`; return the number of setup rounds."""
        with self.clock.charge("setup"):
            self.setup_rounds = self.server.start()
        return self.setup_rounds

    def round(self, phase: Phase, number: int, cohort: Sequence[int] | None = None) -> None:
        """Run round `number` of a phase, with its own cohort or another."""
        with self.clock.charge(phase):
            cohort = self.server.cohort(phase, number) if cohort is None else cohort
            asked = self.server.context(phase, number, self.ledger.progress, tuple(cohort))
            received = self.channel.down(self.server.message(asked), asked)
            self.clients.receive(cohort, received.model, phase)
            ctx = client_context(asked, received.tensors)
        self.panel.before_work(self, ctx, cohort)
        with self.clock.charge(phase):
            clients = self.clients.of(cohort, phase)
            drawn_before = sum(client.examples_drawn for client in clients)
            updates = self.clients.updates(cohort, ctx, self.channel)
            self.server.check_mask()
            drawn = sum(client.examples_drawn for client in clients) - drawn_before
            self.ledger.totals[phase].book_round(len(cohort), drawn)
            self.panel.after_work(self, Work(ctx=ctx, cohort=cohort, updates=updates, drawn=drawn))
            self.server.aggregate(updates, asked)

    def seen_by(self, kind: type[Kind]) -> Kind:
        """Return the observer of this class."""
        return self.panel.member(kind)

    def fields(self) -> dict[str, Any]:
        """Return the record's fields as they are by now."""
        return dict(self.panel.fields(self))

    def spent_fields(self) -> dict[str, Any]:
        """Return the fields that hold of a cell which does not come to its end."""
        trained = ("device",) if self.ledger.totals["train"].rounds else ()
        return dict(self.panel.about("spending", *trained).fields(self))

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the lines by now of the files that are written while the cell runs, by file."""
        return self.panel.log()

    def lines(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return the lines of the files that are written when the cell has come to its end, by file."""
        return self.panel.lines(self)

    def state_dict(self) -> dict[str, Any]:
        """Return all that steps change, as tensors, numbers, strings, lists and dicts with strings as keys.

        The tensors are the federation's own, and change with its next step.
        """
        return {
            "setup_rounds": self.setup_rounds,
            "is_set_up": self._is_set_up,
            "seconds": dict(self.clock.seconds),
            "server": self.server.state_dict(),
            "clients": self.clients.state_dict(),
            "channel": self.channel.state_dict(),
            "ledger": self.ledger.state_dict(),
            "panel": self.panel.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, in a new federation, from what one of the same cell returned. Raises ConfigError after a step."""
        if self.setup_rounds is not None:
            raise ConfigError("This federation has taken steps of its own; load the state into a new one.")
        self.setup_rounds, self._is_set_up = state["setup_rounds"], state["is_set_up"]
        self.clock.seconds.update(state["seconds"])
        self.server.load_state_dict(state["server"])
        self.clients.load_state_dict(state["clients"])
        self.channel.load_state_dict(state["channel"])
        self.ledger.load_state_dict(state["ledger"])
        self.panel.load_state_dict(state["panel"])

    def _sets_up(self) -> bool:
        """Take the next step of the setup before its end; return whether one was left."""
        if self.setup_rounds is None:
            self.start()
            return True
        number = self.ledger.totals["setup"].rounds
        if number >= self.setup_rounds:
            return False
        self.round("setup", number)
        return True

"""The channel between server and devices: really encoded messages, counted, and who holds which mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedfore.cell import SIMULATED
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, ServerContext
from fedfore.contract.exchange import Message, Update
from fedfore.errors import ContractError
from fedfore.federation.ledger import Ledger
from fedfore.federation.rules import check_tensors, check_update
from fedfore.federation.server import Server
from fedfore.federation.wire import Packet, decode, encode
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.moment import MomentDraw


@dataclass(frozen=True)
class Sent:
    """An update on its way to the server, and what by-passes the wire (see `Update`)."""

    data: bytes
    bypass: Sequence[MomentDraw] | None = None


class Channel:
    """The wire under the server's present mask; `ledger` is where its bytes are booked.

    `holds` is the version of the mask that a client received last, by id.
    """

    def __init__(self, server: Server, ledger: Ledger) -> None:
        self.server = server
        self.ledger = ledger
        self.holds: dict[int, int] = {}

    def down(self, message: Message, ctx: ServerContext) -> Packet:
        """Send the server's message to the cohort; return it as it arrives.

        Whether a client gets the mask beside it or not, all decode the same model: it is made once.
        """
        server = self.server
        encoded: dict[bool, bytes] = {}
        received = Packet()
        for client in ctx.cohort:
            news = server.mask is not None and self.holds.get(client, 0) != server.mask_version
            if news not in encoded:
                packet = Packet(
                    mask=server.mask if news else None,
                    model=model_tensors(server.model) if message.model else None,
                    tensors=message.tensors,
                )
                encoded[news] = self._encode(packet)
                if len(encoded) == 1:
                    received = decode(encoded[news], server.layout, server.active, server.world.torch_device)
            self.ledger.totals[ctx.phase].downlink_bytes += len(encoded[news])
            self.holds[client] = server.mask_version
        return received

    def sent(self, update: Update, client: Client, ctx: ClientContext) -> Sent:
        """Return one client's update as it travels. Raises ContractError where it breaks a rule."""
        data = self.encoded(update, client.id, ctx)
        if update.bypass is not None and ctx.cell.estimator not in SIMULATED:
            name = type(self.server.method).__name__
            raise ContractError("bypass", f"{name} hands the server more than it sends over the wire.")
        return Sent(data, update.bypass)

    def up(self, sent: Sent, ctx: ClientContext) -> Update:
        """Count and decode one client's update."""
        self.ledger.totals[ctx.phase].uplink_bytes += len(sent.data)
        got = decode(sent.data, self.server.layout, self.server.active, self.server.world.torch_device)
        return Update(
            num_examples=got.num_examples,
            weights=got.model,
            scalars=got.scalars,
            tensors=got.tensors,
            bypass=sent.bypass,
        )

    def encoded(self, update: Update, client: int, ctx: ClientContext) -> bytes:
        """Return a client's update as it travels. Raises ContractError where it breaks a rule."""
        who = f"client {client} in {ctx.phase} round {ctx.round}"
        check_update(update, who)
        if update.weights is not None:
            check_tensors(update.weights, self.server.layout, self.server.mask, who)
        return self._encode(
            Packet(
                num_examples=update.num_examples, model=update.weights, scalars=update.scalars, tensors=update.tensors
            )
        )

    def give_mask(self) -> None:
        """Let every client hold the present mask, as if it had been sent before."""
        self.holds = dict.fromkeys(range(len(self.server.world.parts)), self.server.mask_version)

    def state_dict(self) -> dict[str, Any]:
        """Return which client holds which mask."""
        return {"holds": [[client, version] for client, version in self.holds.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.holds = dict(state["holds"])

    def _encode(self, packet: Packet) -> bytes:
        precision = self.server.world.cell.train.wire_precision
        return encode(packet, self.server.layout, self.server.active, precision)

"""The devices of a federation: shares of the data, memories, what each last received, and their work of a round."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedfore.cell import Phase
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, with_own_copies
from fedfore.contract.exchange import Update
from fedfore.contract.instance import fingerprint, instantiate
from fedfore.contract.method import Method
from fedfore.errors import ContractError
from fedfore.federation.channel import Channel, Sent
from fedfore.federation.device import client_of, device_of, draw_on, drawing
from fedfore.federation.forks import shared
from fedfore.federation.ledger import PHASES
from fedfore.federation.lost import unchanged
from fedfore.federation.rules import (
    check_plain,
    check_unchanged,
    storages_of,
)
from fedfore.federation.states import load_buffers, other_buffers, packed, unpacked
from fedfore.federation.untouched import unchanged_modules
from fedfore.federation.world import World
from fedfore.primitives.flat import flat_parameters, load_tensors, model_tensors
from fedfore.primitives.mapping import Item, Result


@dataclass(frozen=True)
class Returned:
    """What a device's round leaves: its update on the wire, its memory, and where it is in its epochs."""

    sent: Sent
    state: dict[str, Any]
    drawing: Mapping[str, Any]


class Clients:
    """All devices, shared among `processes` in a round, and the one model that each works on after loading it."""

    def __init__(self, method: type[Method], world: World, model: nn.Module, processes: int = 1) -> None:
        self.method = instantiate(method, world.cell.params)
        self.world = world
        self.processes = processes
        self.model = copy.deepcopy(model)
        flat_parameters(self.model)
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        self._unknown = {
            name: own.clone() if name in frozen else torch.full_like(own, math.nan)
            for name, own in model_tensors(model).items()
        }
        self._counters = {name: own.clone() for name, own in other_buffers(model).items()}
        self.devices = [device_of(world, client) for client in range(len(world.parts))]
        self._go_without = False
        self._fingerprint = fingerprint(self.method)

    def receive(self, cohort: Iterable[int], model: Mapping[str, Tensor] | None, phase: Phase) -> None:
        """Let the cohort hold the tensors of `model`; None leaves each what it received last.

        While every round of training brings a model, no device needs an earlier one: they are dropped.
        """
        if phase == "train" and model is None:
            self._go_without = True
        elif phase == "train" and not self._go_without:
            for device in self.devices:
                device.model = None
        for client in cohort if model is not None else ():
            self.devices[client].model = model

    def of(self, cohort: Iterable[int], phase: Phase) -> list[Client]:
        """Return these devices as a method sees them in a phase."""
        return [self.devices[client].clients[phase] for client in cohort]

    def updates(self, cohort: Sequence[int], ctx: ClientContext, channel: Channel) -> list[Update]:
        """Let the cohort do its work of a round; return its updates as the server receives them."""
        clients, taken = self.of(cohort, ctx.phase), storages_of(self.model)

        def sent(update: Update, client: Client) -> Sent:
            check_plain(client.state, "client.state", taken)
            return channel.sent(update, client, ctx)

        def work(client: Client) -> Returned:
            return Returned(sent(self._update(client, ctx), client), client.state, drawing(client))

        together = self._together(clients, ctx)
        if together is not None:
            received = [channel.up(sent(update, client), ctx) for update, client in zip(together, clients, strict=True)]
        else:
            received = []
            for client, returned in zip(clients, self._shared(ctx, work, clients), strict=True):
                client.state = returned.state
                draw_on(client, returned.drawing)
                received.append(channel.up(returned.sent, ctx))
        for client in clients:
            self._remember(client)
        return received

    def load_received(self, client: Client, phase: Phase) -> nn.Module:
        """Return the devices' model with what a client received last, in training mode; NaN before it received any.

        Raises ContractError (`no_model`) where that is so in training.
        """
        received = self.devices[client.id].model
        if received is None and phase != "setup":
            raise ContractError(
                "no_model",
                f"Client {client.id} takes part in a round without a model and holds none; send it one, and no two "
                "models in training before the first round without one.",
            )
        return self._loaded(received or self._unknown, self._counters)

    def scratch(self, model: nn.Module) -> nn.Module:
        """Return the devices' model with the values of another one: whatever happens to them, nobody will see."""
        return self._loaded(model_tensors(model), other_buffers(model))

    def largest(self) -> int:
        """Return the examples of the largest device."""
        return max(len(part) for part in self.world.parts)

    def largest_batch(self) -> int:
        """Return the examples of the largest batch that any device can draw."""
        return min(self.world.cell.train.batch_size, self.largest())

    def metered(self, examples: int, state: dict[str, Any], phase: Phase) -> Client:
        """Return a client for the meters that holds this many examples and draws them in the largest batches."""
        indices = np.arange(examples) % len(self.world.train_set)
        client = client_of(self.world, 0, indices, copy.deepcopy(state), phase)
        return replace(client, _batch_size=self.largest_batch())

    def check_self(self) -> None:
        """Raise ContractError (`self_state`) where the method has changed data on itself."""
        check_unchanged(self.method, self._fingerprint)

    def state_dict(self) -> dict[str, Any]:
        """Return all that rounds change, as tensors, numbers, strings, lists and dicts of these.

        `models` are the models that devices last received, each once, and a device names its own by its place there.
        """
        models: dict[int, Mapping[str, Tensor]] = {}
        for device in self.devices:
            if device.model is not None:
                models.setdefault(id(device.model), device.model)
        places = {key: place for place, key in enumerate(models)}
        return {
            "models": [dict(model) for model in models.values()],
            "go_without": self._go_without,
            "devices": [
                {
                    "state": packed(device.state),
                    "model": places.get(id(device.model)),
                    "drawing": {phase: drawing(device.clients[phase]) for phase in PHASES},
                }
                for device in self.devices
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self._go_without = state["go_without"]
        for device, stored in zip(self.devices, state["devices"], strict=True):
            device.state.clear()
            device.state.update(unpacked(stored["state"]))
            device.model = None if stored["model"] is None else state["models"][stored["model"]]
            for phase in PHASES:
                draw_on(device.clients[phase], stored["drawing"][phase])

    def _together(self, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        """Return the updates that the method makes of all devices at once; None where each works by itself."""
        together = self.method.client_updates
        models = [self.devices[client.id].model for client in clients]
        if together is None or not all(model is models[0] for model in models):
            return None
        model = self.load_received(clients[0], ctx.phase)
        with unchanged_modules(model, type(self.method), "client_updates"):
            updates = together(
                model, clients, replace(with_own_copies(ctx), map=lambda *given: list(self._shared(ctx, *given)))
            )
        if updates is not None and (not isinstance(updates, list) or len(updates) != len(clients)):
            name = type(self.method).__name__
            raise ContractError("hook_type", f"{name}.client_updates returns one Update a client.")
        return updates

    def _update(self, client: Client, ctx: ClientContext) -> Update:
        """Return a device's update, made from copies of its own of all that it received."""
        model = self.load_received(client, ctx.phase)
        with unchanged_modules(model, type(self.method), "client_update"):
            return self.method.client_update(model, client, with_own_copies(ctx))

    def _shared(self, ctx: ClientContext, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the work on each item, which the cell's processes share."""
        return shared(work, list(items), self.processes, partial(unchanged, self.method, self.world, ctx))

    def _loaded(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Tensor]) -> nn.Module:
        """Return the devices' model in training mode, with these values and no gradients."""
        load_tensors(self.model, tensors)
        load_buffers(self.model, counters)
        self.model.zero_grad(set_to_none=True)
        return self.model.train()

    def _remember(self, client: Client) -> None:
        """Make the dict that a method left as a client's state its device's only one."""
        device = self.devices[client.id]
        if client.state is not device.state:
            device.state = client.state
            for other in device.clients.values():
                other.state = client.state


class ClientsOneByOne(Clients):
    """Devices that work one after the other, also where their method could do all of them at once."""

    def _together(self, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        return None


MakeClients = Callable[[type[Method], World, nn.Module], Clients]
"""Makes the devices of a federation, such as `Clients`, or a part of it."""

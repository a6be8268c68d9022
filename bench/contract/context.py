"""What a hook is told of the round that it is called in, and the channel for a method's notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fedfore.cell import Cell, Phase
from fedfore.contract.client import Client
from fedfore.errors import ContractError
from fedfore.masks import Mask
from fedfore.primitives.mapping import Map, serially
from fedfore.streams import stream_seed, torch_generator

Note: TypeAlias = "str | bool | int | float | Sequence[Note] | Mapping[str, Note] | None"


@dataclass(frozen=True)
class Context:
    """What both sides know: the cell, the phase (`setup` or `train`), the round within it, the mask.

    progress: the fraction of the training budget spent before this round, in [0, 1). device: where tensors live.
    input_shape: of one example, [C, H, W].

    To judge a method's gradient estimates (`Method.estimate`) the harness rehearses the training round that comes next,
    and after the last one more: `broadcast` and `client_update`, with a cohort of one, on copies of the model and of
    both states.
    """

    cell: Cell
    phase: Phase
    round: int
    mask: Mask | None
    progress: float
    device: torch.device
    input_shape: tuple[int, int, int]
    initialise: Callable[[nn.Module, torch.Generator], None] = field(repr=False)


@dataclass(frozen=True)
class ServerContext(Context):
    """The server's view. `state` is its memory between rounds; `cohort` the ids of this round's clients, in order.

    `notes` are what the method has told of itself so far (see `note`).
    """

    state: dict[str, Any] = field(default_factory=dict)
    cohort: tuple[int, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    def state_of(self, owner: type) -> dict[str, Any]:
        """Return the part of `state` that a base class keeps for itself, so that no subclass's keys meet its own."""
        part: dict[str, Any] = self.state.setdefault(owner.__name__, {})
        return part

    def note(self, name: str, value: Note) -> None:
        """Tell something of the method itself, such as a choice that it made; a later note of that name replaces it.

        Notes are stored beside the record and enter no metric. `variant`, a phrase, says that the method is not in its
        published form here, and stands behind its name in tables and figures. Raises ContractError (`notes`) for what
        is neither a number nor a text, nor a list or a dict by text of such.
        """
        if name == "variant" and not isinstance(value, str):
            raise ContractError("notes", f'The note "variant" is {value!r}; it is a phrase.')
        self.notes.update(_noted({name: value}))

    def seed(self, role: str) -> int:
        """Return the 63-bit seed of this round's stream `role`; sent in a message, its bytes are counted."""
        return stream_seed(self.cell.seed, role, self.phase, self.round)

    def rng(self, role: str) -> torch.Generator:
        """Return this round's generator of stream `role`."""
        return torch_generator(self.seed(role))


@dataclass(frozen=True)
class ClientContext(Context):
    """A device's view: no server state, and of the server's words only the decoded tensors in `received`.

    map: `map(work, items)` is `[work(item) for item in items]`, by several processes where the run gives a cell more
    than one and the hook is `client_updates`. What work changes may be lost: what counts it returns.
    """

    received: Mapping[str, Tensor] = field(default_factory=dict)
    map: Map = field(default=serially, repr=False)

    def rng(self, role: str, client: Client) -> torch.Generator:
        """Return this round's generator of stream `role` for one client."""
        return torch_generator(stream_seed(self.cell.seed, role, self.phase, self.round, client.id))


def with_own_copies(ctx: ClientContext) -> ClientContext:
    """Return the context of a device that holds what it received in tensors of its own."""
    return replace(ctx, received={name: tensor.clone() for name, tensor in ctx.received.items()})


def _noted(value: Any) -> Any:
    """Return a copy of what a method notes, of plain types alone."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_noted(item) for item in value]
    if not isinstance(value, Mapping):
        raise ContractError(
            "notes", f"A note holds a {type(value).__name__}; write numbers, texts, and lists and dicts of them."
        )
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        raise ContractError("notes", f"A note has the key {odd[0]!r}; its keys are texts.")
    return {key: _noted(item) for key, item in value.items()}

"""A federation that is saved and loaded between its steps ends as the one that was never interrupted, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Mask, Message, Method, ServerContext, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.feddst import FedDST
from fedfore.baselines.fedmef import FedMef
from fedfore.baselines.fedtiny import FedTiny
from fedfore.cell import Cell, Protocol
from fedfore.federation.loop import Federation
from fedfore.federation.states import packed, unpacked
from fedfore.methods.fed_ntk_zo import FedNTKZO
from fedfore.primitives.flat import flat_parameters
from fedfore.records.record import is_volatile

Make = Callable[..., Federation]
SMALL = "lenet5:width=0.3"
TRAIN = Protocol(clients=4, participation=0.5, batch_size=16, rounds=5, eval_every=2.0)
ADJUSTING = {"local_steps": 2, "adjust_every": 2, "adjust_until": 99}


class Remembers(Method):
    """Control variates, in a state of every kind that the contract allows; its model goes down in even rounds only."""

    def setup_rounds(self, cell: Cell) -> int:
        return 2

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        own = ctx.state.setdefault("own", torch.zeros_like(flat_parameters(model)))
        return Message({"own": own}, model=ctx.phase == "setup" or ctx.round % 2 == 0)

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if ctx.phase == "setup":
            client.state = {"rounds": (ctx.round, [client.id]), 7: None}
            return Update(client.num_examples, tensors={"change": torch.ones(1)})
        before = flat_parameters(model).clone()
        update = super().client_update(model, client, ctx)
        known = client.state.setdefault("own", {"variate": [torch.zeros_like(before)]})["variate"]
        client.state["rounds"] = (*client.state["rounds"], ctx.round) if "rounds" in client.state else (-1,)
        known[0] += 0.1 * (before - flat_parameters(model) - ctx.received["own"])
        return replace(update, tensors={"change": known[0].clone()})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        ctx.state["own"] = ctx.state["own"] + sum(update.tensors["change"] for update in updates)
        ctx.note("rounds", {ctx.phase: ctx.round})
        return None if ctx.phase == "setup" else super().aggregate(model, updates, ctx)


CELLS: dict[str, tuple[type[Method], dict[str, Any]]] = {
    "client state": (Remembers, {"given": {"local_steps": 3, "lr": 0.01}, "train": replace(TRAIN, participation=1.0)}),
    "in the middle of an epoch": (
        Method, {"given": {"local_steps": 2}, "train": replace(TRAIN, augment=True, data_passes=2, rounds=None)}
    ),
    "moving average": (
        Baffle, {"given": {"num_perturbations": 4, "ema_decay": 0.9}, "estimator": "directional", "alpha": 1.0}
    ),
    "setup of one cohort": (FedTiny, {"given": ADJUSTING, "model": f"{SMALL},norm=batch", "sparsity": 0.8}),
    "extrusion": (FedMef, {"given": ADJUSTING, "model": f"{SMALL},norm=batch", "sparsity": 0.8}),
    "moving mask": (FedDST, {"given": ADJUSTING, "sparsity": 0.8, "train": replace(TRAIN, rounds=7)}),
    "foresight": (
        FedNTKZO,
        {
            "given": {"iterations": 3, "draws": 1, "inputs_per_draw": 4, "num_perturbations": 3,
                      "mask_perturbations_only": True, "init_scale": 2.0},
            "estimator": "moment", "sparsity": 0.8, "ntk": True, "train": replace(TRAIN, compare_masks=True),
        },
    ),
}  # fmt: skip


def through_files(value: Any) -> Any:
    """Return a state as it comes out of a file of tensors and one of JSON, which it must be made for."""
    tensors: list[Tensor] = []

    def placed(one: Any) -> Any:
        if isinstance(one, Tensor):
            tensors.append(one.detach().clone())
            return {"tensor": len(tensors) - 1}
        if isinstance(one, dict):
            assert all(type(key) is str for key in one), list(one)
            return {key: placed(inner) for key, inner in one.items()}
        return [placed(inner) for inner in one] if type(one) is list else one

    def taken(one: Any) -> Any:
        if isinstance(one, dict):
            return tensors[one["tensor"]] if "tensor" in one else {key: taken(inner) for key, inner in one.items()}
        return [taken(inner) for inner in one] if isinstance(one, list) else one

    plain = placed(value)
    read = json.loads(json.dumps(plain))
    assert read == plain
    return taken(read)


def seen(made: Federation) -> tuple[Any, ...]:
    fields = {name: value for name, value in made.fields().items() if not is_volatile(name)}
    return fields, made.log(), made.lines(), made.notes, made.ledger


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.thorough
def test_a_federation_loaded_anew_after_every_step_ends_as_if_never_interrupted(federation: Make, name: str) -> None:
    method, settings = CELLS[name]
    settings = {"train": TRAIN, "model": SMALL, **settings}
    whole = federation(method, **settings).run()
    steps, made = 0, federation(method, **settings)
    while made.advance():
        state = through_files(made.state_dict())
        made = federation(method, **settings)
        made.load_state_dict(state)
        steps += 1
    assert steps == 2 + whole.totals["setup"].rounds + whole.totals["train"].rounds
    assert seen(made) == seen(whole)
    mine = made.model.state_dict()
    assert all(torch.equal(tensor, mine[key]) for key, tensor in whole.model.state_dict().items())


def test_two_federations_from_one_state_share_nothing(federation: Make) -> None:
    method, settings = CELLS["client state"]
    first, second = (federation(method, **{"model": SMALL, **settings}) for _ in range(2))
    for _ in range(5):
        first.advance()
    second.load_state_dict(first.state_dict())
    before = through_files(second.state_dict())
    first.run()
    assert repr(through_files(second.state_dict())) == repr(before)
    assert repr(through_files(first.state_dict())) != repr(before)


def test_time_is_counted_over_all_interruptions(federation: Make) -> None:
    first, second = (federation(Method, TRAIN, model=SMALL) for _ in range(2))
    first.run()
    second.load_state_dict(first.state_dict())
    assert second.clock.seconds == first.clock.seconds and second.clock.seconds["train"] > 0


def test_a_state_is_the_same_after_it_was_taken_apart() -> None:
    state = {"a": (1, [2.5, None, "x", {}]), 3: {"dict": True, (1, "b"): ()}, "tensor": torch.arange(3)}
    again = unpacked(through_files(packed(state)))
    assert repr(again) == repr(state)
    assert again["tensor"] is not state["tensor"]


def test_a_state_that_a_device_replaces_is_its_memory_in_both_phases(federation: Make) -> None:
    made = federation(Remembers, TRAIN, model=SMALL)
    made.setup()
    for device in made.clients.devices:
        assert device.clients["train"].state is device.clients["setup"].state is device.state
    assert any(device.state.get("rounds") for device in made.clients.devices)

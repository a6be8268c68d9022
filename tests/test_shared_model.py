"""What hooks share, and may not use to change one another: the model object, what was sent, memory, a cell's params."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedfore.api import Client, ClientContext, Mask, Message, Method, ServerContext, Update
from fedfore.cell import Cell, Protocol
from fedfore.errors import ConfigError, ContractError
from fedfore.federation.loop import Federation
from fedfore.primitives.flat import flat_parameters, model_tensors

Make = Callable[..., Federation]
Act = Callable[[nn.Module, dict[str, Any]], Any]
TRAIN = Protocol(clients=3, batch_size=16, rounds=2)


class WorksInWhatItReceived(Method):
    """Adds to the vector that the server sends, in place, and sends it back."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"sent": torch.zeros(1)})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        ctx.received["sent"].add_(1)
        return replace(super().client_update(model, client, ctx), tensors={"sent": ctx.received["sent"]})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        ctx.note(f"sent in {ctx.round}", [float(update.tensors["sent"]) for update in updates])
        return super().aggregate(model, updates, ctx)


class AllAtOnce(WorksInWhatItReceived):
    """The same, of all clients at once."""

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        ctx.received["sent"].add_(1)
        sent = {"sent": ctx.received["sent"]}
        return [Update(one.num_examples, weights=model_tensors(model), tensors=sent) for one in clients]


@pytest.mark.parametrize("method", [WorksInWhatItReceived, AllAtOnce])
def test_observers_change_nothing_where_a_device_works_in_what_it_received(
    federation: Make, method: type[Method]
) -> None:
    watched = federation(method, TRAIN).run()
    alone = Federation(watched.world, method).run()
    assert watched.notes == alone.notes == {f"sent in {number}": [1.0] * 3 for number in range(2)}


def acting(hook: str, act: Act) -> type[Method]:
    """Return federated averaging that acts on the model and on the memory that it has at the end of a hook."""

    def hooked(self: Method, model: nn.Module, *rest: Any) -> Any:
        result = getattr(Method, hook)(self, model, *rest)
        act(model, rest[0].state if hook == "client_update" else rest[-1].state)
        return result

    return type("Acts", (Method,), {hook: hooked})


def appended(model: nn.Module, _: object) -> None:
    model.prepared.append(1)


LEFT: Mapping[str, Act] = {
    "an attribute": lambda model, _: setattr(model, "seen", 1),
    "an entry of a list": appended,
    "a forward hook": lambda model, _: model.register_forward_hook(lambda *_: None),
    "a forward of its own": lambda model, _: vars(model[0]).update(forward=lambda x: x),
    "a frozen parameter": lambda model, _: next(model.parameters()).requires_grad_(False),
    "a hook of a parameter": lambda model, _: next(model.parameters()).register_hook(lambda grad: grad),
}


class Prepared(Method):
    def prepare(self, model: nn.Module) -> nn.Module:
        model.prepared = []
        return model


@pytest.mark.parametrize("hook", ["start", "broadcast", "client_update", "aggregate", "evaluation_weights"])
@pytest.mark.parametrize("left", LEFT)
def test_what_a_hook_leaves_on_the_model_is_refused(federation: Make, hook: str, left: str) -> None:
    method = type("Leaves", (acting(hook, LEFT[left]), Prepared), {})
    with pytest.raises(ContractError, match=rf"Leaves\.{hook} leaves .* of the model changed") as caught:
        federation(method, TRAIN).run()
    assert caught.value.rule == "model_state"


def test_what_a_hook_undoes_is_no_change(federation: Make) -> None:
    def passes(model: nn.Module, _: object) -> None:
        model.register_forward_hook(lambda *_: None).remove()
        model.seen = 1
        del model.seen

    assert federation(acting("client_update", passes), TRAIN).run().totals["train"].rounds == 2


class CumulativeNorms(Method):
    """Batch norms that average over all batches, by their counter of these."""

    def prepare(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        return model


def test_counters_begin_anew_on_every_device(federation: Make) -> None:
    watched = federation(CumulativeNorms, TRAIN, model="lenet5:width=0.3,norm=batch").run()
    alone = Federation(watched.world, CumulativeNorms).run()
    mine = alone.model.state_dict()
    assert all(torch.equal(tensor, mine[name]) for name, tensor in watched.model.state_dict().items())
    device = alone.clients.load_received(alone.clients.devices[0].clients["train"], "train")
    assert int(device.state_dict()["norm1.num_batches_tracked"]) == 0


class Text(str):
    pass


KEPT: Mapping[str, Callable[[nn.Module], Any]] = {
    "a defaultdict": lambda _: {"x": defaultdict(int)},
    "an OrderedDict": lambda _: {"x": OrderedDict()},
    "a number of numpy": lambda _: {"x": np.float64(1)},
    "a text of its own kind": lambda _: {"x": [Text("x")]},
    "a parameter": lambda _: {"x": nn.Parameter(torch.ones(1))},
    "a sparse tensor": lambda _: {"x": torch.eye(3).to_sparse()},
    "a tensor without memory": lambda _: {"x": torch.ones(3, device="meta")},
    "a complex tensor": lambda _: {"x": torch.ones(3, dtype=torch.complex64)},
    "a key of another kind": lambda _: {"x": {1.5: 1}},
    "a key of keys": lambda _: {"x": {("a", None): 1}},
    "the model's memory": lambda model: {"x": flat_parameters(model)},
    "views of one tensor": lambda _: {"x": list(torch.ones(4).split(2))},
}


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("hook", ["start", "client_update", "aggregate"])
def test_a_state_that_would_not_come_back_the_same_is_refused(federation: Make, kept: str, hook: str) -> None:
    method = acting(hook, lambda model, state: state.update(KEPT[kept](model)))
    with pytest.raises(ContractError, match=r"(ctx|client)\.state") as caught:
        federation(method, TRAIN).run()
    assert caught.value.rule == "state_type"


class OtherDict(Method):
    """Replaces its state by what is a dict only nearly."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        client.state = OrderedDict()
        return super().client_update(model, client, ctx)


def test_a_state_stays_a_dict(federation: Make) -> None:
    with pytest.raises(ContractError, match=r"client\.state is a OrderedDict"):
        federation(OtherDict, TRAIN).run()


def test_a_state_that_is_kept_has_no_models_that_nobody_needs(federation: Make) -> None:
    made = federation(Method, replace(TRAIN, clients=6, participation=0.34, rounds=5), model="lenet5:width=0.3").run()
    state = made.state_dict()
    assert len(state["clients"]["models"]) == 1 and state["server"]["started"] == {}


class EveryOther(Method):
    """Sends its model in rounds 0 and 3."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message(model=ctx.round % 3 == 0)


def test_models_are_kept_where_rounds_go_without(federation: Make) -> None:
    made = federation(EveryOther, replace(TRAIN, rounds=3), model="lenet5:width=0.3").run()
    made.round("train", 3, [0])
    assert len(made.state_dict()["clients"]["models"]) == 2
    made.round("train", 4, [1])


def test_a_state_is_loaded_into_a_new_federation_alone(federation: Make) -> None:
    made = federation(Method, TRAIN, model="lenet5:width=0.3")
    state = copy.deepcopy(made.state_dict())
    made.advance()
    with pytest.raises(ConfigError, match="into a new one"):
        made.load_state_dict(state)


EDITS: Mapping[str, Act] = {
    "the model": lambda model, _: flat_parameters(model).add_(1),
    "ctx.state": lambda _, state: state.update(seen=1),
}


@pytest.mark.parametrize("edited", EDITS)
def test_an_evaluation_edits_nothing(federation: Make, edited: str) -> None:
    with pytest.raises(ContractError, match=f"evaluation_weights edits {edited}"):
        federation(acting("evaluation_weights", EDITS[edited]), TRAIN).run()


class EditsParams(Method):
    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        ctx.cell.params["lr"] = 0.0  # type: ignore[index]
        return Message()


def test_the_params_of_a_cell_cannot_be_changed(federation: Make) -> None:
    with pytest.raises(TypeError, match="mappingproxy"):
        federation(EditsParams, TRAIN).run()


@pytest.mark.parametrize("rounds", [-1, True])
def test_setup_rounds_are_a_number(federation: Make, rounds: int) -> None:
    def setup_rounds(self: Method, cell: Cell) -> int:
        return rounds

    with pytest.raises(ContractError, match=r"setup_rounds returns (-1|True)"):
        federation(type("Odd", (Method,), {"setup_rounds": setup_rounds}), TRAIN).run()

"""What a client keeps between rounds, as SCAFFOLD does by layer: it stays the client's own, and is metered whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fedfore.api import Client, ClientContext, Mask, Method, ServerContext, Update
from fedfore.baselines.fedavg import FedAvg
from fedfore.cell import Protocol
from fedfore.federation.loop import Federation

ROUNDS = 3
TRAIN = Protocol(clients=4, batch_size=16, rounds=ROUNDS, eval_every=ROUNDS)
REPORTS: list[dict[str, list[float]]] = []
"""What clients said in real rounds of the state that they found, as the server received it."""

Make = Callable[..., Federation]


class Variates(Method):
    """Keeps, nested by layer, the weights of its last round, and sends what it found of the one before."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        found = client.state.get("variate", {"rounds": 0, "layers": {}})
        layers = {name: value.detach().clone() for name, value in model.named_parameters()}
        client.state["variate"] = {"rounds": found["rounds"] + 1, "layers": layers}
        sums = [float(value.sum()) for value in found["layers"].values()]
        kept = [float(value.sum()) for value in layers.values()]
        said = {"client": [client.id], "rounds": [found["rounds"]], "found": sums, "kept": kept}
        return replace(update, tensors={name: torch.tensor(values) for name, values in said.items()})

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        REPORTS.extend({name: values.tolist() for name, values in update.tensors.items()} for update in updates)
        return super().aggregate(model, updates, ctx)


class Flat(Method):
    """Keeps as many numbers, in one tensor at the top of its state."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        client.state["variate"] = torch.cat([value.detach().flatten() for value in model.parameters()])
        return update


def ran(federation: Make, method: type[Method]) -> dict[str, Any]:
    REPORTS.clear()
    return federation(method, TRAIN).run().fields()


def test_a_nested_state_survives_rounds_and_no_client_finds_anothers(federation: Make) -> None:
    ran(federation, Variates)
    by_client: dict[float, list[dict[str, list[float]]]] = {}
    for report in REPORTS:
        by_client.setdefault(report["client"][0], []).append(report)
    assert len(by_client) == TRAIN.clients
    for own in by_client.values():
        assert [report["rounds"] for report in own] == [[round] for round in range(ROUNDS)]
        assert own[0]["found"] == []
        assert [report["found"] for report in own[1:]] == [report["kept"] for report in own[:-1]]
    assert len({str(own[-1]["found"]) for own in by_client.values()}) == TRAIN.clients, "each has weights of its own"


def test_a_nested_state_is_metered_whole_as_a_flat_one_is(federation: Make) -> None:
    nested, flat, none = (ran(federation, method) for method in (Variates, Flat, FedAvg))
    size = 4 * none["num_parameters"]
    assert none["peak_device_bytes_optimizer"] == 0
    assert nested["peak_device_bytes_optimizer"] == flat["peak_device_bytes_optimizer"] == size
    assert nested["peak_device_bytes"] >= none["peak_device_bytes"] + size

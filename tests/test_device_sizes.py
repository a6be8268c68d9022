"""A device is metered as it is: with the data that clients really hold, and with the state that they really keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Context, Method, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedmef import FedMef
from fedfore.cell import Protocol
from fedfore.federation.loop import Federation
from fedfore.methods.fed_ntk_zo import FedNTKZO
from fedfore.primitives.flat import flat_parameters, model_tensors
from fedfore.tasks.models import build
from tests.conftest import TINY

SMALL_CLIENTS = Protocol(clients=10, batch_size=16, rounds=1)
"""Of 16 examples each."""
FEW = {"num_perturbations": 3}
REAL = {**FEW, "inputs": "real", "inputs_per_draw": 40, "draws": 2, "iterations": 1}
MODEL = "lenet5:width=0.25"
PARAMETERS = sum(parameter.numel() for parameter in build(MODEL, (1, 32, 32), 10).parameters())

Costs = Callable[..., dict[str, Any]]


@pytest.fixture
def costs(federation: Callable[..., Federation]) -> Costs:
    def measure(method: type[Method], train: Protocol, **fields: Any) -> dict[str, Any]:
        made = federation(method, train, model=MODEL, **fields)
        found = made.run().fields()
        kept = {name: value for name, value in found.items() if "device" in name or "flops" in name}
        return kept | {name: found[name] for name in ("metered_batch", "min_client_examples")}

    return measure


# Data


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (FedAvg, {"given": {"momentum": 0.9}}),
        (FedAvg, {"given": {"local_steps": 3, "momentum": 0.9}}),
        (Baffle, {"given": FEW, "estimator": "directional"}),
        (FedNTKZO, {"given": REAL, "estimator": "directional", "sparsity": 0.8}),
        (FedMef, {"given": {"adjust_every": 1, "adjust_until": 9, "nsconv": False}, "sparsity": 0.8}),
    ],
    ids=["epoch", "steps", "baffle", "real inputs", "adjusting"],
)
@pytest.mark.thorough
def test_a_batch_size_above_every_clients_share_costs_what_the_share_costs(
    costs: Costs, method: type[Method], fields: dict[str, Any]
) -> None:
    rounds = 2 if method is FedMef else 1
    share, more = (
        costs(method, replace(SMALL_CLIENTS, batch_size=size, rounds=rounds), **fields) for size in (16, 512)
    )
    assert share == more
    assert share["metered_batch"] == 16


def test_a_peak_is_of_batches_that_the_largest_client_really_draws(costs: Costs) -> None:
    """With momentum a second batch costs a model more; of 16 examples there is one, of 24 a half one, of 32 two."""
    size = 4 * PARAMETERS
    one, half, two, epochs = (
        costs(FedAvg, replace(SMALL_CLIENTS, clients=clients), given={"momentum": 0.9, **more})
        for clients, more in ((10, {}), (7, {}), (5, {}), (10, {"local_epochs": 2}))
    )
    assert one["peak_device_bytes"] < half["peak_device_bytes"] < two["peak_device_bytes"]
    assert [fields["peak_device_bytes_optimizer"] for fields in (one, half, two, epochs)] == [0, 0, size, size]
    assert two["peak_device_bytes"] - one["peak_device_bytes"] == pytest.approx(size, rel=0.01)
    assert one["device_step_flops"] == half["device_step_flops"] == two["device_step_flops"]


def test_the_largest_client_of_an_uneven_partition_is_the_one_that_is_metered(costs: Costs) -> None:
    two = replace(SMALL_CLIENTS, clients=2, batch_size=512, min_client_examples=5)
    found = costs(FedAvg, two, alpha=0.3)
    assert found["metered_batch"] == 160 - found["min_client_examples"] > 80


def test_a_device_that_scores_many_batches_at_once_is_metered_with_all_of_them(costs: Costs) -> None:
    """Real inputs of a draw, of 40 examples that a client holds, arrive in one batch, or in five."""
    train = replace(SMALL_CLIENTS, clients=4)
    whole, five = (
        costs(FedNTKZO, replace(train, batch_size=size), given=REAL, estimator="directional", sparsity=0.8)
        for size in (40, 8)
    )
    peak = "peak_device_bytes_setup"
    assert five[peak] == pytest.approx(whole[peak], rel=0.05)
    assert five["setup_flops_total"] == pytest.approx(whole["setup_flops_total"], rel=1e-6)


# State


class ErrorFeedback(Method):
    """Sends the tenth of its change that is largest, and keeps the rest, made when it is first needed."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        before = flat_parameters(model).clone()
        super().client_update(model, client, ctx)
        change = flat_parameters(model).sub_(before)
        self.add_kept(client, change)
        sent = torch.where(change.abs() >= change.abs().quantile(0.9), change, 0.0)
        self.keep(client, change - sent)
        flat_parameters(model).copy_(before + sent)
        return Update(client.num_examples, model_tensors(model))

    def add_kept(self, client: Client, change: Tensor) -> None:
        if "error" in client.state:
            change += client.state["error"]

    def keep(self, client: Client, error: Tensor) -> None:
        client.state["error"] = error


class Nested(ErrorFeedback):
    """The same in a dict of lists."""

    def add_kept(self, client: Client, change: Tensor) -> None:
        if "kept" in client.state:
            change += torch.cat(client.state["kept"]["error"])

    def keep(self, client: Client, error: Tensor) -> None:
        client.state["kept"] = {"error": [half.clone() for half in error.split(3_000)]}


class FirstIsAnother(ErrorFeedback):
    """The same, telling the harness that its first round is of another kind."""

    def round_kind(self, ctx: Context) -> str:
        return "first" if ctx.round == 0 else "later"


class FromTheBeginning(ErrorFeedback):
    """The same, with zeros from the first round on."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        client.state.setdefault("error", torch.zeros(PARAMETERS))
        return super().client_update(model, client, ctx)


@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_what_a_device_keeps_between_rounds_is_in_its_peak_however_it_is_kept(
    costs: Costs, participation: float
) -> None:
    train = Protocol(clients=4, participation=participation, batch_size=16, rounds=4)
    plain = costs(FedAvg, train)
    peaks = {}
    for method in (ErrorFeedback, FirstIsAnother, FromTheBeginning, Nested):
        found = costs(method, train)
        assert found["peak_device_bytes_optimizer"] == 4 * PARAMETERS, method
        assert found["train_flops_total"] == plain["train_flops_total"], method
        peaks[method] = found["peak_device_bytes"]
    assert peaks[ErrorFeedback] == peaks[FirstIsAnother] == peaks[FromTheBeginning]
    assert peaks[Nested] == pytest.approx(peaks[ErrorFeedback], abs=4 * PARAMETERS)


class Archive(FedAvg):
    """Keeps something more in every round, which no update needs."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        client.state.setdefault("all", []).append(torch.zeros(1000))
        return update


def test_a_state_that_grows_is_metered_at_its_fullest(costs: Costs) -> None:
    one, three = (costs(Archive, replace(TINY, rounds=rounds)) for rounds in (1, 3))
    assert three["peak_device_bytes"] - one["peak_device_bytes"] == 2 * 4000
    assert three["peak_device_bytes_optimizer"] == 2 * 4000

"""The random seed trick in bytes: the harness counts the same, closed forms hold, and a replay needs one sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Method
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.cell import Protocol
from fedfore.execution.seed_trick import Exchange, SeedTrick, Steps, compare_exchanges
from fedfore.federation.loop import Federation
from fedfore.masks import prunable_shapes
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.perturbations import Directions
from fedfore.primitives.zeroth_order import Sent, Step, ZerothOrderConfig
from fedfore.tasks.models import build

SMALL = "lenet5:width=0.25"
K, STEPS, EXAMPLES, BATCH = 7, 3, 40, 16
HEADER, NUMBER, NAMED, SEED = 9, 4, 3 + 4, 3 + 4 + 8
"""Bytes: of an empty message, of the number of scalars, of a vector but for its name, of the seed."""


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return build(SMALL, (1, 32, 32), 10)


def compared(model: nn.Module, sparsity: float = 0.0, **options: Any) -> dict[tuple[str, str], Exchange]:
    found = compare_exchanges(model, EXAMPLES, Steps(BATCH, K, sparsity, **options))
    return {(row.exchange, row.communication): row for row in found.exchanges}


@pytest.mark.parametrize("communication", ["step", "epoch"])
@pytest.mark.parametrize(
    ("exchange", "method"),
    [("scalars up, model down", Baffle), ("weights both ways", FedAvg)],
    ids=["baffle", "fedavg"],
)
def test_the_harness_counts_the_same_bytes(
    federation: Callable[..., Federation], small: nn.Module, exchange: str, method: type[Method], communication: str
) -> None:
    train = Protocol(clients=4, batch_size=BATCH, data_passes=1)
    if method is Baffle:
        given: dict[str, Any] = {"num_perturbations": K, "communication": communication}
    else:
        given = {"local_steps": 1} if communication == "step" else {"local_epochs": 1}
    estimator = {"estimator": "directional"} if method is Baffle else {}
    totals = federation(method, train, given=given, model=SMALL, **estimator).run().totals["train"]
    row = compared(small)[exchange, communication]
    assert totals.rounds == row.uplink_messages == row.downlink_messages
    assert (totals.uplink_bytes, totals.downlink_bytes) == (4 * row.uplink_bytes, 4 * row.downlink_bytes)


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_the_other_exchanges_cost_what_their_shapes_say(small: nn.Module, sparsity: float) -> None:
    rows = compared(small, sparsity)
    size = sum(p.numel() for p in small.parameters())
    prunable = sum(shape.numel() for shape in prunable_shapes(small).values())
    active = size - prunable + round((1 - sparsity) * prunable)
    for communication, rounds, local_steps in (("step", STEPS, 1), ("epoch", 1, STEPS)):
        count = K * local_steps
        scalars = 4 * count + NUMBER + HEADER
        model = 4 * active + HEADER
        both = rows["scalars both ways", communication]
        assert (both.uplink_bytes, both.downlink_bytes) == (rounds * scalars, rounds * (scalars + SEED))
        gradient = rows["gradient up, model down", communication]
        assert gradient.uplink_bytes == rounds * (4 * active + HEADER + NAMED + len("gradient"))
        assert gradient.downlink_bytes == rounds * (model + SEED)
        unseeded = rows["perturbations down", communication]
        perturbation = 4 * active + HEADER + NAMED + len("perturbation")
        assert (unseeded.uplink_messages, unseeded.downlink_messages) == (rounds, rounds * (1 + count))
        assert (unseeded.uplink_bytes, unseeded.downlink_bytes) == (
            rounds * scalars,
            rounds * (model + count * perturbation),
        )


def test_a_replayed_adam_holds_the_estimate_and_two_moments_and_a_count(small: nn.Module) -> None:
    size = sum(p.numel() for p in small.parameters())
    rows = compared(small)
    held = {name: row.device_bytes for name, row in rows.items()}
    assert held["scalars both ways", "step"] == 3 * 4 * size + 4
    assert held["scalars both ways", "epoch"] == held["gradient up, model down", "step"] == 4 * size
    assert held["perturbations down", "epoch"] == 2 * held["perturbations down", "step"] == 8 * size
    assert held["scalars up, model down", "step"] == held["weights both ways", "epoch"] == 0


def test_regenerated_entries_are_those_an_estimate_generates(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    generated: list[int] = []
    generate = Directions.generate

    def counted(*arguments: Any, **options: Any) -> Tensor:
        made = generate(*arguments, **options)
        generated.append(made.numel())
        return made

    monkeypatch.setattr(Directions, "generate", counted)
    step = Step("finite_difference", ZerothOrderConfig(num_perturbations=K), 1, 0)
    step.estimate([Sent(torch.ones(K))], [1.0], [0], small, None)
    once = STEPS * sum(generated)
    regenerated = {name: row.regenerated for name, row in compared(small).items()}
    assert regenerated["scalars up, model down", "step"] == regenerated["weights both ways", "epoch"] == 0
    assert regenerated["scalars both ways", "step"] == regenerated["gradient up, model down", "step"] == once
    assert regenerated["scalars up, model down", "epoch"] == regenerated["gradient up, model down", "epoch"] == once
    assert regenerated["scalars both ways", "epoch"] == 2 * once
    assert regenerated["perturbations down", "epoch"] == 0


def test_one_sum_of_scalars_replays_the_local_steps_of_all_clients(small: nn.Module) -> None:
    """An estimate is linear in its scalars, wherever on the clients' paths they were measured."""
    shares, generator = torch.tensor([0.5, 0.3, 0.2]), torch.Generator().manual_seed(0)
    each = torch.zeros(len(flat_parameters(small)))
    summed = each.clone()
    for number in range(STEPS):
        step = Step("directional", ZerothOrderConfig(num_perturbations=K), 5, 0, number)
        scalars = torch.randn(3, K, generator=generator)
        for client, (row, share) in enumerate(zip(scalars, shares, strict=True)):
            each += step.estimate([Sent(row)], [float(share)], [client], small, None)
        summed += step.estimate([Sent(shares @ scalars)], [1.0], [0], small, None)
    torch.testing.assert_close(each, summed, rtol=1e-4, atol=1e-2)


def test_a_mask_is_a_bit_a_prunable_weight_and_half_precision_halves_the_floats(small: nn.Module) -> None:
    def whole(sparsity: float, **options: Any) -> SeedTrick:
        return compare_exchanges(small, EXAMPLES, Steps(BATCH, K, sparsity, **options))

    prunable = sum(shape.numel() for shape in prunable_shapes(small).values())
    assert whole(0.0).mask_bytes == 0
    assert whole(0.8).mask_bytes == -(-prunable // 8) + HEADER
    full, half = (compared(small, precision=p)["weights both ways", "epoch"] for p in ("float32", "bfloat16"))
    assert full.uplink_bytes - half.uplink_bytes == 2 * whole(0.0).num_parameters

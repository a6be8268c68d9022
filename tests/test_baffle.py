"""BAFFLE's forms: presets, local epochs replayed from their scalars, moving average, first-epoch rate."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from baselines.baffle import Baffle
from bench.api import Client, ClientContext, Update
from bench.cell import Protocol
from bench.federated import Federation
from bench.primitives.flat import flat_parameters
from tests.conftest import TINY, make_cell

Make = Callable[..., Federation]
FEW = {"num_perturbations": 6, "sigma": 1e-3, "restore": "copy"}


def final(federation: Make, train: Protocol = TINY, estimator: str = "directional", **given: Any) -> torch.Tensor:
    return flat_parameters(federation(Baffle, train, given={**FEW, **given}, estimator=estimator).run().model)


def moved(federation: Make, train: Protocol = TINY, estimator: str = "directional", **given: Any) -> torch.Tensor:
    return final(federation, train, estimator, **given) - flat_parameters(federation(Baffle, estimator=estimator).model)


@pytest.mark.parametrize("estimator", ["finite_difference", "directional", "moment", "exact"])
def test_the_server_replays_local_epochs_to_the_mean_of_the_local_models(federation: Make, estimator: str) -> None:
    class Watched(Baffle):
        """BAFFLE that shows where each client's local path ends."""

        def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
            update = super().client_update(model, client, ctx)
            ends.append(flat_parameters(model).clone())
            return update

    ends: list[torch.Tensor] = []
    given = {**FEW, "communication": "epoch", "local_lr": 1e-3}
    made = federation(Watched, replace(TINY, rounds=1), given=given, estimator=estimator)
    start = flat_parameters(made.model).clone()
    end = flat_parameters(made.run().model)
    mean = torch.stack(ends[-5:-1]).mean(0)
    torch.testing.assert_close(end - start, mean - start, rtol=1e-3, atol=1e-3 * float((end - start).abs().max()))


def test_local_epochs_send_k_scalars_a_batch(federation: Make) -> None:
    given = {**FEW, "communication": "epoch"}
    totals = federation(Baffle, replace(TINY, rounds=1), given=given, estimator="directional").run().totals["train"]
    batches = 4 * 3
    assert totals.uplink_bytes == batches * 6 * 4 + 4 * (4 + 9)


def test_equal_weighting_differs_from_example_weighting_only_with_unequal_clients(federation: Make) -> None:
    assert torch.equal(final(federation, weighting="equal"), final(federation, weighting="examples"))
    skewed = {"alpha": 0.5, "given": FEW, "estimator": "directional"}
    train = replace(TINY, min_client_examples=5)
    one = federation(Baffle, train, **skewed).run()
    other = federation(Baffle, train, **{**skewed, "given": {**FEW, "weighting": "equal"}}).run()
    assert not torch.equal(flat_parameters(one.model), flat_parameters(other.model))


def test_the_first_epoch_has_its_own_rate(federation: Make) -> None:
    """An epoch of 40 examples in batches of 16 is three rounds; Adam's first steps have the size of the rate."""
    for rounds, rate in ((1, 1e-4), (3, 1e-4)):
        step = moved(federation, replace(TINY, rounds=rounds), first_epoch_lr=1e-4, lr=1e-1)
        assert step.abs().max() < 4 * rounds * rate
    assert moved(federation, replace(TINY, rounds=4), first_epoch_lr=1e-4, lr=1e-1).abs().max() > 1e-2


def test_the_moving_average_is_evaluated_and_recorded_and_does_not_change_training(federation: Make) -> None:
    train = replace(TINY, rounds=9, eval_every=3)
    plain = federation(Baffle, train, given={**FEW, "lr": 1e-2}, estimator="directional").run()
    averaged = federation(Baffle, train, given={**FEW, "lr": 1e-2, "ema_decay": 0.5}, estimator="directional").run()
    assert torch.equal(flat_parameters(plain.model), flat_parameters(averaged.model))
    assert averaged.evaluates_other_weights and not plain.evaluates_other_weights
    losses = [[point.test.loss for point in result.points] for result in (plain, averaged)]
    assert losses[0][:2] == losses[1][:2]
    assert losses[0][2] != losses[1][2]


def test_the_presets_differ_as_the_released_code_does() -> None:
    published = make_cell(Baffle).params
    assert (published["perturbations"], published["weighting"], published["clip"]) == ("shared", "examples", "none")
    assert (published["lr"], published["beta1"], published["beta2"], published["weight_decay"]) == (
        3e-3,
        0.9,
        0.99,
        5e-4,
    )


def test_the_initial_scale_acts_on_prunable_weights_alone_and_before_training(federation: Make) -> None:
    one, half = (federation(Baffle, given={"init_scale": scale}, estimator="exact") for scale in (1.0, 0.5))
    for made in (one, half):
        made.setup()
    for (name, whole), scaled in zip(one.model.named_parameters(), half.model.parameters(), strict=True):
        assert torch.equal(scaled, whole * (0.5 if name.endswith("weight") else 1.0))

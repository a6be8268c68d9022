"""BAFFLE's forms: presets, local epochs replayed from their scalars, moving average, first-epoch rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fedfore.api import BPFreeMethod, Client, ClientContext, Mask, ServerContext, Update
from fedfore.baselines.baffle import Baffle
from fedfore.cell import Protocol
from fedfore.contract.registry import discover
from fedfore.execution.matrix import resolve
from fedfore.execution.matrix_file import find_matrix, read_matrix
from fedfore.federation.assembly import federation_of
from fedfore.federation.loop import Federation
from fedfore.federation.observers.evaluator import Evaluator
from fedfore.primitives.flat import flat_parameters
from fedfore.tasks.examples import Dataset
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
    perturbations = "independent" if estimator == "moment" else "shared"
    given = {**FEW, "communication": "epoch", "local_lr": 1e-3, "perturbations": perturbations}
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


@pytest.mark.thorough
def test_equal_weighting_differs_from_example_weighting_only_with_unequal_clients(federation: Make) -> None:
    train = replace(TINY, rounds=1, min_client_examples=5)
    assert torch.equal(final(federation, train, weighting="equal"), final(federation, train, weighting="examples"))
    skewed = {"alpha": 0.5, "given": FEW, "estimator": "directional"}
    one = federation(Baffle, train, **skewed).run()
    other = federation(Baffle, train, **{**skewed, "given": {**FEW, "weighting": "equal"}}).run()
    assert not torch.equal(flat_parameters(one.model), flat_parameters(other.model))


@pytest.mark.thorough
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
    assert [made.fields()["evaluates_other_weights"] for made in (plain, averaged)] == [False, True]
    losses = [[point.test.loss for point in result.seen_by(Evaluator).points] for result in (plain, averaged)]
    assert losses[0][0] == losses[1][0]
    assert all(one != other for one, other in zip(losses[0][1:], losses[1][1:], strict=True))


@dataclass
class Path:
    """A run seen from its server: weights before and after every round, averages and sizes of its clients' data."""

    weights: list[np.ndarray] = field(default_factory=list)
    averages: list[np.ndarray] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)

    def shares(self, round: int, epoch: int) -> np.ndarray:
        """Return what the average after `round` has of the initial weights and of each epoch's last ones."""
        ends = np.stack(self.weights[::epoch]).T
        return np.linalg.lstsq(ends, self.averages[round], rcond=None)[0]


def path(federation: Make, train: Protocol, **fields: Any) -> Path:
    """Return the path of BAFFLE with the release's average, at every 50th coordinate."""
    found = Path()

    class Remembers(Baffle):
        """BAFFLE that shows its server's path."""

        def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
            if ctx.round == 0:
                found.weights.append(flat_parameters(model)[::50].double().numpy())
            mask = super().aggregate(model, updates, ctx)
            found.weights.append(flat_parameters(model)[::50].double().numpy())
            found.averages.append(ctx.state_of(BPFreeMethod)["average"][::50].double().numpy())
            found.sizes.append([update.num_examples for update in updates])
            return mask

    given = {"num_perturbations": 2, "lr": 1e-2, "ema_decay": 0.995}
    federation(Remembers, train, given=given, estimator="directional", **fields).run()
    return found


def test_the_moving_average_is_that_of_torch_ema(federation: Make) -> None:
    """The initial weights keep the product of the decays (1 + t) / (10 + t), epoch t adds 1 - (1 + t) / (10 + t)."""
    found = path(federation, Protocol(clients=2, batch_size=80, rounds=20, eval_every=20.0))
    assert found.shares(0, 1)[:3] == pytest.approx([2 / 11, 9 / 11, 0], abs=1e-4)
    assert found.shares(1, 1)[:4] == pytest.approx([2 / 11 * 3 / 12, 9 / 11 * 3 / 12, 9 / 12, 0], abs=1e-4)
    last = found.shares(19, 1)
    assert last[20] == pytest.approx(0.30, abs=1e-3)
    assert last[-5:].sum() == pytest.approx(0.86, abs=5e-3)
    assert last[:2].sum() < 1e-3
    assert last @ range(21) == pytest.approx(17.9, abs=0.05)


def test_epochs_of_the_moving_average_do_not_follow_the_cohorts(federation: Make) -> None:
    """Half of four unequal clients a round: an epoch is the first cohort's, and no cohort after it changes that."""
    train = Protocol(clients=4, participation=0.5, batch_size=16, rounds=18, min_client_examples=5, eval_every=18.0)
    found = path(federation, train, alpha=0.5)
    epochs = [2 * math.ceil(sum(sizes) / 2 / 16) for sizes in found.sizes]
    assert len(set(epochs)) > 1
    changes = [r + 1 for r in range(1, 18) if not np.array_equal(found.averages[r], found.averages[r - 1])]
    assert changes == list(range(epochs[0], 19, epochs[0]))
    ended = 18 // epochs[0]
    assert found.shares(17, epochs[0])[ended] == pytest.approx(9 / (10 + ended), abs=1e-3)


def test_the_released_matrix_runs_with_the_releases_choices(tiny_digits: Dataset) -> None:
    """Cut down to real digits and one round: the setting of CIFAR-10 and that of MNIST."""
    document = read_matrix(find_matrix("baffle-as-released"), ['dataset=["digits"]', "seed=[0]"])
    for block in document["grid"]:
        block.pop("train.augment", None)
        block["params.baffle.num_perturbations"] = [2]
    document["train"] |= {"data_passes": 1, "eval_every": 1, "ntk": False}
    cells = [item.cell for item in resolve(document, discover())]
    assert [(cell.model, cell.train.input_scaling) for cell in cells] == [
        ("baffle_lenet", "standardised"),
        ("baffle_lenet:norm=none", "unit"),
    ]
    for cell in cells:
        made = federation_of(cell, Baffle, tiny_digits, torch.device("cpu"))
        bound = 25**-0.5
        assert 0.9 * bound < made.model.get_parameter("conv1.weight").abs().max() <= bound
        assert 0.5 * bound < made.model.get_parameter("conv1.bias").abs().max() <= bound
        result = made.run()
        assert result.fields()["evaluates_other_weights"] and result.totals["train"].rounds == 1
        assert len(made.world.validation_set) in (13, 16)


def test_the_released_matrix_plans_k_100_and_unscaled_pixels_for_mnist() -> None:
    planned = resolve(read_matrix(find_matrix("baffle-as-released")), discover())
    found = {item.cell.dataset: item.cell for item in planned}
    assert {name: cell.params["num_perturbations"] for name, cell in found.items()} == {"cifar10": 500, "mnist": 100}
    assert {name: cell.params["ema_decay"] for name, cell in found.items()} == {"cifar10": 0.995, "mnist": 0.995}
    assert {cell.train.init for cell in found.values()} == {"pytorch"}
    assert (found["mnist"].model, found["mnist"].train.input_scaling) == ("baffle_lenet:norm=none", "unit")


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

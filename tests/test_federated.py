"""The loop: degenerate equalities, what is counted, and that methods meet the same splits, weights and batches."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedfore.api import (
    BPFreeMethod,
    Cell,
    Client,
    ClientContext,
    Context,
    DynamicPruningMethod,
    Mask,
    Message,
    Method,
    ServerContext,
    Update,
)
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.baffle_erk import BaffleERK
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.feddst import FedDST
from fedfore.baselines.fedmef import FedMef
from fedfore.baselines.fedtiny import FedTiny
from fedfore.cell import Protocol
from fedfore.errors import Diverged
from fedfore.federation.loop import Federation
from fedfore.federation.observers.evaluator import Evaluator, Point, round_line
from fedfore.masks import erk_densities, exact_counts, prunable_shapes
from fedfore.measure.evaluation import recalibrated
from fedfore.primitives.flat import flat_parameters, model_tensors
from fedfore.primitives.prune_grow import Adjustment
from fedfore.tasks.examples import Examples
from tests.conftest import TINY, Received
from tests.plugins.fedprox import FedProx

Make = Callable[..., Federation]
ONE_STEP = {"local_steps": 1}


def points(made: Federation) -> list[Point]:
    return made.seen_by(Evaluator).points


def weights(result: Federation) -> torch.Tensor:
    return flat_parameters(result.model)


def test_one_client_with_the_full_batch_is_centralised_sgd(federation: Make) -> None:
    train = Protocol(clients=1, batch_size=160, rounds=3)
    made = federation(FedAvg, train, given={"lr": 0.1, "momentum": 0.9})
    reference = federation(FedAvg, train).model
    x, y = made.world.train_set.batch(torch.arange(160))
    for _ in range(3):
        gradients = torch.autograd.grad(cross_entropy(reference(x), y), list(reference.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(reference.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
    torch.testing.assert_close(weights(made.run()), flat_parameters(reference), rtol=1e-4, atol=1e-6)


def test_fedsgd_steps_along_the_share_weighted_mean_gradient(federation: Make) -> None:
    train = Protocol(clients=3, batch_size=160, rounds=1, min_client_examples=5)
    made = federation(FedAvg, train, given={"lr": 0.1, **ONE_STEP}, alpha=1.0)
    before = flat_parameters(made.model).clone()
    expected = torch.zeros_like(before)
    for part in made.world.parts:
        x, y = made.world.train_set.batch(torch.from_numpy(part))
        gradients = torch.autograd.grad(cross_entropy(made.model(x), y), list(made.model.parameters()))
        expected += len(part) / 160 * torch.cat([g.reshape(-1) for g in gradients])
    torch.testing.assert_close(weights(made.run()), before - 0.1 * expected, rtol=1e-4, atol=1e-6)


HALF = replace(TINY, clients=1, rounds=1, wire_precision="float16")


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_at_half_precision_both_sides_compute_with_what_arrived(
    federation: Make, precision: Literal["float16", "bfloat16"]
) -> None:
    made = federation(FedAvg, replace(HALF, wire_precision=precision))
    initial = flat_parameters(made.model).clone()
    result = made.run()
    received = made.clients.devices[0].model
    assert received is not None
    dtype = getattr(torch, precision)
    flat = torch.cat([received[name].reshape(-1) for name, _ in made.model.named_parameters()])
    assert torch.equal(flat, initial.to(dtype).float()) and not torch.equal(flat, initial)
    assert torch.equal(weights(result), weights(result).to(dtype).float())
    assert result.totals["train"].uplink_bytes == result.totals["train"].downlink_bytes == 2 * 61_706 + 9


def test_at_half_precision_scalars_arrive_rounded_and_the_server_keeps_its_own_weights(federation: Make) -> None:
    sent = Received()
    few = {"num_perturbations": 7}
    made = federation(Baffle, HALF, given=few, estimator="directional", options={"also": [sent]})
    result = made.run()
    (scalars,) = (update.scalars for update in sent.updates)
    assert scalars is not None and scalars.dtype == torch.float32
    assert torch.equal(scalars, scalars.half().float())
    assert not torch.equal(weights(result), weights(result).half().float())
    assert result.totals["train"].uplink_bytes == 2 * 7 + 4 + 9
    assert result.totals["train"].downlink_bytes == 2 * 61_706 + 9 + 1 + len("seed") + 2 + 8


def test_fedprox_with_mu_zero_is_fedavg(federation: Make) -> None:
    dense = weights(federation(FedAvg).run())
    torch.testing.assert_close(weights(federation(FedProx, given={"mu": 0.0}).run()), dense, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights(federation(FedProx, given={"mu": 10.0}).run()), dense, rtol=1e-3)


@pytest.mark.parametrize("keys", [{"memory": "checkpoint"}, {"memory": "accumulate", "micro_batch": 4}], ids=str)
@pytest.mark.thorough
def test_a_method_that_corrects_gradients_keeps_the_memory_options(federation: Make, keys: dict[str, object]) -> None:
    fields = {"model": "resnet14:norm=group,width=0.25", "train": replace(TINY, rounds=1)}
    plain, saving = (federation(FedProx, given={"mu": 0.1, **given}, **fields) for given in ({}, keys))
    peaks = [made.run().fields()["peak_device_bytes"] for made in (plain, saving)]
    assert peaks[1] < 0.7 * peaks[0]
    torch.testing.assert_close(weights(saving), weights(plain), rtol=1e-3, atol=1e-5)


def test_a_static_mask_of_sparsity_zero_is_fedavg_bit_for_bit(federation: Make) -> None:
    assert torch.equal(weights(federation(FedAvgERK, sparsity=0.0).run()), weights(federation(FedAvg).run()))


def test_a_static_mask_keeps_exactly_the_erk_counts_to_the_end(federation: Make) -> None:
    result = federation(FedAvgERK, sparsity=0.9).run()
    shapes = prunable_shapes(result.model)
    assert result.mask is not None
    assert result.mask.layer_kept == exact_counts(shapes, erk_densities(shapes, 0.1))
    for name, weight in model_tensors(result.model).items():
        if name in result.mask:
            assert torch.equal(weight != 0, result.mask[name])


def test_methods_meet_the_same_split_weights_and_first_batch(federation: Make) -> None:
    made = [federation(method, alpha=0.5, seed=3) for method in (FedAvg, Baffle)]
    for one, other in zip(made[0].world.parts, made[1].world.parts, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.equal(flat_parameters(made[0].model), flat_parameters(made[1].model))
    batches = [next(m.clients.devices[0].clients["train"].batches(steps=1))[0] for m in made]
    assert torch.equal(batches[0], batches[1])


def test_a_repeated_cell_is_bit_identical_and_a_seed_changes_it(federation: Make) -> None:
    first, second, other = (federation(FedAvg, seed=seed).run() for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(second))
    assert [p.test.loss for p in points(first)] == [p.test.loss for p in points(second)]
    assert not torch.equal(weights(first), weights(other))


def test_bytes_are_those_of_encoded_messages_counted_once_a_receiver(federation: Make) -> None:
    train = Protocol(clients=4, participation=0.5, batch_size=16, rounds=3)
    totals = federation(FedAvg, train).run().totals["train"]
    message = 4 * 61_706 + 8 + 1
    assert totals.client_rounds == 6
    assert totals.downlink_bytes == totals.uplink_bytes == 6 * message


def test_the_mask_is_charged_once_a_client(federation: Make) -> None:
    result = federation(FedAvgERK, sparsity=0.8).run()
    assert result.mask is not None
    dense_values = 61_706 - result.mask.size
    message = 4 * (result.mask.kept + dense_values) + 9
    assert result.totals["train"].downlink_bytes == 8 * message + 4 * -(-result.mask.size // 8)


@pytest.mark.thorough
def test_a_zeroth_order_client_sends_k_scalars_and_receives_the_model_and_a_seed(federation: Make) -> None:
    totals = federation(Baffle, given={"num_perturbations": 7}, estimator="directional").run().totals["train"]
    assert totals.uplink_bytes == 8 * (4 * 7 + 4 + 9)
    assert totals.downlink_bytes == 8 * (4 * 61_706 + 9 + 1 + len("seed") + 2 + 8)


@pytest.mark.thorough
def test_a_cohort_some_of_which_hold_the_mask_already_is_one_cohort(federation: Make) -> None:
    """Half of 8 clients a round, K beyond all noise: the moment estimate is the gradient, whoever needs the mask."""

    class ShowsItsGradient(BaffleERK):
        """Its server shows its estimate of every round: Adam's first moment at beta1 = 0."""

        def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
            mask = super().aggregate(model, updates, ctx)
            estimates.append(ctx.state_of(BPFreeMethod)["adam"]["exp_avg"].clone())
            cohorts.append(set(ctx.cohort))
            return mask

    estimates: list[torch.Tensor] = []
    cohorts: list[set[int]] = []
    train = Protocol(clients=8, participation=0.5, batch_size=20, rounds=3, eval_every=3.0)
    given = {"num_perturbations": 500_000, "lr": 1e-9, "beta1": 0.0, "weight_decay": 0.0}
    for estimator in ("exact", "moment"):
        made = federation(ShowsItsGradient, train, given=given, estimator=estimator, sparsity=0.95)
        result = made.run()
    cosines = [float(torch.cosine_similarity(*pair, 0)) for pair in zip(estimates[:3], estimates[3:], strict=True)]
    assert min(cosines) > 0.99
    holders = [set().union(*cohorts[:round]) for round in range(3)]
    assert any(0 < len(cohort & held) < 4 for cohort, held in zip(cohorts[:3], holders, strict=True))
    assert len({id(made.clients.devices[client].model) for client in cohorts[2]}) == 1
    assert result.mask is not None
    message = 4 * (result.mask.kept + 61_706 - result.mask.size) + 9 + 1 + len("seed") + 2 + 8
    news = len(set().union(*cohorts)) * -(-result.mask.size // 8)
    assert result.totals["train"].downlink_bytes == 12 * message + news


class Scribbles(Method):
    """Sends a number that every device reads and then overwrites."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message({"number": torch.tensor([1.0])})

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = Update(client.num_examples, tensors={"read": ctx.received["number"].clone()})
        ctx.received["number"].zero_()
        return update

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        ctx.note("read", [float(update.tensors["read"]) for update in updates])
        return None


def test_a_device_that_overwrites_what_it_received_reaches_no_other(federation: Make) -> None:
    assert federation(Scribbles).run().notes["read"] == [1.0] * 4


@pytest.mark.parametrize("method", [FedAvg, Baffle])
def test_every_method_starts_from_the_protocols_initialiser_and_sees_its_scaling(
    federation: Make, method: type[Method]
) -> None:
    class Watched(method):  # type: ignore[misc, valid-type]
        """Draws weights anew as a saliency would, and shows them with a batch."""

        def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
            x, _ = next(client.batches(steps=1))
            seen.append(x)
            redrawn = copy.deepcopy(model)
            ctx.initialise(redrawn, ctx.rng("method", client))
            drawn.append(redrawn)
            return super().client_update(model, client, ctx)

        client_updates = None

    seen: list[torch.Tensor] = []
    drawn: list[nn.Module] = []
    train = replace(TINY, rounds=1, init="pytorch", input_scaling="unit")
    given = {"num_perturbations": 2} if method is Baffle else {}
    made = federation(Watched, train, given=given, estimator="directional" if method is Baffle else None)
    drawn.append(made.model)
    for model in drawn:
        for name, parameter in model.named_parameters():
            weight = model.get_parameter(f"{name.rpartition('.')[0]}.weight")
            assert 0.6 < parameter.abs().max() * weight[0].numel() ** 0.5 <= 1
    made.run()
    assert len(drawn) > 1
    seen += [made.world.test_set.batch(torch.arange(50))[0], made.world.batch(made.world.probe).x]
    assert all(x.min() >= 0 and 0.9 < x.max() <= 1 for x in seen)


@pytest.mark.parametrize("budget", [{"rounds": 5}, {"data_passes": 2.0}])
def test_the_budget_is_kept_and_evaluated_at_its_end(federation: Make, budget: dict[str, float]) -> None:
    train = Protocol(clients=4, batch_size=16, **budget)  # type: ignore[arg-type]
    result = federation(FedAvg, train, given=ONE_STEP).run()
    last = points(result)[-1]
    assert points(result)[0].round == 0
    assert last.round == result.totals["train"].rounds == (5 if "rounds" in budget else 6)
    if "data_passes" in budget:
        assert last.data_passes >= 2.0 > points(result)[-2].data_passes


@pytest.mark.parametrize(
    ("budget", "epochs", "used"),
    [({"rounds": 2}, 5, 1.0), ({"data_passes": 3.0}, 5, 5 / 3), ({"data_passes": 3.0}, 1, 1.0)],
)
def test_the_share_of_the_budget_that_was_really_used_is_a_field(
    federation: Make, budget: dict[str, Any], epochs: int, used: float
) -> None:
    made = federation(FedAvg, replace(TINY, **{"rounds": None, **budget}), given={"local_epochs": epochs})
    assert made.run().fields()["budget_used"] == pytest.approx(used)


@pytest.mark.parametrize(
    ("every", "rounds"),
    [(1e-17, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3]), (1.5, [0, 2, 3]), (2.0, [0, 2]), (9.0, [0])],
)
def test_an_evaluation_follows_the_round_that_reaches_a_multiple_of_the_interval_and_each_of_the_last_five(
    federation: Make, every: float, rounds: list[int]
) -> None:
    points = (
        federation(FedAvg, replace(TINY, rounds=8, eval_every=every), given=ONE_STEP).run().seen_by(Evaluator).points
    )
    assert [point.round for point in points] == [*rounds, 4, 5, 6, 7, 8]


def test_no_example_is_dropped_in_an_epoch(federation: Make) -> None:
    client = federation(FedAvg, replace(TINY, clients=3, batch_size=16)).clients.devices[0].clients["train"]
    drawn = [x for x, _ in client.batches(epochs=1)]
    assert sum(len(x) for x in drawn) == client.num_examples == client.examples_drawn
    assert len({bytes(image.numpy().tobytes()) for x in drawn for image in x}) > client.num_examples - 3
    steps = [len(x) for x, _ in client.batches(steps=len(drawn))]
    assert steps == [len(x) for x in drawn]


def test_a_non_finite_weight_ends_the_cell_with_its_round(federation: Make) -> None:
    with pytest.raises(Diverged, match=r"after train round 1;"):
        federation(FedAvg, given={"lr": 1e12}).run()


def test_what_stopped_before_training_says_nothing_of_a_step(federation: Make) -> None:
    spent = federation(FedAvg).spent_fields()
    assert set(spent.values()) == {0} and "uplink_bytes" in spent and "device_step_flops" not in spent


def test_the_headline_accuracy_is_of_the_evaluation_weights(federation: Make) -> None:
    class Frozen(Method):
        """Evaluates zeros."""

        def evaluation_weights(self, model: nn.Module, ctx: ServerContext) -> dict[str, torch.Tensor]:
            return {name: torch.zeros_like(value) for name, value in model_tensors(model).items()}

    losses = [point.test.loss for point in federation(Frozen).run().seen_by(Evaluator).points]
    np.testing.assert_allclose(losses, np.log(10), rtol=1e-6)


def test_a_client_keeps_what_it_last_received_when_no_model_is_sent(federation: Make) -> None:
    class Once(Method):
        """Sends the model in the first round only; clients report a fingerprint of what they hold."""

        def broadcast(self, model: nn.Module, ctx: ServerContext):  # type: ignore[no-untyped-def]
            return (
                super().broadcast(model, ctx) if ctx.round == 0 else replace(super().broadcast(model, ctx), model=False)
            )

        def client_update(self, model: nn.Module, client, ctx) -> Update:  # type: ignore[no-untyped-def]
            seen.append(float(flat_parameters(model).double().sum()))
            return super().client_update(model, client, ctx)

    seen: list[float] = []
    totals = federation(Once).run().totals["train"]
    assert len(set(seen)) == 1
    assert totals.downlink_bytes == 4 * (4 * 61_706 + 9) + 4 * 9


class AsksBeforeSending(Method):
    """Two setup rounds in which no model goes down; devices answer with what they hold."""

    def setup_rounds(self, cell: Cell) -> int:
        return 2

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message(model=ctx.phase != "setup")

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        if ctx.phase == "setup":
            held = next(model.parameters()).detach().reshape(-1)[:1]
            return Update(client.num_examples, tensors={"held": held.clone(), "examples": torch.tensor([1])})
        return super().client_update(model, client, ctx)

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        if ctx.phase == "setup":
            ctx.note("clients", list(ctx.cohort))
            ctx.note("held", [float(u.tensors["held"]) for u in updates])
            return None
        return super().aggregate(model, updates, ctx)


def test_in_setup_a_device_that_received_no_model_holds_nan(federation: Make) -> None:
    notes = federation(AsksBeforeSending).run().notes
    assert notes["clients"] == [0, 1, 2, 3]
    assert np.isnan(notes["held"]).all()


def test_pooled_data_make_one_client_of_that_id_and_of_all_examples(federation: Make) -> None:
    world = federation(AsksBeforeSending, alpha=0.5, train=replace(TINY, min_client_examples=5)).world
    made = Federation(world.pooled(world.cell, client=6), AsksBeforeSending)
    assert made.setup() is None
    assert made.notes["clients"] == [6]
    assert made.clients.devices[6].clients["setup"].num_examples == len(made.world.train_set)


def test_a_setup_only_cell_ends_before_training_unevaluated(federation: Make) -> None:
    made = federation(AsksBeforeSending, Protocol(clients=4, batch_size=16, setup_only=True))
    start = weights(made)
    result = made.run()
    assert (points(result), result.totals["setup"].rounds, result.totals["train"].rounds) == (
        [],
        2,
        0,
    )
    assert torch.equal(weights(result), start)
    fields = result.fields()
    assert fields["setup_rounds"] == 2 and fields["budget_used"] is None
    assert "test_accuracy" not in fields


# Recalibrated batch norm


def stripes(count: int) -> Examples:
    """Return images whose pixels are -1 and 3 in turn: mean 1, deviation 2."""
    images = torch.tensor([64, 192], dtype=torch.uint8).repeat(16).expand(count, 1, 32, 32)
    level, step = torch.tensor([96 / 255]), torch.tensor([32 / 255])
    return Examples(images.contiguous(), torch.zeros(count, dtype=torch.int64), level, step)


@pytest.mark.parametrize("count", [3, 500, 700])
def test_recalibrated_statistics_by_hand(count: int) -> None:
    """Over one batch and over two equal ones; the model that was trained is left as it is."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    before = copy.deepcopy(model.state_dict())
    found = recalibrated(model, stripes(count), torch.device("cpu"))
    assert found is not None and not found.training and model.training
    pixels = 1024 * (count if count <= 500 else count // 2)
    statistics = found.state_dict()
    assert float(statistics["0.running_mean"]) == pytest.approx(1.0, abs=1e-5)
    assert float(statistics["0.running_var"]) == pytest.approx(4.0 * pixels / (pixels - 1), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    x, _ = stripes(2).batch(torch.arange(2))
    torch.testing.assert_close(found(x), (x.flatten(1) - 1) / 2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_recalibration_is_a_second_evaluation_and_changes_nothing_else(federation: Make, norm: str) -> None:
    model, has = f"lenet5:norm={norm}", norm == "batch"
    plain, asked = (federation(FedAvg, replace(TINY, recalibrate=on), model=model) for on in (False, True))
    result, twice = plain.run(), asked.run()
    assert torch.equal(weights(result), weights(twice))
    assert [point.test.loss for point in points(result)] == [point.test.loss for point in points(twice)]
    assert all(point.recalibrated is None for point in points(result))
    anew = [point.recalibrated for point in points(twice)]
    assert [evaluation is not None for evaluation in anew] == [has] * len(anew)
    fields = twice.fields()
    lines = [round_line(point)["test_accuracy_recalibrated"] for point in points(twice)]
    assert result.fields()["test_accuracy_recalibrated"] is None
    if has:
        assert fields["test_accuracy_recalibrated"] == pytest.approx(np.mean(lines[1:]))
        assert all(own.loss != point.test.loss for own, point in zip(anew, points(twice), strict=True) if own)
    else:
        assert fields["test_accuracy_recalibrated"] is None and lines == [None] * len(lines)


def test_a_seeds_recalibration_examples_are_the_same_for_every_method(federation: Make) -> None:
    train = replace(TINY, recalibrate=True)
    start = [
        federation(m, train, model="lenet5:norm=batch").run().seen_by(Evaluator).points[0].recalibrated
        for m in (FedAvg, FedProx)
    ]
    assert start[0] is not None and start[1] is not None
    assert start[0].loss == start[1].loss


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("method", [FedTiny, FedMef, FedDST])
@pytest.mark.thorough
def test_at_half_precision_both_sides_of_an_adjustment_know_the_same_one(
    federation: Make, method: type[DynamicPruningMethod], precision: Literal["float16", "bfloat16"]
) -> None:
    known: dict[type[Context], set[Adjustment]] = {ServerContext: set(), ClientContext: set()}

    class Telling(method):  # type: ignore[misc, valid-type]
        def quotas(self, ctx: Context) -> dict[str, int]:
            adjustment = self.adjustment(ctx)
            if adjustment is not None:
                known[type(ctx)].add(adjustment)
            return super().quotas(ctx)

    train = replace(TINY, rounds=5, wire_precision=precision)
    federation(Telling, train, given={"adjust_every": 2, "adjust_until": 7}, sparsity=0.8).run()
    assert known[ServerContext] == known[ClientContext] == {Adjustment(0, 2 / 7), Adjustment(1, 4 / 7)}

"""FedTiny: candidates, adaptive batch-norm selection over the wire, progressive pruning block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Mask, ServerContext, Update
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.fedtiny import BatchNorm, FedTiny, block, spread_densities
from fedfore.cell import Cell, Protocol
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.masks import erk_densities, prunable_shapes, uniform_densities
from fedfore.measure.flops import forward_macs
from fedfore.primitives.flat import flat_parameters, model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.primitives.prune_grow import unpack_mask, weight_gradients
from fedfore.streams import torch_generator
from fedfore.tasks.models import initialise
from tests.conftest import TINY, Received

Make = Callable[..., Federation]
NEVER = {"adjust_every": 1.0}
ALWAYS = {"adjust_every": 1, "adjust_until": 100, "adjust_rate": 0.5, "candidates": 1}


# Blocks and candidates


def test_blocks_go_from_output_to_input_and_over_again() -> None:
    layers = list("abcdefg")
    assert [block(layers, 3, number) for number in range(4)] == [["g", "f"], ["e", "d"], ["c", "b", "a"], ["g", "f"]]


@given(layers=st.integers(1, 30), blocks=st.integers(1, 12), start=st.integers(0, 1000))
def test_every_layer_has_its_turn_once_in_each_cycle(layers: int, blocks: int, start: int) -> None:
    names = [str(i) for i in range(layers)]
    cycle = min(blocks, layers)
    turns = [block(names, blocks, number) for number in range(start, start + cycle)]
    assert sorted(name for turn in turns for name in turn) == sorted(names)
    assert max(map(len, turns)) - min(map(len, turns)) <= 1


@given(
    sizes=st.lists(st.integers(1, 500), min_size=1, max_size=8),
    density=st.floats(0.01, 0.99),
    spread=st.floats(0.0, 0.5),
    seed=st.integers(0, 99),
)
def test_changed_densities_are_densities_of_the_same_total(
    sizes: list[int], density: float, spread: float, seed: int
) -> None:
    shapes = {f"layer{i}": torch.Size([size, 2]) for i, size in enumerate(sizes)}
    for pattern in (uniform_densities(shapes, density), erk_densities(shapes, density)):
        if min(pattern.values()) < 1.0:
            changed = spread_densities(pattern, shapes, spread, torch.Generator().manual_seed(seed))
            assert all(-1e-9 <= value <= 1 + 1e-9 for value in changed.values())
            kept = sum(changed[name] * shape.numel() for name, shape in shapes.items())
            assert kept == pytest.approx(sum(pattern[name] * shape.numel() for name, shape in shapes.items()))


def test_candidates_have_the_asked_density_and_differ_in_where_it_goes(federation: Make) -> None:
    made = federation(FedTiny, sparsity=0.8)
    made.start()
    shapes = prunable_shapes(made.model)
    masks = [unpack_mask(bits, shapes) for bits in made.server.state["candidates"]]
    assert len(masks) == 5
    assert all(mask.kept == round(0.2 * mask.size) for mask in masks)
    densities = [tuple(mask.layer_densities().values()) for mask in masks]
    assert len(set(densities)) == 5
    static = federation(FedAvgERK, sparsity=0.8)
    assert masks[0].same_as(static.setup())


# Degenerate forms


def test_one_candidate_and_no_adjustment_is_fedavg_under_a_static_mask_bit_for_bit(federation: Make) -> None:
    """Nothing of the data that training draws is used up in setup."""
    tiny = federation(FedTiny, sparsity=0.8, given={**NEVER, "candidates": 1}).run()
    static = federation(FedAvgERK, sparsity=0.8).run()
    assert torch.equal(flat_parameters(tiny.model), flat_parameters(static.model))


def test_sparsity_zero_is_fedavg_bit_for_bit(federation: Make) -> None:
    made = federation(FedTiny, sparsity=0.0, given=ALWAYS)
    result = made.run()
    assert torch.equal(flat_parameters(result.model), flat_parameters(federation(FedAvg).run().model))
    assert result.totals["setup"].rounds == 0
    assert not any(made.server.state.values())


# Batch-norm selection


class OneNorm(nn.Sequential):
    """x [B, 2] -> logits [B, 2] through one normalised unit, of which either input may be pruned."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 1, bias=False), nn.BatchNorm1d(1), nn.Linear(1, 2, bias=False))
        with torch.no_grad():
            for name, value in (("0.weight", [[1.0, 1.0]]), ("1.weight", [3.0]), ("1.bias", [0.7])):
                self.get_parameter(name).copy_(torch.tensor(value))
            self.get_parameter("2.weight").copy_(torch.tensor([[-1.0], [1.0]]))


FIRST, SECOND = torch.tensor([True, False, True, True]), torch.tensor([False, True, True, True])


def client(x: Tensor, y: Tensor, batch_size: int, number: int = 0) -> Client:
    return Client(number, len(x), {}, lambda chosen, _: (x[chosen], y[chosen]), batch_size, lambda epoch: epoch)


def contexts(round: int, **more: Any) -> dict[str, Any]:
    cell = Cell("fedtiny", "digits", "lenet5", TINY, sparsity=0.5, params=asdict(FedTiny.Config()))
    return {
        "cell": cell,
        "phase": "setup",
        "round": round,
        "mask": None,
        "progress": 0.0,
        "device": torch.device("cpu"),
        "input_shape": (1, 32, 32),
        "initialise": initialise,
        **more,
    }


def select(clients: Sequence[Client]) -> tuple[Mask, nn.Module, dict[str, Any], list[list[Update]]]:
    """Run both setup rounds by hand: the chosen mask, the server's model and notes, and all updates."""
    method = FedTiny(FedTiny.Config())
    server, state, rounds = OneNorm(), {"candidates": torch.stack([FIRST, SECOND])}, []
    notes: dict[str, Any] = {}
    mask = None
    for round in (0, 1):
        ctx = ServerContext(**contexts(round), state=state, cohort=tuple(range(len(clients))), notes=notes)
        received = {name: tensor.clone() for name, tensor in method.broadcast(server, ctx).tensors.items()}
        device = ClientContext(**contexts(round), received=received)
        rounds.append([method.client_update(OneNorm(), one, device) for one in clients])
        mask = method.aggregate(server, rounds[-1], ctx)
    assert mask is not None
    return mask, server, notes, rounds


def shifted(shift: float, number: int) -> Client:
    """A client whose second input tells the classes apart by 2, moved by `shift`; the first does so by 1, noisily."""
    y = torch.arange(40) % 2
    sign = 2.0 * y - 1.0
    noise = torch.linspace(-0.6, 0.6, 40).roll(7 * number)
    return client(torch.stack([sign / 2 + noise, sign + shift], 1), y, 16, number)


def test_skewed_clients_choose_another_candidate_together_than_each_would_alone() -> None:
    """Pooled statistics see the shift between the clients that each client's own statistics take away."""
    alone = [select([shifted(shift, 0)])[2]["selection"]["chosen"] for shift in (5.0, -5.0)]
    assert alone == [1, 1]
    assert select([shifted(0.0, 0), shifted(0.0, 1)])[2]["selection"]["chosen"] == 1
    mask, _, notes, _ = select([shifted(5.0, 0), shifted(-5.0, 1)])
    note = notes["selection"]
    assert (note["chosen"], note["beats_first"]) == (0, False)
    assert "variant" not in notes
    assert note["losses"][0] < note["losses"][1]
    assert mask["0.weight"].tolist() == [[True, False]]


def test_a_client_sends_running_statistics_of_every_example_and_no_affine_parameters() -> None:
    """Five examples in batches of four and one are too few for a norm, so of three and two; none is dropped.

    The mean is that of all five; the variance the mean of the batches' unbiased ones, weighted 3 to 2, in an
    epoch of each candidate's own. The norm's gamma is 3, its beta 0.7.
    """
    x = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0], [4.0, 40.0], [7.0, 70.0]])
    one = client(x, torch.tensor([0, 1, 0, 1, 0]), 3)
    orders = [torch.randperm(5, generator=torch_generator(epoch)) for epoch in (0, 1)]
    first, second = (0.6 * x[order[:3], 0].var() + 0.4 * x[order[3:], 0].var() for order in orders)
    sent = select([one])[3][0][0].tensors
    assert set(sent) == {"mean", "variance"}
    torch.testing.assert_close(sent["mean"], torch.tensor([[4.0], [40.0]]))
    torch.testing.assert_close(sent["variance"], torch.stack([first, 100 * second])[:, None])


def test_the_server_pools_means_and_total_variances_by_examples_into_the_chosen_model() -> None:
    """Total variance = sum p (var + mean^2) - mean^2."""
    generator = torch.Generator().manual_seed(5)
    clients = [client(torch.randn(n, 2, generator=generator) + 3 * n, torch.arange(n) % 2, n) for n in (4, 12)]
    mask, server, _, (statistics, losses) = select(clients)
    chosen = 0 if mask["0.weight"][0, 0] else 1
    means = torch.stack([update.tensors["mean"][chosen] for update in statistics])
    variances = torch.stack([update.tensors["variance"][chosen] for update in statistics])
    p = torch.tensor([[0.25], [0.75]])
    mean = (p * means).sum(0)
    torch.testing.assert_close(server.get_buffer("1.running_mean"), mean)
    total = (p * (variances + means.square())).sum(0) - mean.square()
    torch.testing.assert_close(server.get_buffer("1.running_var"), total, rtol=1e-5, atol=0)
    assert all(update.scalars is not None and update.scalars.shape == (2,) for update in losses)


def test_losses_are_weighted_by_examples_and_taken_in_evaluation_mode_under_pooled_statistics() -> None:
    clients = [shifted(2.0, 0), client(*shifted(-1.0, 1)._batch(torch.arange(10), torch.Generator()), 4, 1)]
    _, server, notes, (_, losses) = select(clients)
    sent = [update.scalars for update in losses if update.scalars is not None]
    by_hand = 0.8 * sent[0] + 0.2 * sent[1]
    assert notes["selection"]["losses"] == pytest.approx(by_hand.tolist())
    chosen = notes["selection"]["chosen"]
    unpack_mask([FIRST, SECOND][chosen], prunable_shapes(server)).apply_(model_tensors(server))
    x, y = shifted(2.0, 0)._batch(torch.arange(40), torch.Generator())
    loss = nn.functional.cross_entropy(server.eval()(x), y)
    torch.testing.assert_close(sent[0][chosen], loss.detach())


class Listed(FedTiny):
    """FedTiny that shows whom the server hears in every setup round."""

    heard: ClassVar[list[tuple[int, ...]]] = []

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        if ctx.phase == "setup":
            self.heard.append(ctx.cohort)
        return super().aggregate(model, updates, ctx)


def test_the_clients_that_measure_statistics_are_those_that_measure_losses(federation: Make) -> None:
    Listed.heard.clear()
    train = Protocol(clients=20, participation=0.5, batch_size=16, min_client_examples=5, rounds=1)
    made = federation(Listed, train, model="resnet14:width=0.25", sparsity=0.8, given={**NEVER, "candidates": 2})
    made.setup()
    assert len(Listed.heard) == 2 and Listed.heard[0] == Listed.heard[1] and len(Listed.heard[0]) == 10
    dense = 4 * sum(shape.numel() for shape in made.server.layout.shapes.values())
    assert 10 * dense < made.totals["setup"].downlink_bytes < 15 * dense, "the dense model goes down once"


def test_measuring_statistics_leaves_the_momentum_of_training() -> None:
    model = OneNorm()
    ctx = ClientContext(**contexts(0), received={"candidates": torch.stack([FIRST, SECOND])})
    FedTiny(FedTiny.Config()).client_update(model, shifted(0.0, 0), ctx)
    assert model.get_submodule("1").momentum == 0.1


def test_a_loss_that_is_not_finite_is_never_chosen() -> None:
    method, server, state = FedTiny(FedTiny.Config()), OneNorm(), {"candidates": torch.stack([FIRST, SECOND])}
    state |= {"mean": torch.zeros(2, 1), "variance": torch.ones(2, 1)}
    updates = [Update(4, scalars=torch.tensor([float("nan"), 3.0])), Update(4, scalars=torch.tensor([0.1, 3.0]))]
    mask = method.aggregate(server, updates, ServerContext(**contexts(1), state=state, cohort=(0, 1)))
    assert mask is not None
    assert mask["0.weight"].tolist() == [[False, True]]


def test_without_batch_norm_the_first_setup_round_is_empty_and_the_loss_chooses(federation: Make) -> None:
    made = federation(FedTiny, sparsity=0.8)
    result = made.run()
    assert result.notes["variant"] == "loss selection"
    chosen = result.notes["selection"]["chosen"]
    assert chosen == min(range(5), key=result.notes["selection"]["losses"].__getitem__)
    whole = 4 * sum(shape.numel() for shape in made.server.layout.shapes.values())
    masks = 5 * sum(shape.numel() for shape in made.server.layout.prunable.values()) // 8
    totals = result.totals["setup"]
    assert 4 * (whole + masks) < totals.downlink_bytes < 4 * (whole + masks + 60)
    assert 4 * 5 * 4 < totals.uplink_bytes < 4 * (5 * 4 + 40)
    assert "candidates" not in made.server.state


# Progressive pruning


class Watched(FedTiny):
    """FedTiny that shows the server's model and masks around every aggregation."""

    seen: ClassVar[list[tuple[int | None, Mask, Mask, dict[str, Tensor], list[Update]]]] = []

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        new = super().aggregate(model, updates, ctx)
        if ctx.phase == "train" and ctx.mask is not None:
            adjustment = self.adjustment(ctx)
            weights = {name: tensor.clone() for name, tensor in model_tensors(model).items()}
            number = None if adjustment is None else adjustment.number
            self.seen.append((number, ctx.mask, new or ctx.mask, weights, list(updates)))
        return new


@pytest.fixture
def watched(federation: Make) -> Callable[..., Federation]:
    Watched.seen.clear()
    return lambda *args, **fields: federation(Watched, *args, **fields)


def test_one_block_moves_in_an_adjustment_by_its_quota_and_every_layer_keeps_its_density(watched: Make) -> None:
    made = watched(replace(TINY, rounds=7), sparsity=0.95, given={**ALWAYS, "adjust_until": 6, "adjust_rate": 0.15})
    made.run()
    numbers = [number for number, *_ in Watched.seen]
    assert numbers == [None, 0, 1, 2, 3, 4, None]
    names = list(Watched.seen[0][1])
    for round, (number, old, new, weights, updates) in enumerate(Watched.seen):
        assert new.layer_kept == old.layer_kept
        moved = {name: int((new[name] & ~old[name]).sum()) for name in names if not torch.equal(new[name], old[name])}
        if number is None:
            assert not moved
            assert all(not update.tensors for update in updates)
            continue
        share = 0.15 * (1 + torch.tensor(torch.pi * round / 6).cos())
        assert moved == {names[4 - number]: int(share * old.layer_kept[names[4 - number]])}
        for name in moved:
            pruned, stay = old[name] & ~new[name], old[name] & new[name]
            assert weights[name][pruned].abs().max() <= weights[name][stay].abs().min()
            assert not weights[name][new[name] & ~old[name]].any()
            assert all(len(update.tensors["gradient_values"]) == moved[name] for update in updates)


def test_grown_weights_are_those_of_largest_summed_gradient_at_their_place_in_the_weight(watched: Make) -> None:
    watched(replace(TINY, rounds=2), sparsity=0.95, given=ALWAYS, alpha=1.0).run()
    number, old, new, _, updates = Watched.seen[1]
    assert number == 0
    total = torch.zeros(old["fc3.weight"].numel(), dtype=torch.float64)
    for update in updates:
        values, indices = update.tensors["gradient_values"].double(), update.tensors["gradient_indices"].long()
        assert not old["fc3.weight"].reshape(-1)[indices].any(), "only pruned weights are sent"
        total[indices] += update.num_examples * values
    grown = (new["fc3.weight"] & ~old["fc3.weight"]).reshape(-1)
    assert total[grown].abs().min() >= total[~grown].abs().max()


def test_gradients_are_those_of_a_fresh_batch_at_the_trained_weights() -> None:
    """The batch holds all of the client's data, and the quota all pruned weights of the last layer."""
    model, one = OneNorm(), shifted(1.0, 0)
    whole = client(*one._batch(torch.arange(40), torch.Generator()), 40)
    mask = unpack_mask(torch.tensor([True, False, True, False]), prunable_shapes(model))
    mask.apply_(model_tensors(model))
    announcement = {"adjustment": torch.zeros(2, dtype=torch.float64)}
    ctx = ClientContext(**contexts(1, phase="train", mask=mask), received=announcement)
    sent = FedTiny(FedTiny.Config(adjust_rate=0.5, lr=1.0)).client_update(model, whole, ctx).tensors
    gradient = weight_gradients(model, whole.batches(epochs=1), ["2.weight"], LocalSGDConfig())["2.weight"]
    assert sent["gradient_indices"].tolist() == [1]
    torch.testing.assert_close(sent["gradient_values"], gradient[1])


def test_grown_weights_train_and_pruned_ones_stay_zero(watched: Make) -> None:
    watched(replace(TINY, rounds=3), sparsity=0.95, given=ALWAYS).run()
    _, old, new, _, _ = Watched.seen[1]
    grown, pruned = new["fc3.weight"] & ~old["fc3.weight"], old["fc3.weight"] & ~new["fc3.weight"]
    later = Watched.seen[2][3]["fc3.weight"]
    assert later[grown].count_nonzero() > 0.9 * grown.sum()
    assert not later[pruned].any()


def test_under_data_passes_and_partial_participation_the_server_says_when(watched: Make) -> None:
    train = Protocol(clients=4, batch_size=16, data_passes=4.0, participation=0.5, min_client_examples=5)
    given = {"adjust_every": 0.25, "adjust_until": 1.0, "adjust_rate": 0.3, "candidates": 1}
    watched(train, sparsity=0.95, given=given, alpha=0.5).run()
    assert [number for number, *_ in Watched.seen if number is not None] == [0, 1, 2]
    assert all(new.layer_kept == old.layer_kept for _, old, new, *_ in Watched.seen)


def test_an_adjustment_costs_one_forward_pass_and_the_dense_gradient_of_its_block(federation: Make) -> None:
    """Block fc3 of LeNet-5, 84 x 10: its gradient needs no pass further down; the indices cost 8 bytes a weight."""
    made = federation(FedTiny, replace(TINY, rounds=2), sparsity=0.95, given=ALWAYS)
    result = made.run()
    training, adjusting = made.seen_by(CostMeter).costs("train")
    macs = forward_macs(made.model, made.world.spec.input_shape).masked(result.mask) + 840
    extra = adjusting.flops(1, 2) - training.flops(1, 1)
    assert extra == pytest.approx(2 * 16 * macs, rel=1e-6)


@pytest.mark.thorough
def test_resnet20_with_batch_norm_runs_with_the_chosen_statistics(federation: Make) -> None:
    received = Received()
    made = federation(
        FedTiny,
        replace(TINY, clients=2, batch_size=40),
        model="resnet20:width=0.25",
        sparsity=0.8,
        given={**ALWAYS, "candidates": 3},
        options={"also": [received]},
    )
    first = made.setup()
    note = made.notes["selection"]
    means = [update.tensors["mean"][note["chosen"]] for update in received.updates[:2]]
    norms = [module for module in made.model.modules() if isinstance(module, BatchNorm)]
    running = torch.cat([norm.get_buffer("running_mean") for norm in norms])
    torch.testing.assert_close(running, (means[0] + means[1]) / 2)
    dense = 4 * sum(shape.numel() for shape in made.server.layout.shapes.values())
    assert 2 * dense < made.totals["setup"].downlink_bytes < 4 * dense, "the dense model goes down once"
    for round in range(3):
        made.round("train", round)
    assert first is not None
    assert made.mask is not None
    assert made.mask.layer_kept == first.layer_kept
    assert not made.mask.same_as(first)

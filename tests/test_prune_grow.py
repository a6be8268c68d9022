"""Dynamic pruning: the schedule, the quotas, and an exchange of weights that keeps every layer's density."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.contract.config import validated
from fedfore.errors import ConfigError
from fedfore.masks import Mask, prunable_shapes, random_mask, uniform_densities
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.primitives.prune_grow import (
    Adjustment,
    AdjustmentConfig,
    announce,
    announced,
    exchange,
    first_crowded,
    highest_pruned,
    lowest_active,
    pack_gradients,
    pack_mask,
    prune_and_grow,
    sum_gradients,
    unpack_mask,
    weight_gradients,
)


def adjusting_rounds(config: AdjustmentConfig, progress: list[float]) -> dict[int, Adjustment]:
    """Return the adjustments of a run whose rounds start at these fractions of the budget."""
    state: dict[str, Any] = {}
    found = {}
    for round, spent in enumerate(progress):
        sent = announce(config, round, spent, state)
        assert announced(sent) == announced(state), "both sides see the same adjustment"
        adjustment = announced(sent)
        if adjustment is not None:
            found[round] = adjustment
    return found


# When


def test_an_interval_in_rounds_adjusts_after_every_interval_and_not_in_the_first_round() -> None:
    found = adjusting_rounds(AdjustmentConfig(adjust_every=3, adjust_until=10), [r / 20 for r in range(20)])
    assert found == {3: Adjustment(0, 0.3), 6: Adjustment(1, 0.6), 9: Adjustment(2, 0.9)}


def test_fractions_of_a_budget_of_rounds_are_the_rounds_they_stand_for() -> None:
    """The common protocol, 10 and 300 of 500 rounds, is the default."""
    progress = [r / 500 for r in range(500)]
    in_rounds = adjusting_rounds(AdjustmentConfig(adjust_every=10, adjust_until=300), progress)
    by_default = adjusting_rounds(AdjustmentConfig(), progress)
    assert list(by_default) == list(in_rounds) == list(range(10, 300, 10))
    assert all(by_default[r].elapsed == pytest.approx(in_rounds[r].elapsed) for r in in_rounds)


@given(
    steps=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=60),
    every=st.floats(0.01, 0.5),
    until=st.floats(0.05, 1.0),
)
def test_under_data_passes_each_multiple_is_met_by_the_first_round_that_starts_at_or_after_it(
    steps: list[float], every: float, until: float
) -> None:
    """But one that comes straight after an adjustment, which trains first."""
    progress = [0.0, *torch.tensor(steps, dtype=torch.float64).cumsum(0).tolist()]
    first_after = {
        next((r for r, spent in enumerate(progress) if spent / every >= k - 1e-9), None)
        for k in range(1, int(progress[-1] / every) + 2)
    }
    expected = {r for r in first_after if r is not None and progress[r] / until < 1 - 1e-9}
    config = AdjustmentConfig(adjust_every=every, adjust_until=until)
    found = set(adjusting_rounds(config, progress))
    crowded = first_crowded(config, progress)
    assert crowded == min((r for r in expected if r - 1 in expected), default=None)
    assert found == expected or crowded is not None
    assert not any(r - 1 in found for r in found)
    assert found <= expected | {r + 1 for r in expected}
    assert {r for r in found if crowded is None or r < crowded} == {
        r for r in expected if crowded is None or r < crowded
    }


def test_an_interval_of_the_whole_budget_never_adjusts() -> None:
    assert adjusting_rounds(AdjustmentConfig(adjust_every=1.0, adjust_until=1.0), [r / 9 for r in range(9)]) == {}


@pytest.mark.parametrize(
    "given", [{"adjust_every": 0}, {"adjust_every": 0.0}, {"adjust_until": 1.5}, {"adjust_rate": 0.6}]
)
def test_a_schedule_out_of_range_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        validated(AdjustmentConfig, given, "params.some")


# How many


def layer(kept: int, size: int) -> Mask:
    return Mask({"a": torch.arange(size) < kept})


@pytest.mark.parametrize(
    ("elapsed", "kept", "size", "quota"),
    [(0.0, 100, 1000, 30), (0.5, 100, 1000, 15), (2 / 3, 100, 1000, 7), (1 / 3, 120, 1000, 27), (0.0, 100, 112, 12)],
)
def test_a_quota_is_the_cosine_share_of_the_active_weights_rounded_down(
    elapsed: float, kept: int, size: int, quota: int
) -> None:
    """0.15 (1 + cos(pi x)) is 0.3 at x = 0, 0.225 at 1/3, 0.15 at 1/2, 0.075 at 2/3; no more than are pruned."""
    assert Adjustment(0, elapsed).quotas(0.15, layer(kept, size), ["a"]) == {"a": quota}


def test_a_layer_that_exchanges_nothing_has_no_quota() -> None:
    assert Adjustment(0, 0.0).quotas(0.15, layer(3, 1000), ["a"]) == {}
    assert Adjustment(0, 0.0).quotas(0.15, layer(9, 9), ["a"]) == {}


# Which


def test_the_smallest_active_weights_are_named_by_their_place_in_the_dense_weight() -> None:
    """Pruned zeros are smaller than any active weight, and the active weights' own ranks are 0 and 2."""
    weight = torch.tensor([[0.0, 0.0, 0.1], [-0.9, 0.0, -0.2]])
    kept = torch.tensor([[False, False, True], [True, False, True]])
    assert lowest_active(weight, kept, 2).tolist() == [2, 5]


def test_the_largest_gradients_are_named_by_their_place_in_the_dense_weight() -> None:
    gradient = torch.tensor([[9.0, -0.5, 9.0], [0.1, 0.4, -8.0]])
    kept = torch.tensor([[True, False, True], [False, False, True]])
    assert highest_pruned(gradient, kept, 2).tolist() == [1, 4]


def test_ties_go_to_the_lower_index() -> None:
    kept = torch.tensor([True, True, True, True, False, False, False])
    assert lowest_active(torch.tensor([2.0, 1.0, -1.0, 1.0, 0.0, 0.0, 0.0]), kept, 2).tolist() == [1, 2]
    assert highest_pruned(torch.zeros(7), kept, 2).tolist() == [4, 5]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_changes_no_count_and_stays_among_the_candidates(bad: float) -> None:
    kept = torch.tensor([True, True, True, False, False])
    assert set(lowest_active(torch.tensor([bad, bad, bad, 0.0, 0.0]), kept, 2).tolist()) < {0, 1, 2}
    assert highest_pruned(torch.tensor([bad, 1.0, 1.0, bad, bad]), kept, 2).tolist() == [3, 4]


def test_a_selection_changes_no_input() -> None:
    weight, kept = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([True, True, False])
    lowest_active(weight, kept, 1)
    highest_pruned(weight, kept, 1)
    assert weight.tolist() == [1.0, -2.0, 3.0]
    assert kept.tolist() == [True, True, False]


LAYERS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30), st.floats(0.05, 1.0)), min_size=1, max_size=4)


@given(sizes=LAYERS, elapsed=st.floats(0.0, 0.99), rate=st.floats(0.0, 0.5), coarse=st.booleans(), seed=st.integers(0))
def test_an_exchange_keeps_every_density_and_moves_old_active_weights_for_old_pruned_ones(
    sizes: list[tuple[int, int, float]], elapsed: float, rate: float, coarse: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed % 2**63)
    shapes = {f"layer{i}": torch.Size(shape) for i, (*shape, _) in enumerate(sizes)}
    mask = random_mask(shapes, {f"layer{i}": density for i, (*_, density) in enumerate(sizes)}, generator)
    weights, gradients = ({n: torch.randn(s, generator=generator) for n, s in shapes.items()} for _ in range(2))
    if coarse:
        weights, gradients = ({n: t.round() for n, t in tensors.items()} for tensors in (weights, gradients))
    mask.apply_(weights)
    quotas = Adjustment(0, elapsed).quotas(rate, mask, mask)
    new = prune_and_grow(mask, weights, gradients, quotas)
    assert new.layer_kept == mask.layer_kept
    for name in mask:
        old, now = mask[name].reshape(-1), new[name].reshape(-1)
        pruned, grown = (old & ~now).nonzero().squeeze(1), (~old & now).nonzero().squeeze(1)
        count = quotas.get(name, 0)
        assert len(pruned) == len(grown) == count
        values = weights[name].reshape(-1).abs()
        order = sorted(old.nonzero().squeeze(1).tolist(), key=lambda i: (float(values[i]), i))
        assert pruned.tolist() == sorted(order[:count])
        values = gradients[name].reshape(-1).abs()
        order = sorted((~old).nonzero().squeeze(1).tolist(), key=lambda i: (-float(values[i]), i))
        assert grown.tolist() == sorted(order[:count])
        assert not weights[name].reshape(-1)[grown].any(), "a grown weight starts at zero"


def test_a_just_pruned_weight_does_not_come_straight_back() -> None:
    """Index 0 has the smallest weight and the largest gradient of all."""
    mask = Mask({"a": torch.tensor([True, True, True, False, False])})
    weights, gradients = torch.tensor([0.1, 1.0, 1.0, 0.0, 0.0]), torch.tensor([9.0, 0.0, 0.0, 0.0, 0.1])
    assert prune_and_grow(mask, {"a": weights}, {"a": gradients}, {"a": 1})["a"].tolist() == [0, 1, 1, 0, 1]


def test_an_exchange_leaves_the_old_mask_and_other_layers_as_they_are() -> None:
    mask = Mask({"a": torch.tensor([[True, False]]), "b": torch.tensor([True, False])})
    new = exchange(mask, {"a": torch.tensor([0])}, {"a": torch.tensor([1])})
    assert new["a"].tolist() == [[False, True]]
    assert new["b"].tolist() == mask["b"].tolist()
    assert mask["a"].tolist() == [[True, False]]


# Gradients and their way to the server


def small_net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 4))


def some_data(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(count, 1, 4, 4, generator=generator), torch.arange(count) % 4


@pytest.mark.parametrize(
    ("keys", "passes"),
    [({}, [3, 3, 1]), ({"memory": "accumulate", "micro_batch": 2}, [2, 1, 2, 1, 1]), ({"memory": "checkpoint"}, None)],
)
def test_weight_gradients_are_those_of_the_mean_over_all_examples_the_smaller_last_batch_included(
    keys: dict[str, Any], passes: list[int] | None
) -> None:
    model, (x, y) = small_net(), some_data(7)
    names = ["3.weight", "0.weight"]
    parameters = dict(model.named_parameters())
    wanted = torch.autograd.grad(cross_entropy(model(x), y), [parameters[name] for name in names])
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    config = LocalSGDConfig(**keys)
    found = weight_gradients(model, [(x[:3], y[:3]), (x[3:6], y[3:6]), (x[6:], y[6:])], names, config)
    assert passes is None or sizes == passes
    assert list(found) == names
    for name, gradient in zip(names, wanted, strict=True):
        torch.testing.assert_close(found[name], gradient)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_pruned_weight_has_a_gradient_too() -> None:
    model, (x, y) = small_net(), some_data(7)
    mask = random_mask(prunable_shapes(model), uniform_densities(prunable_shapes(model), 0.5), torch.Generator())
    mask.apply_(dict(model.named_parameters()))
    gradient = weight_gradients(model, [(x, y)], ["3.weight"], LocalSGDConfig())["3.weight"]
    assert gradient[~mask["3.weight"]].count_nonzero() == (~mask["3.weight"]).sum()


def test_a_name_that_is_no_parameter_is_an_error_and_no_silent_standstill() -> None:
    with pytest.raises(KeyError, match=r"model\.3\.weight"):
        weight_gradients(small_net(), [some_data(2)], ["model.3.weight"], LocalSGDConfig())


def test_packed_gradients_are_the_largest_over_pruned_weights_layer_after_layer() -> None:
    mask = Mask({"a": torch.tensor([[True, False], [False, False]]), "b": torch.tensor([False, True, False])})
    gradients = {"a": torch.tensor([[9.0, 1.0], [-3.0, 2.0]]), "b": torch.tensor([0.5, 9.0, -0.6])}
    sent = pack_gradients(gradients, mask, {"b": 1, "a": 2})
    assert {name: tensor.tolist() for name, tensor in sent.items()} == {
        "gradient_values": pytest.approx([-0.6, -3.0, 2.0]),
        "gradient_indices": [2, 2, 3],
    }
    assert sent["gradient_indices"].dtype == torch.int32
    assert gradients == {}


def test_the_server_sums_what_the_devices_send_by_their_shares() -> None:
    mask = Mask({"a": torch.tensor([[True, False], [False, False]]), "b": torch.tensor([False, True, False])})
    one = {"gradient_values": torch.tensor([1.0, 2.0]), "gradient_indices": torch.tensor([3, 0], dtype=torch.int32)}
    two = {"gradient_values": torch.tensor([4.0, 8.0]), "gradient_indices": torch.tensor([1, 0], dtype=torch.int32)}
    sums = sum_gradients([one, two], [0.25, 0.75], mask, {"a": 1, "b": 1})
    assert sums["a"].tolist() == [[0.0, 3.0], [0.0, 0.25]]
    assert sums["b"].tolist() == [6.5, 0.0, 0.0]


def test_with_a_quota_for_every_pruned_weight_the_sum_is_the_dense_one() -> None:
    model = small_net()
    mask = random_mask(prunable_shapes(model), uniform_densities(prunable_shapes(model), 0.4), torch.Generator())
    quotas = {name: mask[name].numel() - mask.layer_kept[name] for name in mask}
    devices = [weight_gradients(model, [some_data(n)], list(mask), LocalSGDConfig()) for n in (3, 5)]
    dense = {name: 0.25 * devices[0][name] + 0.75 * devices[1][name] for name in mask}
    sums = sum_gradients([pack_gradients(d, mask, quotas) for d in devices], [0.25, 0.75], mask, quotas)
    for name in mask:
        torch.testing.assert_close(sums[name], dense[name] * ~mask[name])


def test_a_mask_survives_being_flattened() -> None:
    shapes = {"a": torch.Size([3, 2, 2]), "b": torch.Size([5])}
    mask = random_mask(shapes, uniform_densities(shapes, 0.5), torch.Generator())
    assert unpack_mask(pack_mask(mask), shapes).same_as(mask)
    assert pack_mask(mask).shape == (17,)

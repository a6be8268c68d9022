"""Masks: exact counts, the ERK rule against hand-derived densities, and what a mask refuses."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfore.errors import ConfigError, ContractError, FedForeError
from fedfore.masks import (
    Mask,
    Shapes,
    erk_densities,
    exact_counts,
    prunable_shapes,
    prunable_weights,
    random_mask,
    uniform_densities,
)

SHAPES = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 8), st.integers(1, 8), st.sampled_from((1, 3, 5)), st.sampled_from((1, 3, 5))),
        st.tuples(st.integers(1, 60), st.integers(1, 60)),
    ).map(torch.Size),
    min_size=1,
    max_size=6,
).map(lambda shapes: {f"layer{i}": shape for i, shape in enumerate(shapes)})
DENSITIES = st.floats(0.001, 1.0)


def sizes(shapes: Shapes) -> dict[str, int]:
    return {name: shape.numel() for name, shape in shapes.items()}


def ends_within(seconds: float, call: Callable[[], object]) -> bool:
    """Return whether `call` ends in time, normally or not; stop it if not."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        call()
    except TimeoutError:
        return False
    except (FedForeError, ValueError):
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return True


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4))


def small_mask() -> Mask:
    return Mask({"a": torch.tensor([[True, False], [False, True]]), "b": torch.tensor([True, True, True, False])})


# Counts


@given(shapes=SHAPES, data=st.data())
def test_counts_sum_to_the_rounded_total_and_no_layer_is_empty_or_overfull(shapes: Shapes, data: st.DataObject) -> None:
    densities = {name: data.draw(DENSITIES) for name in shapes}
    counts = exact_counts(shapes, densities)
    total = round(sum(densities[name] * size for name, size in sizes(shapes).items()))
    assert sum(counts.values()) == max(total, len(shapes))
    assert all(1 <= counts[name] <= size for name, size in sizes(shapes).items())


@given(shapes=SHAPES, density=DENSITIES)
def test_counts_are_at_most_one_away_from_what_was_asked_where_no_layer_is_starved(
    shapes: Shapes, density: float
) -> None:
    densities = uniform_densities(shapes, density)
    wanted = {name: density * size for name, size in sizes(shapes).items()}
    if min(wanted.values()) >= 1:
        assert all(abs(count - wanted[name]) < 1 for name, count in exact_counts(shapes, densities).items())


def test_the_missing_weights_go_to_the_largest_remainders() -> None:
    shapes = {"a": torch.Size([10]), "b": torch.Size([10]), "c": torch.Size([10])}
    assert exact_counts(shapes, {"a": 0.12, "b": 0.17, "c": 0.31}) == {"a": 1, "b": 2, "c": 3}


def test_a_layer_that_must_keep_one_weight_takes_it_from_the_others() -> None:
    shapes = {"tiny": torch.Size([2]), "wide": torch.Size([100])}
    assert exact_counts(shapes, {"tiny": 0.01, "wide": 0.0998}) == {"tiny": 1, "wide": 9}


def test_more_weights_than_there_are_is_an_error_and_not_an_endless_loop() -> None:
    def too_many() -> object:
        return exact_counts({"a": torch.Size([2])}, {"a": 2.0})

    assert ends_within(1.0, too_many), "exact_counts never ends where a density exceeds 1"
    with pytest.raises((FedForeError, ValueError)):
        too_many()


# ERK


def test_erk_densities_of_a_two_layer_net_are_those_derived_by_hand() -> None:
    """Conv (2, 1, 3, 3): 9/18 = 1/2, 18 weights; linear (10, 10): 20/100 = 1/5, 100 weights.

    At density 1/2: scale = 59 / (1/2 x 18 + 1/5 x 100) = 59/29, so the convolution would get 59/58 > 1: it is dense,
    and the linear layer gets the other 41 of 100. At density 1/4: scale = 29.5/29, densities 29.5/58 and 29.5/145.
    """
    shapes = {"conv": torch.Size([2, 1, 3, 3]), "fc": torch.Size([10, 10])}
    assert erk_densities(shapes, 0.5) == pytest.approx({"conv": 1.0, "fc": 0.41}, abs=1e-15)
    assert erk_densities(shapes, 0.25) == pytest.approx({"conv": 29.5 / 58, "fc": 29.5 / 145}, abs=1e-15)


def test_erk_shares_out_again_until_no_layer_exceeds_one() -> None:
    """Raw 1.5, 5/6, 1/5 for sizes 2, 6, 100; at density 0.2 the budget is 21.6.

    First scale 21.6/28 = 0.771: 1.157 > 1 for the first layer alone. Then 19.6/25 = 0.784: 0.653 and 0.1568.
    At 0.3, budget 32.4: scale 1.157 makes the first dense; 30.4/25 = 1.216 makes the second dense (1.013); the last
    gets 24.4 of 100.
    """
    shapes = {"a": torch.Size([1, 2]), "b": torch.Size([2, 3]), "c": torch.Size([10, 10])}
    assert erk_densities(shapes, 0.2) == pytest.approx({"a": 1.0, "b": 0.784 * 5 / 6, "c": 0.1568}, abs=1e-12)
    assert erk_densities(shapes, 0.3) == pytest.approx({"a": 1.0, "b": 1.0, "c": 0.244}, abs=1e-12)


@given(shapes=SHAPES, density=DENSITIES)
def test_erk_meets_the_density_keeps_layers_at_most_dense_and_ranks_them(shapes: Shapes, density: float) -> None:
    densities = erk_densities(shapes, density)
    kept = sum(densities[name] * size for name, size in sizes(shapes).items())
    assert kept / sum(sizes(shapes).values()) == pytest.approx(density, abs=1e-9)
    assert all(0 < value <= 1 for value in densities.values())
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    for one in shapes:
        for other in shapes:
            if raw[one] >= raw[other]:
                assert densities[one] >= densities[other] * (1 - 1e-12)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1, math.nan, math.inf])
def test_erk_refuses_a_density_that_is_none(density: float) -> None:
    with pytest.raises(ConfigError, match=r"density lies in \(0, 1\]"):
        erk_densities({"a": torch.Size([2, 2])}, density)


# Random masks


@settings(max_examples=40)
@given(shapes=SHAPES, density=DENSITIES, seed=st.integers(0, 2**40))
def test_a_random_mask_has_exactly_the_counts_and_depends_on_its_generator_alone(
    shapes: Shapes, density: float, seed: int
) -> None:
    densities = erk_densities(shapes, density)
    before = torch.get_rng_state()
    first, second = (random_mask(shapes, densities, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.layer_kept == exact_counts(shapes, densities)
    assert {name: layer.shape for name, layer in first.items()} == dict(shapes)
    assert first.same_as(second)


def test_another_seed_gives_another_mask_and_every_weight_is_as_likely() -> None:
    shapes = {"a": torch.Size([4, 5])}
    generator = torch.Generator().manual_seed(0)
    masks = [random_mask(shapes, {"a": 0.25}, generator) for _ in range(2000)]
    assert not masks[0].same_as(masks[1])
    frequency = torch.stack([mask["a"].double() for mask in masks]).mean(0)
    assert (frequency - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 2000)


# The mask


def test_prunable_are_the_weights_of_convolutions_and_linear_layers() -> None:
    assert prunable_shapes(small_net()) == {"0.weight": torch.Size([2, 1, 3, 3]), "3.weight": torch.Size([4, 8])}
    assert list(prunable_weights(nn.Linear(2, 3))) == ["weight"]


def test_density_and_sparsity_count_weights_not_layers() -> None:
    mask = small_mask()
    assert (mask.kept, mask.size, mask.density, mask.sparsity) == (5, 8, 5 / 8, 3 / 8)
    assert mask.layer_densities() == {"a": 0.5, "b": 0.75}


@pytest.mark.parametrize("layer", [torch.ones(2), torch.ones(2, dtype=torch.uint8), [True, False], None])
def test_a_layer_that_is_no_boolean_tensor_is_refused(layer: object) -> None:
    with pytest.raises(ContractError, match='"fc"') as caught:
        Mask({"fc": layer})  # type: ignore[dict-item]
    assert caught.value.rule == "mask_type"


def test_a_mask_of_no_layer_is_refused() -> None:
    with pytest.raises(ContractError, match="None for a dense model") as caught:
        Mask({})
    assert caught.value.rule == "mask_type"


def test_a_mask_fits_the_models_prunable_weights_and_nothing_else() -> None:
    net = small_net()
    full = {name: torch.ones(shape, dtype=torch.bool) for name, shape in prunable_shapes(net).items()}
    Mask(full).check_fits(net)
    wrong: dict[str, dict[str, Tensor]] = {
        "1.weight": {**full, "1.weight": torch.ones(2, dtype=torch.bool)},
        "3.weight": {"0.weight": full["0.weight"]},
        r"\(8, 4\), not \(4, 8\)": {**full, "3.weight": full["3.weight"].T},
    }
    for sentence, layers in wrong.items():
        with pytest.raises(ContractError, match=sentence) as caught:
            Mask(layers).check_fits(net)
        assert caught.value.rule == "mask_shape"


def test_a_mask_lies_within_another_that_keeps_all_it_keeps() -> None:
    mask = small_mask()
    smaller = Mask({**mask, "b": torch.tensor([True, False, False, False])})
    assert smaller.within(mask) and mask.within(mask) and mask.within(None)
    assert not mask.within(smaller)
    assert mask.same_as(Mask(dict(mask))) and not mask.same_as(smaller) and not mask.same_as(None)


def test_applying_a_mask_zeroes_the_pruned_entries_and_no_others() -> None:
    tensors = {"a": torch.full((2, 2), 3.0), "b": torch.arange(4.0) - 2, "bias": torch.ones(2)}
    small_mask().apply_(tensors)
    assert torch.equal(tensors["a"], torch.tensor([[3.0, 0.0], [0.0, 3.0]]))
    assert torch.equal(tensors["b"], torch.tensor([-2.0, -1.0, 0.0, 0.0]))
    assert torch.equal(tensors["bias"], torch.ones(2))


@pytest.mark.parametrize("value", [1.0, -1e-30, 1e-45])
def test_a_pruned_weight_that_is_not_zero_leaks(value: float) -> None:
    tensors = {"a": torch.eye(2), "b": torch.tensor([0.0, 1.0, 2.0, -0.0])}
    assert small_mask().leak(tensors) is None
    tensors["b"][3] = value
    assert small_mask().leak(tensors) == "b"
    assert small_mask().leak({"a": tensors["a"]}) is None


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_not_finite_is_no_leak_because_it_is_divergence(value: float) -> None:
    """Gradients that overflowed are not finite under the mask either; the cell must end as diverged, not as broken."""
    assert small_mask().leak({"a": torch.full((2, 2), value)}) is None


def test_a_mask_does_not_change_after_it_was_made() -> None:
    layers = {"a": torch.tensor([True, False]), "b": torch.tensor([True])}
    mask = Mask(layers)
    with pytest.raises(TypeError):
        mask["a"] = torch.tensor([True, True])  # type: ignore[index]
    layers["a"] = torch.tensor([True, True])
    del layers["b"]
    assert mask["a"].tolist() == [True, False] and list(mask) == ["a", "b"]


def test_a_mask_does_not_change_with_the_tensors_it_was_made_of() -> None:
    """A method that edits its own tensors in place makes a new mask; the old one must still be the old one."""
    layers = {"a": torch.tensor([True, False])}
    before = Mask(layers)
    layers["a"][1] = True
    after = Mask(layers)
    assert before["a"].tolist() == [True, False] and not after.same_as(before)

"""Schedules, the global threshold and its guard, shuffling, and how kept entries travel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedfore.api import Mask
from fedfore.errors import ConfigError, Diverged
from fedfore.primitives.pruning import density_at, from_entries, keep_top, shuffled, to_entries
from fedfore.streams import torch_generator

SHAPES = {"first": torch.Size([2, 3]), "second": torch.Size([4, 5]), "third": torch.Size([3])}
SIZE = 29


def scores_like(seed: int, levels: int = 1000) -> dict[str, Tensor]:
    """Return scores of `levels` different values: few levels, many ties."""
    generator = torch_generator(seed)
    return {name: torch.randint(levels, shape, generator=generator) / levels for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    ("schedule", "densities"),
    [
        ("exponential", [0.25**0.25, 0.5, 0.25**0.75, 0.25]),
        ("linear", [0.8125, 0.625, 0.4375, 0.25]),
        ("inverse", [4 / 7, 0.4, 4 / 13, 0.25]),
    ],
)
def test_schedules_by_hand(schedule: str, densities: list[float]) -> None:
    found = [density_at(schedule, iteration, 4, 0.25) for iteration in (1, 2, 3, 4)]  # type: ignore[arg-type]
    assert found == pytest.approx(densities, rel=1e-12)


@given(
    seed=st.integers(0, 1000),
    levels=st.sampled_from([1, 2, 1000]),
    guard=st.integers(0, 3),
    counts=st.lists(st.integers(14, SIZE), min_size=1, max_size=4).map(lambda counts: sorted(counts, reverse=True)),
)
def test_masks_have_exact_counts_are_nested_guarded_and_keep_the_largest(
    seed: int, levels: int, guard: int, counts: list[int]
) -> None:
    previous: Mask | None = None
    for number, count in enumerate(counts):
        scores = scores_like(seed + number, levels)
        if guard == 0:
            scores = {name: value + 1e-9 for name, value in scores.items()}
        try:
            mask = keep_top(scores, count, previous, torch_generator(seed), guard)
        except ConfigError as error:
            assert guard == 0 and "emptied layer" in str(error)
            return
        assert mask.kept == count
        assert mask.within(previous)
        assert all(kept >= min(guard, 3) for kept in mask.layer_kept.values())
        dropped = [s for n, s in scores.items() if mask.layer_kept[n] > guard]
        weakest = min(
            (float(scores[n][mask[n]].min()) for n in scores if mask.layer_kept[n] > guard), default=float("inf")
        )
        for name in scores:
            pruned = ~mask[name] if previous is None else previous[name] & ~mask[name]
            assert not dropped or not bool((scores[name][pruned] > weakest).any())
        previous = mask


def test_the_threshold_is_one_for_all_layers() -> None:
    scores = {"a": torch.tensor([9.0, 8.0, 7.0, 1.0]), "b": torch.tensor([[6.0, 2.0], [5.0, 3.0]])}
    mask = keep_top(scores, 5, None, torch_generator(0))
    assert mask["a"].tolist() == [True, True, True, False]
    assert mask["b"].tolist() == [[True, False], [True, False]]


def test_a_pruned_weight_stays_pruned_whatever_its_score() -> None:
    previous = Mask({"a": torch.tensor([False, True, True]), "b": torch.tensor([True, False])})
    scores = {"a": torch.tensor([9.0, -1.0, -2.0]), "b": torch.tensor([-3.0, 9.0])}
    mask = keep_top(scores, 2, previous, torch_generator(0))
    assert mask["a"].tolist() == [False, True, False]
    assert mask["b"].tolist() == [True, False]


def test_the_guard_keeps_the_best_weights_of_a_layer_that_scores_low() -> None:
    scores = {"low": torch.tensor([0.1, 0.3, 0.2]), "high": torch.arange(1.0, 11.0)}
    mask = keep_top(scores, 6, None, torch_generator(0), min_layer_weights=2)
    assert mask["low"].tolist() == [False, True, True]
    assert mask["high"].tolist() == [False] * 6 + [True] * 4
    with pytest.raises(ConfigError, match=r'^Pruning to 6 weights emptied layer "low"; set min_layer_weights >= 1\.$'):
        keep_top(scores, 6, None, torch_generator(0), min_layer_weights=0)
    with pytest.raises(ConfigError, match="3 weights are too few for 2 in each of 2 layers"):
        keep_top(scores, 3, None, torch_generator(0), min_layer_weights=2)


def test_ties_favour_no_layer_and_no_position() -> None:
    """All scores equal: every weight is kept with probability 1/2, early and late layers alike."""
    ties = {"early": torch.zeros(500), "late": torch.zeros(500)}
    masks = [keep_top(ties, 500, None, torch_generator(seed)) for seed in range(20)]
    kept = torch.stack([torch.cat([mask["early"], mask["late"]]) for mask in masks]).float()
    assert abs(float(kept[:, :500].mean()) - 0.5) < 4 * 0.5 / (20 * 1000) ** 0.5
    assert float(kept.mean(0).std()) == pytest.approx((0.25 / 20) ** 0.5, rel=0.15)
    assert masks[0].same_as(keep_top(ties, 500, None, torch_generator(0)))


def test_a_score_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(Diverged, match="pruning score is not finite"):
        keep_top({"a": torch.tensor([1.0, float("nan"), 2.0])}, 2, None, torch_generator(0))


def test_shuffling_keeps_layer_counts_and_makes_positions_uniform() -> None:
    mask = Mask({"a": torch.arange(1000).view(10, 100) < 300, "b": torch.tensor([True])})
    one, other = (shuffled(mask, torch_generator(seed)) for seed in (0, 1))
    assert one.layer_kept == other.layer_kept == mask.layer_kept
    assert one["a"].shape == (10, 100)
    for made in (one, other):
        assert float(made["a"][:3].float().mean()) == pytest.approx(0.3, abs=0.12)
    assert not one.same_as(other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_kept_entries_travel_and_come_back(dtype: torch.dtype) -> None:
    mask = Mask({name: value > 0.5 for name, value in scores_like(1).items()})
    tensors = {name: (value > 0.3).to(dtype) for name, value in scores_like(2).items()}
    entries = to_entries(tensors, mask)
    assert entries.shape == (mask.kept,) and entries.dtype == dtype
    back = from_entries(entries, SHAPES, mask)
    for name, value in tensors.items():
        assert torch.equal(back[name], value * mask[name].to(dtype))
        assert torch.equal(from_entries(to_entries(tensors, None), SHAPES, None)[name], value)

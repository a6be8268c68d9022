"""Clients' shares: complete, disjoint, as skewed as asked for, and the same for the same seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedfore.api import Method
from fedfore.errors import ConfigError
from fedfore.federation.observers.sums import partition_sha256
from fedfore.federation.world import World
from fedfore.tasks.examples import Dataset
from fedfore.tasks.heterogeneity import parse_alpha
from fedfore.tasks.loading import load
from fedfore.tasks.partition import label_skew_tv, partition, require_partition
from tests.conftest import TINY, make_cell

LABELS = np.repeat(np.arange(10), 500)[np.random.default_rng(7).permutation(5000)]


def digest(parts: list[np.ndarray]) -> str:
    return hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()[:16]


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=200).map(np.array),
    clients=st.integers(1, 8),
    alpha=st.sampled_from(
        ["iid", 0.05, 0.5, 1.0, 100.0, "shards:1", "shards:3", "quantity:0.1", "quantity:5", "0.02,quantity:0.3"]
    ),
    min_examples=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_parts_are_sorted_disjoint_complete_and_large_enough(labels, clients, alpha, min_examples, seed):
    try:
        parts = partition(labels, clients, alpha, min_examples, np.random.default_rng(seed))
    except ConfigError:
        assume(False)
    assert len(parts) == clients
    assert all(len(part) >= min_examples and (np.diff(part) > 0).all() for part in parts)
    assert all(part.dtype == np.int64 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


def test_iid_parts_are_equal_in_size():
    sizes = [len(part) for part in partition(np.zeros(103, int), 10, "iid", 10, np.random.default_rng(0))]
    assert sorted(sizes) == [10] * 7 + [11] * 3


def test_shards_give_few_labels():
    parts = partition(LABELS, 10, "shards:2", 10, np.random.default_rng(0))
    assert [len(part) for part in parts] == [500] * 10
    assert all(len(np.unique(LABELS[part])) <= 2 for part in parts)
    one = partition(LABELS, 10, "shards:1", 10, np.random.default_rng(0))
    assert sorted(int(LABELS[part][0]) for part in one) == list(range(10))


@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_proportions_have_dirichlet_moments(alpha):
    """A client's share of a class has mean 1/C and variance (1/C)(1 - 1/C) / (C alpha + 1)."""
    clients, rng = 5, np.random.default_rng(3)
    shares = [
        np.bincount(LABELS[part], minlength=10) / 500
        for _ in range(60)
        for part in partition(LABELS, clients, alpha, 0, rng)
    ]
    assert np.mean(shares) == pytest.approx(1 / clients)
    assert np.var(shares) == pytest.approx(0.2 * 0.8 / (clients * alpha + 1), rel=0.1)


@pytest.mark.parametrize("concentration", [0.5, 3.0])
def test_sizes_have_dirichlet_moments_above_the_minimum(concentration):
    clients, spare, rng = 4, 4960, np.random.default_rng(3)
    draws = [partition(LABELS, clients, f"quantity:{concentration}", 10, rng) for _ in range(400)]
    shares = np.array([[(len(part) - 10) / spare for part in parts] for parts in draws])
    assert shares.sum(axis=1) == pytest.approx(1)
    assert np.var(shares) == pytest.approx(0.25 * 0.75 / (clients * concentration + 1), rel=0.1)
    large = [part for parts in draws for part in parts if len(part) > 2000]
    assert all(np.abs(np.bincount(LABELS[part], minlength=10) / len(part) - 0.1).max() < 0.035 for part in large)


def test_many_clients_of_very_different_sizes_are_possible():
    sizes = [len(part) for part in partition(LABELS, 100, "quantity:0.1", 10, np.random.default_rng(0))]
    assert min(sizes) == 10 and max(sizes) > 500 and sum(sizes) == 5000


def test_both_skews_have_the_sizes_of_the_one_and_labels_as_skewed_as_the_other_says():
    plain, mild, strong = (
        partition(LABELS, 8, alpha, 10, np.random.default_rng(4))
        for alpha in ("quantity:2", "1000,quantity:2", "0.1,quantity:2")
    )
    assert [len(part) for part in plain] == [len(part) for part in mild] == [len(part) for part in strong]
    assert label_skew_tv(LABELS, mild, 10) < 0.1 < 0.4 < label_skew_tv(LABELS, strong, 10)
    first = int(np.argmin([len(part) for part in strong]))
    taken = np.bincount(LABELS[strong[first]], minlength=10)
    assert taken.max() > 0.4 * taken.sum(), "nobody has used its class up before the smallest client has some"


OWNERS = np.array([7, 3, 3, 9, 7, 3, -1, 5, 9, 9, 3])


def test_natural_clients_are_owners_in_the_order_of_their_numbers():
    parts = partition(LABELS[:11], 3, "natural", 2, np.random.default_rng(0), OWNERS)
    assert [part.tolist() for part in parts] == [[1, 2, 5, 10], [0, 4], [3, 8, 9]], "5 has too few, and nobody has -1"
    drawn = {
        tuple(int(OWNERS[part[0]]) for part in partition(OWNERS, 2, "natural", 1, np.random.default_rng(seed), OWNERS))
        for seed in range(200)
    }
    assert drawn == {(3, 5), (3, 7), (3, 9), (5, 7), (5, 9), (7, 9)}


def test_too_few_owners_and_none_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"over 4 clients: 3 of the 4 owners have min_client_examples = 2 .* lower"):
        partition(OWNERS, 4, "natural", 2, rng, OWNERS)
    with pytest.raises(ConfigError, match=r'alpha = "natural" needs to know whose each example is'):
        partition(OWNERS, 4, "natural", 2, rng)


def natural(dataset: Dataset, owners: list[int], **fields: Any) -> World:
    train = replace(dataset.train, client=torch.tensor(owners))
    cell = make_cell(Method, replace(TINY, **fields), alpha="natural")
    return World.of(cell, replace(dataset, train=train), torch.device("cpu"))


def test_owners_that_take_no_part_are_left_out_of_the_training_set(tiny_digits):
    owners = [4, 8, 1, 2, 6] * 32
    world = natural(tiny_digits, owners)
    kept = world.train_set.client
    assert len(world.train_set) == 128 == sum(map(len, world.parts)) and len(kept.unique()) == 4
    for part, owner in zip(world.parts, kept.unique(), strict=True):
        whose = np.flatnonzero(np.array(owners) == int(owner))
        assert torch.equal(world.train_set.images[part], tiny_digits.train.images[whose])
    others = [natural(tiny_digits, owners, split_seed=seed) for seed in range(9)]
    drawn = {tuple(other.train_set.client.unique().tolist()) for other in others}
    assert len(drawn) > 1 and len(drawn) == len({partition_sha256(other.shares) for other in others})
    assert [owners[place] for place in world.shares[0]] == [int(kept.min())] * 32


def test_validation_examples_are_nobodys_shares(tiny_digits):
    world = natural(tiny_digits, [0, 1, 2, 3] * 40, validation_fraction=0.25)
    assert len(world.validation_set) == 40 and len(world.train_set) == 120
    assert all((world.train_set.client[part] == owner).all() for owner, part in enumerate(world.parts))


def test_skew_rises_as_alpha_falls():
    def skew(alpha: str | float) -> float:
        draws = [partition(LABELS, 10, alpha, 10, np.random.default_rng(seed)) for seed in range(5)]
        return float(np.mean([label_skew_tv(LABELS, parts, 10) for parts in draws]))

    skews = [skew(alpha) for alpha in (1e4, 100.0, 1.0, 0.1)]
    assert skews == sorted(skews)
    assert skews[0] < 0.01
    assert skews[-1] > 0.6
    assert skew("iid") < 0.1


def test_label_skew_by_hand():
    labels = np.array([0, 0, 0, 1])
    # q = (3/4, 1/4). Client 0 (p = 1/2): (1, 0), distance 1/4. Client 1 (p = 1/2): (1/2, 1/2), distance 1/4.
    assert label_skew_tv(labels, [np.array([0, 1]), np.array([2, 3])], 2) == pytest.approx(0.25)
    # Sizes 1 and 3: 1/4 x |(0, 1) - q| + 3/4 x |(1, 0) - q| = 1/4 x 3/4 + 3/4 x 1/4.
    assert label_skew_tv(labels, [np.array([3]), np.array([0, 1, 2])], 2) == pytest.approx(0.375)
    assert label_skew_tv(labels, [np.arange(4), np.array([], int)], 3) == 0.0
    # Examples that no client holds do not count: q = (2/3, 1/3), distances 1/3 (p = 1/3) and 1/6 (p = 2/3).
    assert label_skew_tv(labels, [np.array([0]), np.array([1, 3])], 2) == pytest.approx(2 / 9)


@given(seed=st.integers(0, 1000), clients=st.integers(1, 20))
def test_label_skew_is_bounded(seed, clients):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    parts = [np.flatnonzero(owner) for owner in rng.integers(0, clients, 60) == np.arange(clients)[:, None]]
    q = np.bincount(labels, minlength=4) / 60
    assert 0 <= label_skew_tv(labels, parts, 4) <= 1 - (q**2).sum() + 1e-12


def test_one_class_a_client_reaches_the_bound():
    assert label_skew_tv(LABELS, [np.flatnonzero(y == LABELS) for y in range(10)], 10) == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(20))
def test_strong_skew_on_digits_is_possible(seed):
    labels = load("digits").train.labels.numpy()
    parts = partition(labels, 10, 0.1, 10, np.random.default_rng(seed))
    assert min(map(len, parts)) >= 10
    assert label_skew_tv(labels, parts, 10) > 0.4


@pytest.mark.parametrize(
    ("alpha", "golden"),
    [
        ("iid", "32cc44444309c286"),
        (0.1, "da2e09cb125b1427"),
        ("shards:2", "b638262997371e5f"),
        ("quantity:0.5", "b5eb5d210c8db122"),
        ("0.1,quantity:0.5", "b82fea04e7d39f89"),
    ],
)
def test_same_seed_same_parts(alpha, golden):
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global state is what must not move
    first, again, other = (partition(LABELS, 10, alpha, 10, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert digest(first) == digest(again) == golden
    assert digest(other) != golden
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("iid", "iid"),
        (" IID ", "iid"),
        (1, 1.0),
        (0.1, 0.1),
        ("0.10", 0.1),
        ("shards:02", "shards:2"),
        (" Quantity:0.50", "quantity:0.5"),
        ("quantity:2.0", "quantity:2"),
        ("iid, quantity:1e-3", "quantity:0.001"),
        ("0.10,quantity:.5", "0.1,quantity:0.5"),
        ("Natural", "natural"),
        ("file:A@0123456789ab", "file:A@0123456789ab"),
    ],
)
def test_alpha_has_one_form(value, expected):
    parsed = parse_alpha(value)
    assert parsed == expected
    assert type(parsed) is type(expected)
    assert parse_alpha(parsed) == parsed


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1.0,
        math.nan,
        math.inf,
        10**400,
        True,
        None,
        [0.1],
        "idd",
        "shards:0",
        "shards:-1",
        "shards:",
        "nan",
        "",
        "quantity:",
        "quantity:0",
        "quantity:inf",
        "shards:2,quantity:1",
        "quantity:1,0.1",
        "0,quantity:1",
        "natural:2",
    ],
)
def test_other_alphas_are_refused(value):
    with pytest.raises(ConfigError, match=r'give "iid", a positive number, "shards:S", "quantity:Q"'):
        parse_alpha(value)


def test_near_names_are_suggested():
    with pytest.raises(ConfigError, match=r'Did you mean "iid"\?'):
        parse_alpha("idd")
    with pytest.raises(ConfigError, match=r'Did you mean "shards:S"\?'):
        parse_alpha("shard:2")
    with pytest.raises(ConfigError, match=r'Did you mean "natural"\?'):
        parse_alpha("natual")
    with pytest.raises(ConfigError, match=r"'file:split.json' is no partition by name and content"):
        parse_alpha("file:split.json")


def test_impossible_shares_say_what_to_change():
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"20 training examples cannot give 3 clients 10 each: lower clients"):
        partition(np.zeros(20, int), 3, "iid", 10, rng)
    with pytest.raises(ConfigError, match=r"alpha = 0.01 over 10 clients .* min_client_examples = 9 .* raise alpha"):
        partition(np.repeat(np.arange(2), 50), 10, 0.01, 9, rng)
    with pytest.raises(ConfigError, match=r"alpha = shards:40 over 2 clients leaves a client \d+ examples"):
        partition(np.zeros(100, int), 2, "shards:40", 50, rng)
    with pytest.raises(ConfigError, match=r"clients = 0 cannot be used"):
        partition(np.zeros(100, int), 0, "iid", 0, rng)


@pytest.mark.parametrize(
    "alpha", ["iid", "shards:2", "shards:7", 0.05, 0.3, 5.0, 1e-300, 1e308, "quantity:0.1", "1e308,quantity:1"]
)
@pytest.mark.parametrize("minimum", [1, 9, 20])
def test_what_cannot_be_shared_out_is_known_from_the_class_counts(alpha: str | float, minimum: int) -> None:
    counts = [40, 0, 90, 70, 13]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), counts))

    def outcome(share: Callable[[np.random.Generator], object], seed: int) -> str:
        try:
            share(np.random.default_rng(seed))
        except ConfigError as error:
            return str(error)
        return "possible"

    for seed in range(3):
        real = outcome(lambda rng: partition(labels, 10, alpha, minimum, rng), seed)
        told = outcome(lambda rng: require_partition(len(labels), counts, 10, alpha, minimum, rng), seed)
        assert told == real

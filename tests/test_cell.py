"""Cell ids and random streams: pinned, because stored records are found and repeated by them.

To regenerate a GOLDEN table, run the test and copy the left side of the failed comparison. Do so only for a
reason that is worth it: a changed id orphans every stored record of that cell (it is looked for under the new name and
never found), and a changed seed makes every published number irreproducible.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import asdict, fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfore.cell import Cell, Protocol, cell_from_json, cell_id, cell_to_json
from fedfore.contract.registry import MethodEntry, discover
from fedfore.errors import ConfigError
from fedfore.execution.matrix import resolve
from fedfore.streams import ROLES, numpy_generator, stream_seed, torch_generator

PASSES: dict[str, Any] = {"data_passes": 30.0}
# id: method, axes, [train], [params.<method>]
GOLDEN_IDS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "fedavg-33b27001dd03": ("fedavg", {}, {"data_passes": 30.0}, {}),
    "fedavg-e30f71ff898f": (
        "fedavg",
        {"dataset": "cifar10", "model": "resnet20:norm=group", "alpha": 0.1, "seed": 2},
        {"rounds": 100, "clients": 20, "participation": 0.1, "augment": True},
        {"lr": 0.1, "momentum": 0.9, "lr_schedule": "cosine"},
    ),
    "fedavg-ee6170db39d6": ("fedavg", {"alpha": "shards:2"}, {"rounds": 5}, {"local_steps": 1}),
    "fedavg_erk-29436b0e0ba8": ("fedavg_erk", {"sparsity": 0.9, "alpha": 1.0}, {"data_passes": 30.0}, {}),
    "fedavg_erk-cc6bf94983b7": (
        "fedavg_erk",
        {"sparsity": 0.95, "seed": 4},
        {"data_passes": 0.5, "validation_fraction": 0.1, "eval_every": 0.25, "batch_size": 64},
        {"weight_decay": 0.0005},
    ),
    "fedavg_erk-5a27afc3c24c": (
        "fedavg_erk",
        {"model": "lenet5:activation=gelu,width=0.5", "dataset": "mnist"},
        {"rounds": 1000},
        {"lr_schedule": "exponential", "lr_decay": 0.998},
    ),
    "baffle-3a434b18e5c2": ("baffle", {}, {"data_passes": 30.0}, {}),
    "baffle-68503db655ac": (
        "baffle",
        {"estimator": "finite_difference", "alpha": 0.1},
        {"data_passes": 30.0},
        {"num_perturbations": 100, "sigma": 0.001, "form": "central"},
    ),
    "baffle-9454c3da3854": (
        "baffle",
        {"model": "baffle_lenet", "dataset": "fashion_mnist", "sparsity": 0.9},
        {"rounds": 20, "min_client_examples": 2},
        {"distribution": "rademacher", "lr": 0.01},
    ),
}
GOLDEN_SEEDS: dict[tuple[int, str, str, int, int], int] = {
    (0, "init", "", 0, -1): 2782881168522170790,
    (0, "partition", "", 0, -1): 5021873390172934048,
    (1, "partition", "", 0, -1): 1355965269106999401,
    (0, "cohort", "train", 7, -1): 3411256090952083199,
    (0, "batches", "setup", 0, 3): 3926124144885905649,
    (0, "batches", "train", 0, 3): 4527931413890410857,
    (2, "probe", "", 0, -1): 7490180160130347356,
    (0, "perturbation", "train", 100, -1): 5690317036049341878,
    (0, "method", "setup", 2, 5): 7222290459034008076,
}
GOLDEN_WORDS: dict[tuple[int, int], list[int]] = {
    (0, 0): [623662, 9937152, 8779551, 10145121],
    (5, 0): [12995980, 10081681, 7149305, 14251846],
    (5, 1): [8501707, 10768815, 5865243, 1665270],
    (5 + 2**32, 0): [523615, 1054005, 15933014, 8591517],
    (2782881168522170790, 0): [9492704, 14082672, 4196434, 14034863],
    (2**64 - 1, 1): [13645136, 16218666, 16186829, 11477180],
}
"""The first numbers of torch's generators, by seed and part."""
GOLDEN_INTEGERS: dict[int, list[int]] = {
    5: [14499533, 14387789, 2518184, 15520470],
    5 + 2**32: [15945206, 6099481, 6803882, 8185930],
    2782881168522170790: [14641854, 16175589, 10858394, 3985881],
}
"""The first numbers of NumPy's generators."""

DEFAULTS = {"lr": 0.05, "momentum": 0.0, "local_steps": None}
CELL = Cell("fedavg", "digits", "lenet5", Protocol(rounds=5), alpha=0.1, seed=1, params=DEFAULTS)


@cache
def methods() -> dict[str, MethodEntry]:
    return discover()


def planned(
    method: str,
    axes: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    params: dict[str, Any] | None = None,
) -> Cell:
    """Return the only cell of a matrix with one value an axis."""
    grid = {"method": method, "dataset": "digits", "model": "lenet5", **(axes or {})}
    document = {
        "grid": {key: [value] for key, value in grid.items()},
        "train": PASSES if train is None else train,
        "params": {method: params or {}},
    }
    (only,) = resolve(document, methods())
    return only.cell


# Ids


def test_the_ids_of_these_cells_are_the_ids_that_stored_records_have() -> None:
    assert {planned(*what).id: what for what in GOLDEN_IDS.values()} == GOLDEN_IDS


def test_an_id_is_the_method_and_a_hash_of_what_differs_from_the_defaults() -> None:
    text = (
        '{"alpha":0.1,"dataset":"digits","method":"fedavg","model":"lenet5","params":{"lr":0.2},"seed":1,'
        '"train":{"rounds":5}}'
    )
    cell = replace(CELL, params={**DEFAULTS, "lr": 0.2})
    assert cell_id(cell, DEFAULTS) == f"fedavg-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@pytest.mark.parametrize("method", ["fedavg", "fedavg_erk", "baffle"])
def test_writing_out_a_default_does_not_change_the_id(method: str) -> None:
    plain = planned(method, train={"rounds": 3})
    found = methods()[method].method
    assert found is not None
    config = {key: value for key, value in asdict(found.Config()).items() if value is not None}
    for key, value in config.items():
        assert planned(method, train={"rounds": 3}, params={key: value}).id == plain.id
    protocol = {k: v for k, v in asdict(Protocol()).items() if v is not None}
    assert planned(method, train={"rounds": 3, **protocol}, params=config).id == plain.id
    assert planned(method, {"alpha": "iid", "seed": 0, "sparsity": 0.0}, {"rounds": 3}).id == plain.id
    assert planned(method, {"estimator": "directional"}, {"rounds": 3}).id == plain.id
    assert planned(method, {"model": "lenet5:norm=none,width=1"}, {"rounds": 3}).id == plain.id


def test_a_new_parameter_at_its_default_renames_no_record() -> None:
    longer = replace(CELL, params={**DEFAULTS, "new": 7})
    assert cell_id(longer, {**DEFAULTS, "new": 7}) == CELL_ID
    assert cell_id(longer, {**DEFAULTS, "new": 8}) != CELL_ID


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (({"alpha": 1},), ({"alpha": 1.0},)),
        (({"alpha": 0.1},), ({"alpha": "0.10"},)),
        (({"alpha": "iid"},), ({"alpha": "IID "},)),
        (({"sparsity": 0},), ({"sparsity": 0.0},)),
        (({"model": "lenet5:width=2"},), ({"model": "lenet5:width=2.0"},)),
        (({"model": "lenet5:width=2,norm=group"},), ({"model": "lenet5:norm=group, width=2"},)),
        (({}, {"data_passes": 30}), ({}, {"data_passes": 30.0})),
        (({}, {"rounds": 9, "eval_every": 3}), ({}, {"rounds": 9, "eval_every": 3.0})),
        (({}, {"rounds": 9, "participation": 1}), ({}, {"rounds": 9})),
        (({}, PASSES, {"lr": 1}), ({}, PASSES, {"lr": 1.0})),
    ],
    ids=str,
)
def test_two_spellings_of_one_cell_have_one_id(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert planned("fedavg_erk", *one).id == planned("fedavg_erk", *other).id


CHANGED: dict[str, Any] = {
    "method": "fedprox", "dataset": "mnist", "model": "resnet20", "sparsity": 0.5, "alpha": "iid", "seed": 2,
    "estimator": "directional", "params": {**DEFAULTS, "lr": 0.06}, "stage": "tune1",
}  # fmt: skip
CHANGED_PROTOCOL: dict[str, Any] = {
    "clients": 11, "participation": 0.5, "batch_size": 16, "min_client_examples": 5, "data_passes": 5.0, "rounds": 6,
    "eval_every": 2.0, "validation_fraction": 0.1, "setup_only": True, "meter_only": True, "augment": True,
    "ntk": False, "compare_masks": True, "wire_precision": "float16", "recalibrate": True,
    "init": "pytorch", "input_scaling": "unit", "ntk_seeds": 1, "split_seed": 7,
}  # fmt: skip
CELL_ID = cell_id(CELL, DEFAULTS)


def test_every_field_but_the_id_itself_is_part_of_the_id() -> None:
    assert set(CHANGED) == {item.name for item in fields(Cell)} - {"train", "id"}
    assert set(CHANGED_PROTOCOL) == {item.name for item in fields(Protocol)}
    cells = [CELL, *(replace(CELL, **{key: value}) for key, value in CHANGED.items())]
    cells += [replace(CELL, train=replace(CELL.train, **{key: value})) for key, value in CHANGED_PROTOCOL.items()]
    cells.append(replace(CELL, train=Protocol(data_passes=5.0)))
    assert len({cell_id(cell, DEFAULTS) for cell in cells}) == len(cells)
    assert cell_id(replace(CELL, id="anything"), DEFAULTS) == CELL_ID


def test_every_parameter_is_part_of_the_id() -> None:
    ids = {cell_id(replace(CELL, params={**DEFAULTS, key: 3}), DEFAULTS) for key in DEFAULTS}
    assert len(ids | {CELL_ID}) == len(DEFAULTS) + 1


CELLS = st.builds(
    Cell,
    method=st.text(max_size=8),
    dataset=st.text(max_size=8),
    model=st.text(max_size=8),
    train=st.builds(
        Protocol,
        clients=st.integers(1, 100),
        participation=st.floats(0.01, 1),
        rounds=st.none() | st.integers(1, 99),
        data_passes=st.none() | st.floats(0.1, 1e6),
        augment=st.booleans(),
    ),
    sparsity=st.floats(0, 0.999),
    alpha=st.just("iid") | st.floats(1e-9, 1e9),
    seed=st.integers(0, 2**70),
    estimator=st.sampled_from([None, "directional", "finite_difference"]),
    params=st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.floats(0, 1) | st.text(max_size=5)),
    id=st.text(max_size=8),
)


@settings(max_examples=40)
@given(cell=CELLS)
def test_a_cell_survives_json_with_its_id(cell: Cell) -> None:
    again = cell_from_json(json.loads(json.dumps(cell_to_json(cell))))
    assert again == cell
    assert cell_id(again, {}) == cell_id(cell, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"old": 1}, 'has a field "old", which this version of fedfore does not know'),
        ({"train": {"rounds": 5, "pace": 2}}, 'has a field "train.pace", which'),
        ({"train": {"rounds": "5"}}, "has train.rounds = '5': input should be a valid integer"),
        ({"train": None}, "has train = None"),
        ({"alpha": True}, "has alpha = True"),
        ({"sparsity": 1.0}, "has sparsity = 1.0"),
        ({"estimator": "oracle"}, "has estimator = 'oracle'"),
    ],
)
def test_a_stored_cell_that_cannot_be_is_one_sentence_that_names_its_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cell_from_json({**cell_to_json(replace(CELL, id="fedavg-0")), **change})
    assert str(caught.value).startswith(f'The stored cell "fedavg-0" {words}')


def test_a_stored_cell_without_a_method_and_what_is_no_cell_are_refused() -> None:
    with pytest.raises(ConfigError, match='lacks the field "method"'):
        cell_from_json({key: value for key, value in cell_to_json(CELL).items() if key != "method"})
    with pytest.raises(ConfigError, match="is no JSON object"):
        cell_from_json([])  # type: ignore[arg-type]


def test_a_protocol_has_a_budget_and_is_evaluated_twenty_times_in_it() -> None:
    assert (Protocol(rounds=40).budget, Protocol(rounds=40).evaluation_interval) == (40.0, 2.0)
    assert (Protocol(data_passes=5.0).budget, Protocol(data_passes=5.0).evaluation_interval) == (5.0, 0.25)
    assert Protocol(rounds=40, eval_every=7.0).evaluation_interval == 7.0


# Random streams


def test_the_seeds_of_these_streams_are_those_that_published_numbers_came_from() -> None:
    assert {key: stream_seed(*key) for key in GOLDEN_SEEDS} == GOLDEN_SEEDS


def test_a_stream_is_told_apart_by_everything_but_the_method() -> None:
    keys = list(itertools.product((0, 1), ROLES, ("", "setup", "train"), (0, 1, 11), (-1, 0, 1, 11)))
    seeds = {stream_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("role", ["", "batch", "Init", "fedavg"])
def test_a_role_that_is_none_is_refused(role: str) -> None:
    with pytest.raises(ValueError, match="the roles are init, partition"):
        stream_seed(0, role)


def test_generators_of_one_seed_are_equal_and_independent_of_each_other() -> None:
    seed = stream_seed(3, "init")
    assert torch_generator(seed).get_state().equal(torch_generator(seed).get_state())
    assert not torch_generator(seed).get_state().equal(torch_generator(seed, 1).get_state())
    assert numpy_generator(seed).integers(0, 2**60, 4).tolist() == numpy_generator(seed).integers(0, 2**60, 4).tolist()


def words(seed: int, part: int = 0) -> list[int]:
    """Return the first numbers of a stream, 24 bits each."""
    return torch.empty(4, dtype=torch.int64).random_(2**24, generator=torch_generator(seed, part)).tolist()


def test_the_first_numbers_of_these_streams_are_pinned() -> None:
    assert {key: words(*key) for key in GOLDEN_WORDS} == GOLDEN_WORDS
    assert {seed: numpy_generator(seed).integers(2**24, size=4).tolist() for seed in GOLDEN_INTEGERS} == GOLDEN_INTEGERS


@pytest.mark.parametrize("seed", [0, 5, 2**63 - 1])
@pytest.mark.parametrize("bit", [0, 31, 32, 45, 62])
def test_every_bit_of_a_seed_changes_its_streams(seed: int, bit: int) -> None:
    assert words(seed) != words(seed ^ 1 << bit)
    first, other = (numpy_generator(one).integers(2**24, size=4) for one in (seed, seed ^ 1 << bit))
    assert not np.array_equal(first, other)


def test_a_stream_is_numpys_mersenne_twister_from_the_same_words() -> None:
    state = np.random.MT19937(0).state
    state["state"] = {"key": np.frombuffer(hashlib.shake_128(b"5/0").digest(4 * 624), dtype="<u4"), "pos": 624}
    reference = np.random.MT19937(0)
    reference.state = state
    assert words(5) == (reference.random_raw(4) % 2**24).tolist()

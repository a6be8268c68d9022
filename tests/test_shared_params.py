"""Keys for all methods of a matrix, keys that `--set key=` leaves at their default, and the seed of the split."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfore.api import Method
from fedfore.cell import Cell, Protocol
from fedfore.contract.registry import MethodEntry, discover
from fedfore.errors import ConfigError
from fedfore.execution.matrix import resolve
from fedfore.execution.matrix_file import read_matrix
from fedfore.federation.loop import Federation

BASE = """
[grid]
method = ["fedavg", "baffle", "baffle_erk"]
dataset = ["digits"]
model = ["lenet5"]
{axes}

[train]
rounds = 40
eval_every = 10
{train}

[params]
{params}
"""


@cache
def methods() -> dict[str, MethodEntry]:
    return discover()


Resolved = Callable[..., list[Cell]]


@pytest.fixture
def resolved(tmp_path: Path) -> Resolved:
    """Return the cells of the matrix above, with these lines in its tables and these `--set`."""

    def cells(*overrides: str, axes: str = "", train: str = "", params: str = "") -> list[Cell]:
        path = tmp_path / "matrix.toml"
        path.write_text(BASE.format(axes=axes, train=train, params=params), encoding="utf-8")
        return [item.cell for item in resolve(read_matrix(path, overrides, methods()), methods())]

    return cells


def values(cells: list[Cell], key: str) -> list[tuple[str, Any]]:
    """Return method and value of every cell whose method has the key."""
    return [(cell.method, cell.params[key]) for cell in cells if key in cell.params]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message[-1] in ".?"
    return message


# Shared keys


def test_a_shared_key_is_meant_for_every_method_that_has_it_and_an_own_entry_wins(resolved: Resolved) -> None:
    found = resolved(params="sigma = 1e-3\nlr = 0.2\n[params.baffle_erk]\nsigma = 1e-4")
    assert values(found, "sigma") == [("baffle", 1e-3), ("baffle_erk", 1e-4)]
    assert values(found, "lr") == [("fedavg", 0.2), ("baffle", 0.2), ("baffle_erk", 0.2)]


def test_a_shared_key_makes_the_cells_that_the_same_key_of_each_method_makes(resolved: Resolved) -> None:
    shared = resolved(params="num_perturbations = 7")
    own = resolved(params="[params.baffle]\nnum_perturbations = 7\n[params.baffle_erk]\nnum_perturbations = 7")
    assert shared == own
    shared = resolved(axes='"params.num_perturbations" = [7, 8]\nseed = [0, 1]')
    own = resolved(
        axes='"params.baffle.num_perturbations" = [7, 8]\n"params.baffle_erk.num_perturbations" = [7, 8]\nseed = [0, 1]'
    )
    assert shared == own and len(shared) == 2 + 4 + 4


def test_an_axis_of_a_method_wins_over_what_is_shared(resolved: Resolved) -> None:
    found = resolved(axes='"params.baffle.sigma" = [1e-5, 1e-6]\n"params.sigma" = [1e-2]')
    assert values(found, "sigma") == [("baffle", 1e-5), ("baffle", 1e-6), ("baffle_erk", 1e-2)]
    found = resolved(axes='"params.baffle.sigma" = [1e-5]', params="sigma = 1e-3")
    assert values(found, "sigma") == [("baffle", 1e-5), ("baffle_erk", 1e-3)]


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"params": "num_perturbation = 7"}, 'has a key "num_perturbation". Did you mean "num_perturbations"?'),
        ({"params": "candidates = 7"}, 'no method of the grid has a key "candidates"'),
        ({"axes": '"params.sigm" = [1e-3]'}, 'Did you mean "sigma"?'),
        ({"params": "baffle = 7"}, "write params.baffle.<key>, or [params.baffle]"),
        ({"params": "sigma = 0"}, "sigma = 0"),
        ({"params": "sigma = 1e-3", "axes": '"params.sigma" = [1e-4]'}, '"sigma" stands in [params]'),
        (
            {"params": "[params.baffle]\nsigma = 1\n[params.baffle_erk]\nsigma = 1", "axes": '"params.sigma" = [2]'},
            "every method that has it sets it",
        ),
    ],
)
def test_a_shared_key_that_cannot_be_is_one_sentence(resolved: Resolved, tables: dict[str, str], words: str) -> None:
    assert words in refusal(lambda: resolved(**tables))


def test_set_of_a_shared_key_takes_the_place_of_every_methods_own(resolved: Resolved) -> None:
    own = {"params": "[params.baffle]\nsigma = 1e-3", "axes": '"params.baffle_erk.sigma" = [1e-4, 1e-5]'}
    assert values(resolved("params.sigma=1e-2", **own), "sigma") == [("baffle", 1e-2), ("baffle_erk", 1e-2)]
    assert len(values(resolved("params.sigma=[1e-2,1e-3]", **own), "sigma")) == 4
    assert values(resolved("params.sigma=1e-2", "params.baffle.sigma=1e-3"), "sigma") == [
        ("baffle", 1e-3), ("baffle_erk", 1e-2),
    ]  # fmt: skip
    assert values(resolved("params.num_perturbations=50"), "num_perturbations") == [("baffle", 50), ("baffle_erk", 50)]
    assert 'Did you mean "sigma"?' in refusal(lambda: resolved("params.sigm=1e-2"))


def test_a_new_list_of_methods_drops_the_shared_keys_that_only_the_old_one_has(resolved: Resolved) -> None:
    shared = {"params": "sigma = 1e-3\nlr = 0.2", "axes": '"params.num_perturbations" = [7, 8]'}
    (cell,) = resolved("method=fedavg", **shared)
    assert (cell.method, cell.params["lr"]) == ("fedavg", 0.2)
    assert values(resolved("method=baffle", **shared), "sigma") == [("baffle", 1e-3)] * 2
    assert 'no method of the grid has a key "sigm"' in refusal(lambda: resolved("method=fedavg", params="sigm = 1e-3"))
    late = refusal(lambda: resolved("method=fedavg", "params.sigma=1e-3", **shared))
    assert 'no method of the grid has a key "sigma"' in late


# Unset keys


UNSET: dict[str, tuple[str, dict[str, str]]] = {
    "an axis": ("seed", {"axes": "seed = [3, 4]"}),
    "alpha": ("alpha", {"axes": "alpha = [0.1, 1.0]"}),
    "a key of train": ("train.clients", {"train": "clients = 5"}),
    "an axis of train": ("train.clients", {"axes": '"train.clients" = [4, 5]'}),
    "the estimator of train": ("estimator", {"train": 'estimator = "exact"'}),
    "a method's key": ("params.baffle.sigma", {"params": "[params.baffle]\nsigma = 1e-3"}),
    "a method's axis": ("params.baffle.sigma", {"axes": '"params.baffle.sigma" = [1e-3, 1e-4]'}),
    "a method's table": (
        "params.baffle", {"params": "[params.baffle]\nsigma = 1e-3", "axes": '"params.baffle.lr" = [1, 2]'},
    ),
    "a shared key": ("params.sigma", {"params": "sigma = 1e-3"}),
    "a shared axis": ("params.sigma", {"axes": '"params.sigma" = [1e-3, 1e-4]'}),
    "all keys of methods": (
        "params", {"params": "sigma = 1\n[params.baffle]\nlr = 2", "axes": '"params.baffle_erk.sigma" = [3]'},
    ),
    "a key of every method": (
        "params.sigma", {"params": "sigma = 1\n[params.baffle]\nsigma = 2", "axes": '"params.baffle_erk.sigma" = [3]'},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNSET)
def test_an_unset_key_is_at_its_default(case: str, resolved: Resolved) -> None:
    key, tables = UNSET[case]
    plain = resolved()
    assert resolved(**tables) != plain
    assert resolved(f"{key}=", **tables) == resolved(f" {key} = ", **tables) == plain


def test_what_a_method_shares_holds_where_its_own_key_is_unset(resolved: Resolved) -> None:
    found = resolved("params.baffle.sigma=", params="sigma = 1e-3\n[params.baffle]\nsigma = 1e-5")
    assert values(found, "sigma") == [("baffle", 1e-3), ("baffle_erk", 1e-3)]


@pytest.mark.parametrize("shared", [{"params": "lr = 0.2"}, {"axes": '"params.lr" = [0.1, 0.2]'}])
def test_a_key_that_a_method_only_shares_cannot_be_unset_of_it_alone(
    resolved: Resolved, shared: dict[str, str]
) -> None:
    assert "baffle's lr comes from params.lr;" in refusal(lambda: resolved("params.baffle.lr=", **shared))
    assert 'the matrix does not set "params.fedmef.lr"' in refusal(lambda: resolved("params.fedmef.lr=", **shared))


def test_an_unset_cadence_is_a_twentieth_of_the_budget(resolved: Resolved) -> None:
    assert {cell.train.evaluation_interval for cell in resolved()} == {10.0}
    assert {cell.train.evaluation_interval for cell in resolved("train.eval_every=")} == {2.0}


def test_a_key_is_set_and_unset_in_the_order_of_the_overrides(resolved: Resolved) -> None:
    assert resolved("seed=[1,2]", "seed=") == resolved()
    assert {cell.seed for cell in resolved("seed=", "seed=5", axes="seed = [1, 2]")} == {5}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.clients", 'the matrix does not set "train.clients", whose default holds already'),
        ("train.eval_evry", '[train] has no key "eval_evry". Did you mean "eval_every"?'),
        ("train.nope", '[train] has no key "nope". Known: augment,'),
        ("nope", 'there is no key "nope"'),
        ("clients", 'Did you mean "train.clients"?'),
        ("grid", "the grid has no default"),
        ("params.fedavgg.lr", 'There is no method "fedavgg". Did you mean "fedavg"?'),
        ("params.baffle.sigm", '[params.baffle] has no key "sigm". Did you mean "sigma"?'),
        ("params.sigm", 'no method of the grid has a key "sigm". Did you mean "sigma"?'),
        ("params.baffle", 'the matrix does not set "params.baffle"'),
        ("params.baffle.sigma", 'does not set "params.baffle.sigma"'),
        ("alpha", 'does not set "alpha"'),
        ("train", "needs exactly one of data_passes and rounds"),
        ("method", 'the axis "method" has no default'),
        ("train.rounds", "needs exactly one of data_passes and rounds"),
    ],
)
def test_a_key_that_cannot_be_unset_is_one_sentence(resolved: Resolved, key: str, words: str) -> None:
    assert words in refusal(lambda: resolved(f"{key}="))


# The seed of the split


def test_a_seed_of_the_split_is_a_key_of_train_and_changes_no_id_where_it_is_unset(resolved: Resolved) -> None:
    plain, fixed = resolved(), resolved("train.split_seed=3")
    assert {cell.train.split_seed for cell in fixed} == {3} and {cell.train.split_seed for cell in plain} == {None}
    assert {cell.id for cell in plain}.isdisjoint(cell.id for cell in fixed)
    assert len(resolved("train.split_seed=[0,1]")) == 6
    for wrong in ("-1", "true", "''", "1.5"):
        words = refusal(lambda wrong=wrong: resolved(f"train.split_seed={wrong}"))  # type: ignore[misc]
        assert "a whole number >= 0, or `train.split_seed=` to unset" in words


def drawn(federation: Callable[..., Federation], seed: int, split_seed: int | None) -> tuple[Any, ...]:
    """Return what a cell trains on, what it holds out, its clients' shares, first weight and first cohort."""
    train = Protocol(clients=4, participation=0.5, rounds=2, validation_fraction=0.2, split_seed=split_seed)
    made = federation(Method, train, seed=seed, alpha=0.5)
    return (
        made.world.train_set.labels.tolist(),
        made.world.validation_set.images.float().mean((1, 2, 3)).tolist(),
        [part.tolist() for part in made.world.parts],
        next(made.model.parameters()).flatten()[0].item(),
        [made.server.cohort("train", round) for round in range(8)],
    )


def test_seeds_of_one_split_differ_in_everything_but_the_split(federation: Callable[..., Federation]) -> None:
    first, second, moved = (drawn(federation, *seeds) for seeds in ((0, 5), (1, 5), (0, 6)))
    assert first[:3] == second[:3] and all(np.not_equal(first[i], second[i]).any() for i in (3, 4))
    assert first[3:] == moved[3:] and first[1] != moved[1] and first[2] != moved[2]
    assert drawn(federation, 5, None)[:3] == first[:3]


def test_a_split_that_starves_a_client_is_refused_by_its_own_seed(resolved: Resolved) -> None:
    """Shards of unequal shares: whether a client gets too few depends on the draw."""
    train = "min_client_examples = 143"
    outcomes = {}
    for seed in range(6):
        try:
            resolved(f"train.split_seed={seed}", axes='alpha = ["shards:2"]', train=train)
            outcomes[seed] = "planned"
        except ConfigError:
            outcomes[seed] = "refused"
    assert set(outcomes.values()) == {"planned", "refused"}
    for seed, outcome in outcomes.items():
        call = lambda seed=seed: resolved(f"seed={seed}", axes='alpha = ["shards:2"]', train=train)  # noqa: E731
        if outcome == "refused":
            assert "shards:2" in refusal(call)
        else:
            assert call()

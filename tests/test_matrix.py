"""Matrix files: how lists multiply, what is dropped and merged, and one sentence for every mistake."""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfore.cell import Cell
from fedfore.contract.registry import MethodEntry, discover
from fedfore.errors import ConfigError
from fedfore.execution.matrix import merged_entries, resolve
from fedfore.execution.matrix_file import find_matrix, read_matrix
from fedfore.matrices import named_matrices

Document = dict[str, Any]


@cache
def methods() -> dict[str, MethodEntry]:
    return discover()


def document(*, train: Any = None, params: Any = None, **grid: Any) -> Document:
    """Return a matrix of one dense FedAvg cell, with these axes, [train] keys and [params] tables added or replaced."""
    axes = {"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5"], **grid}
    return {"grid": axes, "train": {"rounds": 2} if train is None else train, "params": params or {}}


def cells(matrix: Document) -> list[Cell]:
    return [item.cell for item in resolve(matrix, methods())]


def sentence(matrix: Document) -> str:
    """Return the message with which `matrix` is refused; it is one line and ends like a sentence."""
    with pytest.raises(ConfigError) as caught:
        resolve(matrix, methods())
    message = str(caught.value)
    assert message and "\n" not in message and message[-1] in ".?"
    return message


# Products and unions


def test_lists_are_crossed() -> None:
    found = cells(document(method=["fedavg_erk"], sparsity=[0.5, 0.9], alpha=["iid", 1.0, 0.1], seed=[0, 1, 2, 3]))
    assert len(found) == len({cell.id for cell in found}) == 2 * 3 * 4
    assert {(cell.sparsity, cell.alpha, cell.seed) for cell in found} == {
        (s, a, n) for s in (0.5, 0.9) for a in ("iid", 1.0, 0.1) for n in range(4)
    }


def test_an_axis_that_means_nothing_to_a_method_is_dropped_and_its_cells_merge() -> None:
    found = cells(document(method=["fedavg", "fedavg_erk", "baffle"], sparsity=[0.5, 0.9], seed=[0, 1]))
    assert [cell.method for cell in found] == ["fedavg"] * 2 + ["fedavg_erk"] * 4 + ["baffle"] * 2
    assert {cell.sparsity for cell in found if cell.method != "fedavg_erk"} == {0.0}
    assert {(cell.method, cell.estimator) for cell in found} == {
        ("fedavg", None), ("fedavg_erk", None), ("baffle", "directional"),
    }  # fmt: skip


def test_several_blocks_are_united_without_duplicates() -> None:
    one = document(method=["fedavg_erk"], sparsity=[0.5, 0.8], seed=[0, 1])
    other = document(method=["fedavg", "fedavg_erk"], sparsity=[0.8, 0.9], seed=[1, 2])
    both = cells({**one, "grid": [one["grid"], other["grid"]]})
    assert len(both) == len({cell.id for cell in both}) == 4 + (2 + 4) - 1
    assert {cell.id for cell in both} == {cell.id for cell in cells(one)} | {cell.id for cell in cells(other)}


def test_a_value_given_twice_is_one_cell_and_a_sentence_says_which_was_dropped() -> None:
    twice = document(alpha=[1, 1.0, "1.0", 2], model=["lenet5", "lenet5:norm=none"], sparsity=[0.5, 0.5])
    assert len(cells(twice)) == 2
    assert sorted(merged_entries(twice)) == [
        "grid.alpha: '1.0' is the same as 1 and was dropped.",
        "grid.alpha: 1.0 is the same as 1 and was dropped.",
        "grid.model: 'lenet5:norm=none' is the same as 'lenet5' and was dropped.",
        "grid.sparsity: 0.5 is the same as 0.5 and was dropped.",
    ]
    assert list(merged_entries(document(alpha=[1, "iid"], seed=[0, 1]))) == []


def test_a_methods_own_key_multiplies_only_its_cells() -> None:
    found = cells(document(method=["fedavg", "baffle"], **{"params.baffle.num_perturbations": [10, 20, 30]}))
    assert [cell.method for cell in found] == ["fedavg"] + ["baffle"] * 3
    assert [cell.params["num_perturbations"] for cell in found[1:]] == [10, 20, 30]


def test_a_key_of_train_multiplies_every_cell() -> None:
    found = cells(document(method=["fedavg", "baffle"], **{"train.clients": [4, 5]}))
    assert [(cell.method, cell.train.clients) for cell in found] == [
        ("fedavg", 4), ("fedavg", 5), ("baffle", 4), ("baffle", 5),
    ]  # fmt: skip


def test_a_table_gives_the_value_of_the_blocks_that_lack_the_axis() -> None:
    grid = document(**{"train.clients": [4, 5]})["grid"]
    found = cells({"grid": [grid, document(seed=[1])["grid"]], "train": {"rounds": 2, "clients": 3}})
    assert [(cell.seed, cell.train.clients) for cell in found] == [(0, 4), (0, 5), (1, 3)]


def test_an_axis_of_a_method_keeps_the_rest_of_its_table() -> None:
    params = {"baffle": {"sigma": 1e-3}}
    found = cells(document(method=["baffle"], params=params, **{"params.baffle.num_perturbations": [10]}))
    assert [(cell.params["num_perturbations"], cell.params["sigma"]) for cell in found] == [(10, 1e-3)]


def test_the_estimator_is_an_axis_or_a_key_of_train() -> None:
    axis = cells(document(method=["fedavg", "baffle"], estimator=["directional", "finite_difference"]))
    assert [cell.estimator for cell in axis] == [None, "directional", "finite_difference"]
    key = cells(document(method=["baffle"], train={"rounds": 2, "estimator": "finite_difference"}))
    assert key[0].id == axis[2].id


def test_defaults_are_filled_in() -> None:
    """An id leaves defaults out, so a changed default changes what stored records mean."""
    (cell,) = cells(document())
    assert (cell.sparsity, cell.alpha, cell.seed, cell.estimator) == (0.0, "iid", 0, None)
    assert cell.params == {
        "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0, "local_epochs": None, "local_steps": None,
        "lr_schedule": "constant", "lr_decay": 0.99, "memory": "none", "micro_batch": None,
    }  # fmt: skip
    assert asdict(cell.train) == {
        "clients": 10, "participation": 1.0, "batch_size": 32, "min_client_examples": 10, "data_passes": None,
        "rounds": 2, "eval_every": None, "validation_fraction": 0.0, "setup_only": False, "meter_only": False,
        "augment": False, "ntk": True, "compare_masks": False, "wire_precision": "float32",
        "recalibrate": False, "ntk_seeds": None, "split_seed": None,
        "init": "kaiming", "input_scaling": "standardised",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("train", "keys", "rounds"),
    [
        ({"rounds": 30}, {}, "1 and 2"),
        ({"rounds": 30}, {"adjust_every": 1}, "1 and 2"),
        ({"rounds": 100}, {"adjust_every": 0.015}, "2 and 3"),
        ({"data_passes": 30.0}, {}, "1 and 2"),
        ({"data_passes": 30.0, "participation": 0.5}, {"local_epochs": 4, "adjust_every": 0.1}, "2 and 3"),
        ({"data_passes": 30.0}, {"local_steps": 1, "adjust_every": 1}, "1 and 2"),
        ({"rounds": 30}, {"adjust_every": 2}, None),
        ({"rounds": 100}, {}, None),
        ({"rounds": 30}, {"adjust_every": 1.0}, None),
        ({"rounds": 2}, {}, None),
        ({"data_passes": 100.0}, {}, None),
        ({"data_passes": 30.0}, {"local_steps": 1}, None),
        ({"meter_only": True}, {"adjust_every": 1}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["feddst", "fedmef"])
def test_adjustments_without_plain_training_between_them_are_refused_beforehand(
    name: str, train: dict[str, Any], keys: dict[str, Any], rounds: str | None
) -> None:
    matrix = document(method=[name], sparsity=[0.8], train=train, params={name: keys})
    if rounds is None:
        assert len(cells(matrix)) == 1
    else:
        with pytest.raises(ConfigError, match=rf"params\.{name}\.adjust_every = .* in rounds {rounds} with no plain"):
            cells(matrix)
    assert cells({**matrix, "grid": {**matrix["grid"], "sparsity": [0.0]}})


@pytest.mark.parametrize("rounds", [60, 150, 330, 1700])
def test_the_interval_that_is_advised_leaves_plain_training(rounds: int) -> None:
    matrix = document(
        method=["feddst"], sparsity=[0.8], train={"rounds": rounds}, params={"feddst": {"adjust_every": 1}}
    )
    with pytest.raises(ConfigError) as refused:
        cells(matrix)
    advised = re.search(r"\(([\d.e-]+) of the budget\)", str(refused.value))
    assert advised is not None
    keys = {"adjust_every": float(advised[1]), "adjust_until": 1.0}
    assert len(cells({**matrix, "params": {"feddst": keys}})) == 1
    assert float(advised[1]) <= 2.2 / rounds


def test_the_quick_matrix_has_all_five_methods_and_none_is_skipped() -> None:
    found = resolve(read_matrix(find_matrix("quick")), methods())
    assert len(found) == 60 and all(item.skip is None for item in found)
    counts = {name: sum(item.cell.method == name for item in found) for name in methods()}
    assert [counts[name] for name in ("fedavg", "baffle", "fed_ntk_zo", "fedtiny", "fedmef")] == [10, 10, 20, 10, 10]


def digest(name: str) -> tuple[int, int, str]:
    """Return how many cells a matrix has, how many of them are skipped, and a digest of all ids in order."""
    found = resolve(read_matrix(find_matrix(name)), methods())
    ids = json.dumps([item.cell.id for item in found]).encode()
    return len(found), sum(item.skip is not None for item in found), hashlib.sha256(ids).hexdigest()[:16]


# matrix: cells, skipped ones among them, digest of all ids in order
GOLDEN_PLANS = {
    "baffle-as-released": (6, 0, "12bab2ef9e619857"),
    "certification-cifar10": (14, 0, "96c57e7e22ccdb8e"),
    "certification": (30, 0, "65ac62d216c766dd"),
    "device-costs": (151, 0, "e022345d23e040df"),
    "fedmef-why": (35, 0, "d659980293e35cfe"),
    "fedpruning-costs": (36, 0, "cacdcd99df4da28a"),
    "fedpruning-protocol": (48, 0, "b51fa8d0a47df896"),
    "layer-densities": (288, 0, "7e8b96870770164f"),
    "masks-or-scale": (70, 0, "2072d4e17a6ea571"),
    "ntk-error": (174, 0, "4d54e94543ff0e44"),
    "paper-lenet5": (888, 0, "365ab0e8db554215"),
    "paper-resnet20": (888, 0, "0f36ded9384dc7ff"),
    "quick": (60, 0, "9e621bf9ac673646"),
    "quick-tuning": (5, 0, "0b73c9b8e8cc8578"),
    "scalar-error": (174, 0, "df9ed0b0c65a24f2"),
    "shared-perturbations": (30, 0, "07a87a6181d2f0e5"),
}
"""A matrix that changes orphans the records of every study that was made with it; a new one gets a row."""


def test_every_shipped_matrix_has_a_row_and_every_row_a_matrix() -> None:
    assert GOLDEN_PLANS.keys() - named_matrices().keys() == set()
    for name in named_matrices().keys() - GOLDEN_PLANS.keys():
        row = f'"{name}": {json.dumps(digest(name)).replace("[", "(").replace("]", ")")},'
        pytest.fail(f"Matrix {name} is new: add its row to GOLDEN_PLANS in tests/test_matrix.py: {row}", pytrace=False)


@pytest.mark.parametrize("name", sorted(GOLDEN_PLANS))
def test_every_shipped_matrix_has_the_cells_that_its_records_are_of(name: str) -> None:
    assert digest(name) == GOLDEN_PLANS[name]


GRID: Document = {
    "method": ["fedavg", "fedavg_erk", "baffle"],
    "dataset": ["digits", "mnist"],
    "model": ["lenet5"],
    "sparsity": [0.0, 0.5],
    "alpha": ["iid", 0.1],
    "params.baffle.num_perturbations": [10, 20],
    "train.clients": [4, 5],
}
TRAIN: Document = {"rounds": 2, "batch_size": 16}
IDS = {cell.id for cell in cells({"grid": GRID, "train": TRAIN})}


@settings(max_examples=25, deadline=None)
@given(randomness=st.randoms(use_true_random=False))
def test_no_order_of_lists_keys_or_blocks_changes_the_set_of_ids(randomness: random.Random) -> None:
    def shuffled(items: Any) -> list[Any]:
        return randomness.sample(list(items), len(items))

    def block(changes: Document) -> Document:
        grid = {**GRID, **changes}
        return {key: shuffled(grid[key]) for key in shuffled(grid)}

    blocks = shuffled([block({"sparsity": [0.0]}), block({"sparsity": [0.5]})])
    matrix = {"grid": randomness.choice([block({}), blocks]), "train": {key: TRAIN[key] for key in shuffled(TRAIN)}}
    found = [cell.id for cell in cells({key: matrix[key] for key in shuffled(matrix)})]
    assert set(found) == IDS and len(found) == len(IDS)


# Skips


def test_baffle_on_batch_norm_is_skipped_with_a_reason_and_runs_with_another_norm() -> None:
    models = ["lenet5:norm=batch", "lenet5:norm=group"]
    skips = {item.cell.model: item.skip for item in resolve(document(method=["baffle"], model=models), methods())}
    assert "norm=group" in (skips["lenet5:norm=batch"] or "")
    assert skips["lenet5:norm=group"] is None
    assert all(item.skip is None for item in resolve(document(model=models), methods()))


@pytest.mark.parametrize("order", [[0.9, 0.5, 0.6], [0.5, 0.9, 0.6]])
def test_a_skip_is_of_the_cell_that_was_checked_and_of_no_other(tmp_path: Path, order: list[float]) -> None:
    (tmp_path / "choosy.py").write_text(
        "from fedfore.api import Method, Skip\n"
        "class Choosy(Method):\n"
        "    '''Refuses one sparsity.'''\n"
        "    uses = frozenset({'sparsity'})\n"
        "    def check(self, cell):\n"
        "        if cell.sparsity > 0.8:\n"
        "            raise Skip('too sparse')\n"
    )
    planned = resolve(document(method=["choosy"], sparsity=order), discover([tmp_path]))
    assert {item.cell.sparsity: item.skip for item in planned} == {0.9: "too sparse", 0.5: None, 0.6: None}


# Mistakes

WRONG_NAMES: dict[str, tuple[Document, str]] = {
    "trian": (document() | {"trian": {}}, "train"),
    "sparsty": (document(sparsty=[0.5]), "sparsity"),
    "clints": (document(train={"rounds": 2, "clints": 3}), "clients"),
    "train.clints axis": (document(**{"train.clints": [3]}), "clients"),
    "fedavgg": (document(method=["fedavgg"]), "fedavg"),
    "digts": (document(dataset=["digts"]), "digits"),
    "lenet": (document(model=["lenet"]), "lenet5"),
    "nrm": (document(model=["lenet5:nrm=batch"]), "norm"),
    "batc": (document(model=["lenet5:norm=batc"]), "batch"),
    "lerning rate": (document(params={"fedavg": {"l_r": 0.1}}), "lr"),
    "params of no method": (document(params={"fedavgg": {}}), "fedavg"),
    "params axis of no method": (document(**{"params.bafle.sigma": [1e-3]}), "baffle"),
    "params axis without such a key": (document(method=["baffle"], **{"params.baffle.sigm": [1e-3]}), "sigma"),
    "estimator": (document(estimator=["directionl"]), "directional"),
    "estimator in train": (document(train={"rounds": 2, "estimator": "finite_diference"}), "finite_difference"),
    "alpha": (document(alpha=["idd"]), "iid"),
}


@pytest.mark.parametrize("case", WRONG_NAMES)
def test_a_wrong_name_is_answered_with_the_near_one(case: str) -> None:
    matrix, near = WRONG_NAMES[case]
    assert f'Did you mean "{near}"?' in sentence(matrix)


BUDGET = {"rounds": 2}
WRONG_VALUES: dict[str, tuple[Document, str]] = {
    "method missing": ({"grid": {"dataset": ["digits"], "model": ["lenet5"]}, "train": BUDGET}, '"method"'),
    "dataset missing": ({"grid": {"method": ["fedavg"], "model": ["lenet5"]}, "train": BUDGET}, '"dataset"'),
    "no grid": ({"train": BUDGET}, "[grid]"),
    "empty grid": ({"grid": {}, "train": BUDGET}, "[grid]"),
    "grid of no table": ({"grid": 3, "train": BUDGET}, "[grid]"),
    "no list": (document(seed=3), "grid.seed = 3: give a list"),
    "a name and no list": (document(method="fedavg"), "give a list"),
    "empty list": (document(seed=[]), "grid.seed is an empty list"),
    "empty dotted list": (document(**{"train.clients": []}), "train.clients is an empty list"),
    "method 1": (document(method=[1]), "names as strings"),
    "method a list": (document(method=[["fedavg"]]), "names as strings"),
    "method a table": (document(method=[{"name": "fedavg"}]), "names as strings"),
    "dataset true": (document(dataset=[True]), "names as strings"),
    "model a list": (document(model=[["lenet5"]]), "names as strings"),
    "sparsity 2": (document(method=["fedavg_erk"], sparsity=[2.0]), "2.0"),
    "sparsity 2, ignored": (document(sparsity=[2.0]), "[0, 1)"),
    "sparsity 1": (document(sparsity=[1]), "[0, 1)"),
    "sparsity negative": (document(sparsity=[-0.1]), "[0, 1)"),
    "sparsity nan": (document(sparsity=[float("nan")]), "nan"),
    "sparsity true": (document(sparsity=[True]), "True"),
    "sparsity text": (document(sparsity=["0.5"]), "'0.5'"),
    "seed negative": (document(seed=[-1]), "whole number >= 0"),
    "seed true": (document(seed=[True]), "whole number >= 0"),
    "seed 1.0": (document(seed=[1.0]), "whole number >= 0"),
    "seed text": (document(seed=["1"]), "whole number >= 0"),
    "alpha 0": (document(alpha=[0]), "positive number"),
    "alpha negative": (document(alpha=[-1.0]), "positive number"),
    "alpha true": (document(alpha=[True]), "positive number"),
    "alpha inf": (document(alpha=[float("inf")]), "positive number"),
    "shards 0": (document(alpha=["shards:0"]), "shards:S"),
    "natural without owners": (document(alpha=["natural"]), "digits knows no owners of its examples; choose another"),
    "estimator 1, ignored": (document(estimator=[1]), 'estimator "1"'),
    "estimator unknown": (document(method=["baffle"], estimator=["oracle"]), 'estimator "oracle"'),
    "no budget": (document(train={}), "exactly one of data_passes and rounds"),
    "two budgets": (document(train={"rounds": 2, "data_passes": 3.0}), "exactly one of data_passes and rounds"),
    "two budgets by an axis": (document(**{"train.data_passes": [3]}), "exactly one of data_passes and rounds"),
    "rounds 0": (document(train={"rounds": 0}), "train.rounds = 0"),
    "rounds 2.0": (document(train={"rounds": 2.0}), "train.rounds = 2.0"),
    "rounds true": (document(train={"rounds": True}), "train.rounds = True"),
    "data_passes 0": (document(train={"data_passes": 0}), "train.data_passes = 0"),
    "data_passes true": (document(train={"data_passes": True}), "train.data_passes = True"),
    "data_passes text": (document(train={"data_passes": "30"}), "train.data_passes = '30'"),
    "data_passes nan": (document(train={"data_passes": float("nan")}), "train.data_passes = nan"),
    "data_passes inf": (document(train={"data_passes": float("inf")}), "train.data_passes = inf"),
    "eval_every inf": (document(train={**BUDGET, "eval_every": float("inf")}), "train.eval_every = inf"),
    "clients text": (document(train={**BUDGET, "clients": "10"}), "train.clients = '10'"),
    "clients list": (document(train={**BUDGET, "clients": [10]}), "train.clients = [10]"),
    "participation 0": (document(train={**BUDGET, "participation": 0}), "train.participation = 0"),
    "participation 2": (document(train={**BUDGET, "participation": 2}), "train.participation = 2"),
    "validation 1": (document(train={**BUDGET, "validation_fraction": 1}), "train.validation_fraction = 1"),
    "augment on digits": (document(train={**BUDGET, "augment": True}), "does not apply to digits"),
    "augment text": (document(train={**BUDGET, "augment": "yes"}), "train.augment = 'yes'"),
    "train no table": ({**document(), "train": 3}, "[train]"),
    "params no table": ({**document(), "params": 3}, "[params]"),
    "params of a method no table": (document(params={"fedavg": 3}), "write params.fedavg.<key>, or [params.fedavg]"),
    "lr 0": (document(params={"fedavg": {"lr": 0}}), "params.fedavg.lr = 0"),
    "lr true": (document(params={"fedavg": {"lr": True}}), "params.fedavg.lr = True"),
    "lr text": (document(params={"fedavg": {"lr": "0.1"}}), "params.fedavg.lr = '0.1'"),
    "lr inf": (document(params={"fedavg": {"lr": float("inf")}}), "params.fedavg.lr = inf"),
    "schedule": (document(params={"fedavg": {"lr_schedule": "step"}}), "params.fedavg.lr_schedule = 'step'"),
    "epochs and steps": (document(params={"fedavg": {"local_epochs": 1, "local_steps": 1}}), "not both"),
    "K 0": (document(method=["baffle"], params={"baffle": {"num_perturbations": 0}}), "num_perturbations = 0"),
    "K 0 by an axis": (document(method=["baffle"], **{"params.baffle.num_perturbations": [0]}), "perturbations = 0"),
    "sigma 0": (document(method=["baffle"], params={"baffle": {"sigma": 0}}), "sigma = 0"),
    "sigma 0, method absent": (document(params={"baffle": {"sigma": 0}}), "sigma = 0"),
    "axis of an absent method": (document(**{"params.baffle.sigma": [0]}), "sigma = 0"),
    "misspelt axis of an absent method": (document(**{"params.baffle.sigm": [1]}), "sigma"),
    "dotted axis of no table": (document(**{"foo.bar": [1]}), '"foo.bar"'),
    "dotted axis without a key": (document(**{"params.baffle": [1]}), "write params.baffle.<key>, or [params.baffle]"),
    "dotted axis of three words": (document(**{"parms.baffle.sigma": [1]}), '"params.<method>.<key>"'),
    "dotted axis without quotes": ({"grid": {"params": {"baffle": {"sigma": [1]}}}}, '"params"'),
    "model option twice": (document(model=["lenet5:width=1,width=2"]), "each option once"),
    "model option no number": (document(model=["lenet5:width=wide"]), "positive number"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_wrong_value_is_one_sentence_that_names_it(case: str) -> None:
    matrix, named = WRONG_VALUES[case]
    assert named in sentence(matrix)


# Files and --set

TOML = """
[grid]
method = ["fedavg", "baffle"]
dataset = ["digits"]
model = ["lenet5"]
seed = [0, 1]
"params.baffle.num_perturbations" = [10, 20]

[train]
data_passes = 30

[params.fedavg]
lr = 0.1
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "matrix.toml"
    path.write_text(TOML)
    return path


def overridden(path: Path, *overrides: str) -> list[Cell]:
    return cells(read_matrix(path, overrides))


def test_a_file_is_found_by_its_path_and_resolves_like_its_document(toml: Path) -> None:
    assert find_matrix(str(toml)) == toml
    found = overridden(toml)
    assert len(found) == 2 + 4
    assert found[0].params["lr"] == 0.1 and found[0].train.data_passes == 30.0


def test_set_replaces_an_axis_a_key_of_train_and_a_key_of_params(toml: Path) -> None:
    assert {cell.seed for cell in overridden(toml, "seed=[3,4,5]")} == {3, 4, 5}
    assert {cell.seed for cell in overridden(toml, "seed=7")} == {7}
    assert {cell.alpha for cell in overridden(toml, "alpha=iid")} == {"iid"}
    assert {cell.alpha for cell in overridden(toml, 'alpha=["iid", 1]')} == {"iid", 1.0}
    assert {cell.train.clients for cell in overridden(toml, "train.clients=20")} == {20}
    assert overridden(toml, "params.fedavg.lr=0.3")[0].params["lr"] == 0.3
    assert {cell.params.get("num_perturbations") for cell in overridden(toml, "params.baffle.num_perturbations=5")} == {
        None, 5,
    }  # fmt: skip
    assert {cell.params.get("sigma") for cell in overridden(toml, "params.baffle.sigma=1e-3")} == {None, 1e-3}
    assert [cell.method for cell in overridden(toml, "method=fedavg", " seed = 1 ")] == ["fedavg"]


def test_set_of_a_dotted_key_to_a_list_is_an_axis(toml: Path) -> None:
    found = overridden(toml, "train.clients=[4,5]", "params.baffle.sigma=[1e-3,1e-4]", "seed=0")
    assert [cell.method for cell in found] == ["fedavg"] * 2 + ["baffle"] * 8
    assert {(cell.train.clients, cell.params.get("sigma")) for cell in found} == {
        (clients, sigma) for clients in (4, 5) for sigma in (None, 1e-3, 1e-4)
    }


def test_set_replaces_an_axis_in_every_block(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text(
        "".join(f'[[grid]]\nmethod = ["{name}"]\ndataset = ["digits"]\nmodel = ["lenet5"]\nseed = [0]\n'
                for name in ("fedavg", "baffle")) + "[train]\nrounds = 2\n"
    )  # fmt: skip
    assert [(cell.method, cell.seed) for cell in overridden(path, "seed=[5]")] == [("fedavg", 5), ("baffle", 5)]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed", "key=value"),
        ("", "key=value"),
        ("=3", "key=value"),
        ("sed=3", 'Did you mean "seed"?'),
        ("train=3", 'no key "train"'),
        ("train.clints=3", 'Did you mean "clients"?'),
        ("train.clients=ten", "train.clients = 'ten'"),
        ("train.clients.more=3", "train.clients"),
        ("params.fedavg.lr.more=3", "params.fedavg.lr"),
        ("params.bafle.sigma=1", 'Did you mean "baffle"?'),
        ("seed=[0,1", "whole number"),
        ("trian.clients=3", 'Did you mean "train"?'),
    ],
)
def test_a_bad_set_is_one_sentence(toml: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(toml, override)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[grid", "a = ", 'x = "\n', "[grid]\nseed = [0]\nseed = [1]\n"])
def test_a_file_that_is_no_toml_is_one_sentence_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no valid TOML") as caught:
        read_matrix(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\0")
    with pytest.raises(ConfigError, match="no valid TOML"):
        read_matrix(path)


def test_a_matrix_that_is_not_there_is_answered_with_the_near_name() -> None:
    with pytest.raises(ConfigError, match='Did you mean "quick"'):
        find_matrix("quik")

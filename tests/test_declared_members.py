"""What a method class declares is checked when its file is found: what the harness could not read is one sentence."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from pydantic import PositiveInt
from torch import nn

from fedfore.api import Key, Look, Method, Update
from fedfore.cell import Protocol
from fedfore.contract.config import declared_keys
from fedfore.contract.declarations import check_declarations
from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError, ContractError, PluginError
from fedfore.execution.conformance import check_method
from fedfore.execution.planning import Planning
from fedfore.federation.observers.diagnoser import estimated
from fedfore.primitives.keys import Key as OneKey
from tests.conftest import make_cell


@dataclass(frozen=True)
class Inner:
    """A table in a table."""

    trials: Annotated[int, Key(linear_in="train")] = 3


def with_key(hint: Any, default: Any = 5) -> type[Method]:
    config = make_dataclass("Config", [("trials", hint, default)], frozen=True)
    return type("Mine", (Method,), {"__doc__": "Mine.", "Config": config})


def with_members(**members: Any) -> type[Method]:
    return type("Mine", (Method,), {"__doc__": "Mine.", "__module__": __name__, **members})


@pytest.mark.parametrize(
    ("hint", "default", "said"),
    [
        (Annotated[int, Key(linear_in="trian")], 5, "linear_in 'trian', and the phases are setup and train"),  # type: ignore[arg-type]
        (Annotated[float, Key(linear_in="train")], 5.0, "declares linear_in, which is read of whole numbers"),
        (Annotated[bool, Key(local_steps=True)], False, "declares local_steps, which is read of whole numbers"),
        (Annotated[str, Key(period=True)], "a", "declares period, which is read of whole numbers"),
        (Annotated[int, Key], 5, "annotated with the class Key"),
        (tuple[Annotated[int, Key(linear_in="train")], ...], (5,), "has a Key inside its type"),
        (Inner, Inner(), "has a Key inside its type"),
    ],
)  # fmt: skip
def test_a_declaration_that_nobody_reads_is_one_sentence(hint: Any, default: Any, said: str) -> None:
    with pytest.raises(PluginError, match="key trials") as caught:
        check_declarations(with_key(hint, default), "mine")
    assert said in str(caught.value)


@pytest.mark.parametrize("tiny", ["four", 4.0, -1])
def test_a_tiny_value_that_the_key_does_not_admit_is_one_sentence(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"tiny of mine\.trials"):
        check_declarations(with_key(Annotated[PositiveInt, Key(tiny=tiny)]), "mine")


@pytest.mark.parametrize(
    "hint",
    [
        Annotated[int, Key(linear_in="train", tiny=3)] | None,
        Annotated[int | None, Key(linear_in="train", tiny=3)],
        Annotated[Annotated[PositiveInt, Key(tiny=9)] | None, Key(linear_in="train", tiny=3)],
    ],
)
def test_a_declaration_is_read_beside_a_type_and_beside_a_part_of_a_union(hint: Any) -> None:
    method = with_key(hint)
    check_declarations(method, "mine")
    assert declared_keys(method.Config) == {"trials": OneKey(linear_in="train", tiny=3)}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"uses": None}, "its `uses` is None"),
        ({"uses": "sparsity"}, "its `uses` is 'sparsity'"),
        ({"estimate": 3}, "its `estimate` is a int, and not a function"),
    ],
)
def test_a_member_of_another_kind_is_named(members: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_declarations(with_members(**members), "mine")
    assert said in str(caught.value)


def test_a_look_whose_colour_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="colour 3 is not written"):
        Look(colour=3)  # type: ignore[arg-type]


def noting(self: Method, model: nn.Module, updates: list[Update], ctx: Any) -> None:
    Method.aggregate(self, model, updates, ctx)
    ctx.notes["x"] = {1, 2}


def badly_named(self: Method, model: nn.Module, client: Any, ctx: Any) -> Update:
    update = Method.client_update(self, model, client, ctx)
    return Update(update.num_examples, update.weights, tensors={"\ud800": torch.ones(1)})


@pytest.mark.parametrize(
    ("members", "rule", "said"),
    [
        ({"round_kind": lambda self, ctx: 3}, "hook_type", "Mine.round_kind must return str, got int"),
        ({"examples_at_once": lambda self, phase: "8"}, "hook_type", "Mine.examples_at_once must return a whole"),
        ({"aggregate": noting}, "notes", "no JSON"),
        ({"client_update": badly_named}, "message_type", "give it one that is UTF-8"),
    ],
)  # fmt: skip
def test_what_a_hook_returns_wrongly_is_named_with_what_it_should_be(
    members: dict[str, Any], rule: str, said: str
) -> None:
    entry = MethodEntry("mine", "plugin", Path(__file__), with_members(**members))
    found = [(one.rule, one.sentence) for one in check_method(entry) if one.outcome == "broken"]
    assert any(name == rule and said in sentence for name, sentence in found), found


def test_a_model_that_is_not_returned_by_prepare_is_named_on_planning() -> None:
    method = with_members(prepare=lambda self, model: None)
    entry = MethodEntry("mine", "plugin", Path(__file__), method)
    with pytest.raises(ConfigError, match="prepare must return Module, got NoneType"):
        Planning({"mine": entry}).skip_reason(replace(make_cell(method), method="mine"))


@pytest.mark.parametrize(
    ("gradient", "step", "said"),
    [
        ([0.0], None, "Estimate.gradient must return Tensor, got list"),
        (torch.zeros(8), "a step", "Estimate.step must return Step, got str"),
    ],
)
def test_an_estimate_of_other_parts_is_named(gradient: Any, step: Any, said: str) -> None:
    from fedfore.api import Estimate

    method = with_members(estimate=lambda *_: Estimate(gradient, step))(None)
    with pytest.raises(ContractError, match=said):
        estimated(method, nn.Linear(7, 1), None, None, None)  # type: ignore[arg-type]


def test_a_centralised_configuration_of_another_class_is_named(federation: Any) -> None:
    from tests.test_contract import Sparse

    class Elsewhere(Sparse):
        def centralised(self, clients: int, *, real_inputs: bool = False) -> Any:
            return {"clients": clients}

    made = federation(Elsewhere, Protocol(clients=4, batch_size=16, rounds=1, compare_masks=True), sparsity=0.8)
    with pytest.raises(ContractError, match="centralised must return LocalSGDConfig, got dict"):
        made.run()

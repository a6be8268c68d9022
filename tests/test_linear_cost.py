"""A key that says a cost is linear in it is believed in metering; `fedfore check` finds those that say so falsely."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import torch
from pydantic import PositiveInt
from torch import nn

from fedfore.api import Client, ClientContext, Key, Method, ServerContext, Update
from fedfore.contract.registry import MethodEntry
from fedfore.execution.conformance import check_method
from fedfore.execution.finding import Finding
from fedfore.primitives.flat import flat_parameters


@dataclass(frozen=True)
class Config:
    """A count that says a device's cost is linear in it, and how many forward passes it stands for."""

    trials: Annotated[PositiveInt, Key(linear_in="train", tiny=4)] = 100
    passes: str = "n"
    sends: str = "scalars"


PASSES: Mapping[str, Callable[[int], int]] = {
    "n": lambda n: n,
    "antithetic pairs": lambda n: 2 * (n // 2),
    "one in ten": lambda n: -(-n // 10),
    "square": lambda n: n * n,
    "digits": lambda n: n.bit_length(),
    "after a warm-up": lambda n: max(n - 50, 1),
}


class Trials(Method):
    """Forward passes."""

    Config: ClassVar[type] = Config

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        ((x, _),) = client.batches(steps=1)
        with torch.no_grad():
            out = torch.stack([model(x).sum() for _ in range(PASSES[self.config.passes](self.config.trials))])
        if self.config.sends == "signs":
            return Update(client.num_examples, tensors={"signs": out > 0})
        return Update(client.num_examples, scalars=out)

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        flat_parameters(model).add_(1e-3)


def linear_cost(method: type[Method]) -> Finding:
    (found,) = [one for one in check_method(MethodEntry("mine", "plugin", Path(__file__), method)) if _is(one)]
    return found


def _is(finding: Finding) -> bool:
    return finding.rule == "linear_cost"


def trials(passes: str, sends: str = "scalars") -> type[Method]:
    own = make_dataclass("Own", [("passes", str, passes), ("sends", str, sends)], bases=(Config,), frozen=True)
    return type("Trials", (Trials,), {"__doc__": "Trials.", "Config": own, "__module__": __name__})


@pytest.mark.parametrize("passes", sorted(PASSES.keys() - {"n"}))
def test_a_count_that_is_not_linear_in_cost_is_named_with_both_costs(passes: str) -> None:
    found = linear_cost(trials(passes))
    assert found.outcome == "broken"
    assert "Config.trials = " in found.sentence and "as a linear key" in found.sentence


def test_bytes_that_do_not_grow_with_each_one_are_named() -> None:
    found = linear_cost(trials("n", "signs"))
    assert found.outcome == "broken" and "uplink_bytes" in found.sentence


def test_a_linear_count_passes() -> None:
    assert linear_cost(trials("n")).outcome == "ok"

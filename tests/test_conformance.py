"""`fedfore check`: each rule says what to change, keys that do nothing are found, and published methods pass."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedfore.cli.main import main
from fedfore.contract.method import Method
from fedfore.contract.registry import discover, lookup
from fedfore.execution.remedies import REMEDIES
from fedfore.federation.loop import Federation
from fedfore.primitives.flat import flat_parameters
from fedfore.records.sources import PACKAGE
from tests.conftest import TINY

PLUGINS = Path(__file__).parent / "plugins"
PUBLISHED = discover([PLUGINS])

KEYS = """
from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveFloat

from fedfore.api import Fraction, Method
from fedfore.primitives.local_sgd import LocalSGDConfig


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    scale: Fraction = 1.0
    kind: Literal["plain", "scaled"] = "plain"
    forgotten: PositiveFloat = 0.5
    unread: Literal["a", "b"] = "a"


class Keys(Method):
    '''Scales what was averaged, if asked to.'''

    Config = Config

    def aggregate(self, model, updates, ctx):
        super().aggregate(model, updates, ctx)
        if self.config.kind == "scaled":
            next(model.parameters()).data.mul_(0.5 * self.config.scale)
"""


def rules() -> set[str]:
    """Return the name of every rule that the suite raises for."""
    nodes = (node for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    calls = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "ContractError")
    return {str(call.args[0].value) for call in calls if isinstance(call.args[0], ast.Constant)}


def test_every_rule_says_what_to_change() -> None:
    assert rules() == set(REMEDIES)
    assert all(text.endswith(".") and "\n" not in text for text in REMEDIES.values())


def test_a_broken_rule_ends_with_what_to_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "still.py").write_text(
        "from fedfore.api import Method\n\n\nclass Still(Method):\n    '''Trains nothing.'''\n\n"
        "    def aggregate(self, model, updates, ctx):\n        pass\n"
    )
    assert main(["check", "still", "--plugins", str(tmp_path)]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("broken"))
    assert " trains: No weight moved" in line and line.endswith(REMEDIES["trains"])


@pytest.mark.thorough
def test_own_keys_that_do_nothing_are_named_and_those_that_another_switches_on_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys.py").write_text(KEYS)
    assert main(["check", "keys", "--plugins", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok"))
    assert line.startswith("warning") and "changes with forgotten, unread; read self.config.forgotten" in line


@pytest.mark.parametrize("name", ["scaffold", "topk", "feddyn"])
@pytest.mark.thorough
def test_a_published_method_takes_less_than_sixty_lines_and_keeps_the_contract(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len((PLUGINS / f"{name}.py").read_text(encoding="utf-8").splitlines()) < 60
    assert main(["check", name, "--plugins", str(PLUGINS)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok")] == []


Make = Callable[..., Federation]


def trained(federation: Make, name: str, rounds: int, clients: int = 4, **given: Any) -> torch.Tensor:
    method: type[Method] = lookup(PUBLISHED, name)
    train = replace(TINY, rounds=rounds, clients=clients)
    return flat_parameters(federation(method, train, given=given).run().server.model)


def test_with_one_client_scaffold_is_fedavg(federation: Make) -> None:
    assert torch.allclose(trained(federation, "scaffold", 2, 1), trained(federation, "fedavg", 2, 1), atol=1e-6)
    assert not torch.allclose(trained(federation, "scaffold", 2), trained(federation, "fedavg", 2), atol=1e-6)


def test_with_all_entries_sent_topk_is_fedavg(federation: Make) -> None:
    assert torch.allclose(trained(federation, "topk", 2, kept=1.0), trained(federation, "fedavg", 2), atol=1e-6)
    assert not torch.allclose(trained(federation, "topk", 2, kept=0.1), trained(federation, "fedavg", 2), atol=1e-6)


def test_feddyn_begins_as_twice_the_step_of_fedprox(federation: Make) -> None:
    initial = flat_parameters(federation(lookup(PUBLISHED, "fedavg"), TINY).server.model).clone()
    step = trained(federation, "fedprox", 1, mu=0.1) - initial
    assert torch.allclose(trained(federation, "feddyn", 1, penalty=0.1), initial + 2 * step, atol=1e-6)

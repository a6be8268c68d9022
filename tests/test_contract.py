"""Every rule of the plug-in contract, proved with a small cheating method that it catches."""

import ast
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from inspect import isfunction
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Mask, Message, Method, ServerContext, Skip, Update
from fedfore.cli.main import main
from fedfore.contract.instance import make_config
from fedfore.contract.registry import MethodEntry, discover
from fedfore.errors import ConfigError, ContractError
from fedfore.execution.conformance import check_method
from fedfore.execution.finding import Finding
from fedfore.federation.loop import Federation
from fedfore.masks import erk_densities, erk_mask, prunable_shapes, random_mask
from fedfore.primitives.flat import model_tensors
from tests.test_layers import FILES

SHIPPED = discover()


class Sparse(Method):
    """A static mask at the asked sparsity."""

    uses: ClassVar[frozenset[str]] = frozenset({"sparsity"})

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        return erk_mask(model, ctx.cell.sparsity, ctx.rng("method"))


class KeepsStateOnSelf(Method):
    """Counts rounds on self."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        self.rounds = ctx.round


class HidesStateInAList(Method):
    """Keeps a list on self from construction, and grows it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.memory: list[int] = []

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        self.memory.append(client.id)
        return super().client_update(model, client, ctx)


class UsesGlobalTorchRng(Method):
    """Adds global noise."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        super().aggregate(model, updates, ctx)
        torch.rand(1)


class SendsUnmaskedWeights(Sparse):
    """Forgets the mask in local training."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        tensors = {name: value + 0.01 for name, value in model_tensors(model).items()}
        return Update(weights=tensors, num_examples=client.num_examples)


class RevivesOnTheServer(Sparse):
    """Adds to every weight of the server's model, pruned or not."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        super().aggregate(model, updates, ctx)
        for parameter in model.parameters():
            parameter.data.add_(1e-3)


class RevivesByANewMask(Sparse):
    """Draws a new mask every round without saying that it grows."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        super().aggregate(model, updates, ctx)
        return self.start(model, ctx)


class MissesTheSparsity(Sparse):
    """Keeps twice as much as asked."""

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        shapes = prunable_shapes(model)
        return random_mask(shapes, erk_densities(shapes, 2 * (1 - ctx.cell.sparsity)), ctx.rng("method"))


class ClaimsASparsityWithoutAMask(Sparse):
    """Says it prunes and does not."""

    def start(self, model: nn.Module, ctx: ServerContext) -> None:
        return None


class ReportsItsOwnMetric(Method):
    """Returns an accuracy where the contract asks for a mask."""

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Any:
        return {"test_accuracy": 1.0}


class KeepsAnObject(Method):
    """Keeps what no checkpoint can hold."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        client.state["model"] = model
        return super().client_update(model, client, ctx)


class NeverSendsAModel(Method):
    """Sends nothing."""

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        return Message(model=False)


class MasksWithFloats(Sparse):
    """Returns weights of 0.0 and 1.0."""

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        return Mask({name: torch.ones(shape) for name, shape in prunable_shapes(model).items()})


class EditsTheMask(Sparse):
    """A device that keeps every weight of a layer in the mask that it shares with all."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        assert ctx.mask is not None
        ctx.mask["fc1.weight"].fill_(True)
        return super().client_update(model, client, ctx)


class LosesABuffer(Method):
    """Sends a part of the model."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        whole: Mapping[str, Tensor] = model_tensors(model)
        return Update(weights=dict(list(whole.items())[1:]), num_examples=client.num_examples)


CHEATS = {
    KeepsStateOnSelf: "self_state",
    HidesStateInAList: "self_state",
    UsesGlobalTorchRng: "global_rng",
    SendsUnmaskedWeights: "mask_leak",
    RevivesOnTheServer: "mask_leak",
    RevivesByANewMask: "revival",
    MissesTheSparsity: "sparsity",
    ClaimsASparsityWithoutAMask: "sparsity",
    ReportsItsOwnMetric: "hook_type",
    KeepsAnObject: "state_type",
    NeverSendsAModel: "no_model",
    MasksWithFloats: "mask_type",
    LosesABuffer: "weights",
    EditsTheMask: "mask_edit",
}


@pytest.mark.parametrize(("cheat", "rule"), CHEATS.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_cheat_is_caught_by_its_rule(federation: Callable[..., Federation], cheat: type[Method], rule: str) -> None:
    with pytest.raises(ContractError) as caught:
        federation(cheat, sparsity=0.8 if "sparsity" in cheat.uses else 0.0).run()
    assert caught.value.rule == rule


def test_the_honest_twin_of_the_sparse_cheats_passes(federation: Callable[..., Federation]) -> None:
    federation(Sparse, sparsity=0.8).run()


def test_a_client_context_has_no_server_state() -> None:
    assert not {"state", "seed", "cohort"} & set(dir(ClientContext))


KINDS = ("fedavg", "fedavg_erk", "feddst")
"""Dense, static and pruned in training; methods without backpropagation and those with a setup take longer."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in SHIPPED]
)
def test_every_shipped_method_keeps_the_contract(name: str) -> None:
    assert [finding for finding in check_method(SHIPPED[name]) if finding.outcome == "broken"] == []


def test_an_installed_packages_entry_point_is_a_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "their_package.py").write_text(
        'from fedfore.api import Method\n\n\nclass Theirs(Method):\n    """Their method."""\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("theirs", "their_package:Theirs", "fedfore.methods")
    broken = EntryPoint("gone", "no_such_package:Gone", "fedfore.methods")
    monkeypatch.setattr("fedfore.contract.registry.entry_points", lambda group: [point, broken])
    found = discover()
    assert (found["theirs"].role, found["theirs"].summary) == ("plugin", "Their method.")
    assert "no_such_package" in (found["gone"].problem or "")


def test_an_entry_point_whose_name_is_taken_or_cannot_be_one_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("fedavg", "../../../escaped", "=cmd|calc", "a.b", "")
    points = [EntryPoint(name, f"package{i}:Theirs", "fedfore.methods") for i, name in enumerate(names)]
    monkeypatch.setattr("fedfore.contract.registry.entry_points", lambda group: points)
    found = discover()
    assert found["fedavg"].role == "baseline"
    assert "has that name" in (found["package0:Theirs"].problem or "")
    assert all("letters, digits, _ and -" in (found[name].problem or "") for name in names[1:])
    assert main(["ls", "methods"]) == 0 and "fedavg " in capsys.readouterr().out


def findings_of(method: type[Method]) -> list[Finding]:
    return check_method(MethodEntry(method.__name__, "plugin", Path(__file__), method))


class Leaky(Method):
    """Remembers earlier runs in the class, where the harness cannot see it."""

    calls: ClassVar[list[int]] = []

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        super().aggregate(model, updates, ctx)
        self.calls.append(1)
        next(model.parameters()).data.mul_(1 + 0.01 * len(self.calls))


class UnequalTwin(Method):
    """Its vectorised form forgets one client's weights."""

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        return [Update(weights=model_tensors(model), num_examples=client.num_examples) for client in clients]


class NamesAMetric(Method):
    """Brings its own accuracy."""

    test_accuracy = 1.0


class Elsewhere(Method):
    """Does not apply."""

    def check(self, cell: Any) -> None:
        raise Skip("needs another data set")


@pytest.mark.parametrize(
    ("method", "rules"),
    [
        (Leaky, ["hidden_state", "repeatable"]),
        (UnequalTwin, ["vectorised"]),
        (NamesAMetric, ["own_metric"]),
    ],
)
def test_the_conformance_suite_names_the_broken_rules(method: type[Method], rules: list[str]) -> None:
    assert [finding.rule for finding in findings_of(method) if finding.outcome == "broken"] == rules


def test_the_conformance_suite_reports_a_skip_with_its_reason() -> None:
    assert {(f.outcome, f.sentence) for f in findings_of(Elsewhere) if f.rule == "runs"} == {
        ("skip", "needs another data set")
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"momentun": 0.9}, 'Did you mean "momentum"?'),
        ({"lr": "0.1"}, "valid number"),
        ({"lr": -1.0}, "greater than 0"),
        ({"local_epochs": True}, "valid integer"),
        ({"local_epochs": 1, "local_steps": 1}, "not both"),
        ({"lr_schedule": "cosin"}, "cosine"),
    ],
)
def test_a_bad_parameter_is_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"params\.fedavg") as caught:
        make_config(Method, given, "params.fedavg")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# Hooks


OPTIONAL = [name for name, kind in Method.__annotations__.items() if kind.startswith("Callable")]
HOOKS = [*(name for name, own in vars(Method).items() if isfunction(own) and not name.startswith("_")), *OPTIONAL]


def names_asked_of_a_method() -> set[str]:
    """Return the attributes that the harness reads of `method`, `instance` or `instantiate(...)`, by its syntax."""
    rooms = ("fedfore.federation", "fedfore.measure", "fedfore.execution")
    found = set()
    for module, file in FILES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if module.startswith(rooms) else ():
            if isinstance(node, ast.Attribute):
                owner = node.value.func if isinstance(node.value, ast.Call) else node.value
                if ast.unparse(owner).rpartition(".")[2] in ("method", "instance", "instantiate"):
                    found.add(node.attr)
    return found


def test_every_hook_is_called_by_the_harness() -> None:
    assert {"check", "start", "client_update", "client_updates", "estimate"} <= set(HOOKS)
    assert set(HOOKS) - names_asked_of_a_method() == set()

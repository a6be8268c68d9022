"""Models that a user may bring: what is merely unusual runs, what cannot run is one sentence before the first cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError
from fedfore.federation.loop import Federation
from fedfore.measure.ntk import empirical_ntk
from fedfore.primitives.flat import active_coordinates, flat_parameters
from fedfore.primitives.gradients import Batch, flat_gradient
from fedfore.tasks.model_registry import MODELS, Architecture, Model
from fedfore.tasks.models import build
from tests.conftest import TINY

METHODS = discover()
SMALL = {"num_perturbations": 4, "iterations": 1, "draws": 1, "inputs_per_draw": 4, "adjust_every": 1}


def frozen(input_shape, num_classes: int) -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(input_shape[0], 4, 3, 4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 6 * 6, num_classes),
    )  # fmt: skip
    net[0].requires_grad_(False)
    return net


class Templates(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.templates = nn.Parameter(torch.zeros(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.templates


def without_layers(input_shape, num_classes: int) -> nn.Module:
    return Templates(input_shape[0] * input_shape[1] * input_shape[2], num_classes)


class Unused(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, 4)
        self.auxiliary = nn.Linear(10, 3)
        self.fc = nn.Linear(4 * 8 * 8, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).flatten(1))


def unused(input_shape, num_classes: int) -> nn.Module:
    return Unused(input_shape[0], num_classes)


class Tied(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(inputs, inputs), nn.Linear(inputs, inputs), nn.Linear(inputs, classes)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x.flatten(2).mean(1))))


def tied(input_shape, num_classes: int) -> nn.Module:
    return Tied(input_shape[1] * input_shape[2], num_classes)


def untrainable(input_shape, num_classes: int) -> nn.Module:
    return frozen(input_shape, num_classes).requires_grad_(False)


def vector_norm(input_shape, num_classes: int) -> nn.Module:
    pixels = input_shape[0] * input_shape[1] * input_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, num_classes))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (frozen, without_layers, unused, tied, untrainable, vector_norm):
        monkeypatch.setitem(MODELS, function.__name__, Model("A user's.", partial(Architecture, function)))


def run(federation: Callable[..., Federation], name: str, model: str, **fields):
    method = METHODS[name].method
    given = {key: value for key, value in SMALL.items() if hasattr(method.Config(), key)} | fields.pop("given", {})
    if "estimator" in method.uses:
        fields.setdefault("estimator", "directional")
    sparsity = 0.5 if "sparsity" in method.uses else 0.0
    made = federation(
        method, replace(TINY, min_client_examples=8), model=model, given=given, sparsity=sparsity, **fields
    )
    return made, made.run()


EVERYWHERE = [name for name, entry in METHODS.items() if entry.role != "plugin"]


@pytest.mark.parametrize("model", ["frozen", "unused"])
@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.thorough
def test_every_method_trains_a_model_with_a_layer_that_is_frozen_or_not_used(
    federation: Callable[..., Federation], name: str, model: str
) -> None:
    _, result = run(federation, name, model, ntk=name == "fedavg")
    fields = result.fields()
    assert fields["test_accuracy"] is not None and fields["device_step_flops"] > 0
    if name == "fedavg":
        assert fields["ntk_reason"] is None
    if model == "frozen":
        built = build("frozen", (1, 32, 32), 10)
        assert torch.equal(result.model[0].weight, built[0].weight) and built[0].weight.any()
        assert not torch.equal(result.model[2].weight, built[2].weight)


@pytest.mark.parametrize("estimator", ["finite_difference", "directional", "exact"])
def test_a_frozen_layer_is_neither_perturbed_nor_decayed(federation: Callable[..., Federation], estimator: str) -> None:
    _, result = run(federation, "baffle", "frozen", estimator=estimator, given={"weight_decay": 0.1, "init_scale": 0.5})
    assert torch.equal(result.model[0].weight, build("frozen", (1, 32, 32), 10)[0].weight)
    active = active_coordinates(result.model, None)
    assert active is not None and len(active) == sum(p.numel() for p in result.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("restore", ["seed", "copy", "as_released"])
def test_finite_differences_leave_a_frozen_layer_alone(federation: Callable[..., Federation], restore: str) -> None:
    changed = []

    def watch(module: nn.Module, inputs: object) -> None:
        changed.append(not torch.equal(module.weight, kept))

    method = METHODS["baffle"].method
    made = federation(
        method, model="frozen", estimator="finite_difference", given={"num_perturbations": 3, "restore": restore}
    )
    kept = made.model[0].weight.detach().clone()
    made.clients.model[0].register_forward_pre_hook(watch)
    made.run()
    assert changed and not any(changed)


@pytest.mark.parametrize("memory", ["checkpoint", "optimizer_in_backward", "accumulate"])
def test_the_ways_to_save_memory_train_a_model_with_a_frozen_layer_alike(
    federation: Callable[..., Federation], memory: str
) -> None:
    given = {"memory": memory} | ({"micro_batch": 8} if memory == "accumulate" else {})
    _, plain = run(federation, "fedavg", "frozen")
    _, saving = run(federation, "fedavg", "frozen", given=given)
    for one, other in zip(plain.model.parameters(), saving.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_and_kernels_of_what_is_frozen_or_not_used_are_zero() -> None:
    batch = Batch(torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2]))
    for name, part in (("frozen", "0"), ("unused", "auxiliary")):
        model = build(name, (1, 32, 32), 10)
        gradient = flat_gradient(model, batch)
        assert len(gradient) == len(flat_parameters(model)) and bool(gradient.any())
        sizes = [p.numel() for p in model.parameters()]
        of_part = [own.startswith(part) for own, _ in model.named_parameters()]
        pieces = zip(gradient.split(sizes), of_part, strict=True)
        assert all(bool(piece.any()) != odd for piece, odd in pieces)
        assert bool(empirical_ntk(model, batch.x).diagonal().min() > 0)


def test_dense_training_needs_no_layer_that_can_be_pruned(federation: Callable[..., Federation]) -> None:
    _, result = run(federation, "fedavg", "without_layers", ntk=True)
    fields = result.fields()
    assert (fields["num_prunable"], fields["sparsity_measured"]) == (0, 0.0)
    assert "no prunable weight" in fields["ntk_reason"]
    assert fields["forward_macs_dense"] == 1024 * 10


def test_a_kernel_that_cannot_be_computed_does_not_end_its_cell(
    federation: Callable[..., Federation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no batching rule\nfor this")

    monkeypatch.setattr("fedfore.federation.observers.kernels.measure", fails)
    _, result = run(federation, "fedavg", "unused", ntk=True)
    reason = result.fields()["ntk_reason"]
    assert reason == "The kernel of this model cannot be computed: RuntimeError: no batching rule for this."


@pytest.mark.parametrize(
    ("model", "said"), [("tied", 'ties "b.weight" to "a.weight"'), ("untrainable", "nothing to train")]
)
def test_what_cannot_be_trained_is_one_sentence_of_the_plan(
    model: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--set", f"model={model}"]) == 2
    sentence = capsys.readouterr().err
    assert said in sentence and sentence.count("\n") == 1


def test_pruning_what_has_no_layer_to_prune_is_skipped_in_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "plan",
                "--set",
                "model=without_layers",
                "--set",
                "sparsity=[0.5]",
                "--set",
                'method=["fedavg", "fedavg_erk"]',
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()[:-1]
    assert {"skipped: " in line for line in lines if line.startswith("fedavg_erk")} == {True}
    assert not any("skipped: " in line for line in lines if line.startswith("fedavg-"))


def test_a_last_batch_of_one_under_a_norm_over_vectors_is_one_sentence(federation: Callable[..., Federation]) -> None:
    method = METHODS["fedavg"].method
    with pytest.raises(ConfigError, match=r"choose another train\.batch_size"):
        federation(method, replace(TINY, batch_size=39), model="vector_norm")  # 40 examples a client
    federation(method, replace(TINY, batch_size=38, rounds=1), model="vector_norm").run()
    federation(method, replace(TINY, batch_size=39, rounds=1), model="lenet5:norm=batch").run()

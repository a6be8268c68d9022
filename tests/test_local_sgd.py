"""Local SGD: its memory options change what a step needs, not what it computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.contract.config import validated
from fedfore.errors import ConfigError, Skip
from fedfore.masks import Mask, erk_densities, prunable_shapes, prunable_weights, random_mask
from fedfore.measure.step_meter import StepCost, StepMeter
from fedfore.primitives.checkpointing import checkpointed, segments
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise

CIFAR = (3, 32, 32)
BATCH = 12
MODELS = ["lenet5:activation=hardswish", "resnet14:norm=group,activation=hardswish,width=0.5"]
SAME = [{"memory": "none"}, {"memory": "checkpoint"}, {"memory": "optimizer_in_backward"}]

Batches = Sequence[tuple[Tensor, Tensor]]


def batches(count: int = 2, size: int = BATCH) -> Batches:
    generator = torch_generator(0)
    return [(torch.randn(size, *CIFAR, generator=generator), torch.arange(size) % 10) for _ in range(count)]


def erk(model: nn.Module, density: float = 0.3) -> Mask:
    shapes = prunable_shapes(model)
    return random_mask(shapes, erk_densities(shapes, density), torch_generator(1))


def trained(
    name: str, data: Batches, masked: bool = False, dtype: torch.dtype = torch.float32, **keys: Any
) -> dict[str, Tensor]:
    """Return the state of a model after local SGD."""
    model = build(name, CIFAR, 10).to(dtype)
    mask = erk(model) if masked else None
    if mask is not None:
        mask.apply_(prunable_weights(model))
    config = LocalSGDConfig(**keys)
    local_sgd(model, [(x.to(dtype), y) for x, y in data], config, 0.05, mask)
    if mask is not None:
        assert mask.leak(dict(model.named_parameters())) is None
    return model.state_dict()


def cost(name: str, size: int, **keys: Any) -> StepCost:
    model = build(name, CIFAR, 10)
    flat_parameters(model)
    data = batches(1, size)
    with StepMeter(model, None, {"parameters": [p.data for p in model.parameters()], "messages": [*data[0]]}) as meter:
        local_sgd(model, data, LocalSGDConfig(**keys), 0.05, None)
        return meter.cost()


def plain_sgd(name: str, data: Batches, momentum: float, weight_decay: float) -> dict[str, Tensor]:
    """Return the state after textbook SGD: v <- momentum v + g + weight_decay w; w <- w - lr v."""
    model = build(name, CIFAR, 10)
    velocity = {p: torch.zeros_like(p) for p in model.parameters()}
    for x, y in data:
        gradients = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
        with torch.no_grad():
            for p, g in zip(model.parameters(), gradients, strict=True):
                velocity[p].mul_(momentum).add_(g).add_(p, alpha=weight_decay)
                p.sub_(velocity[p], alpha=0.05)
    return model.state_dict()


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 1e-2)])
def test_it_is_textbook_sgd(momentum: float, weight_decay: float) -> None:
    own = trained("lenet5", batches(3), momentum=momentum, weight_decay=weight_decay)
    for name, value in plain_sgd("lenet5", batches(3), momentum, weight_decay).items():
        torch.testing.assert_close(own[name], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [*MODELS, "mobilenet_v2:width=0.25"])
@pytest.mark.parametrize("keys", SAME[1:], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_memory_options_give_the_same_bits(name: str, keys: dict[str, Any], masked: bool) -> None:
    """Weights and, where there is batch norm, running statistics."""
    plain = trained(name, batches(), masked, momentum=0.9, weight_decay=1e-3)
    saving = trained(name, batches(), masked, momentum=0.9, weight_decay=1e-3, **keys)
    for key, value in plain.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(saving[key], value), key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("micro_batch", [1, 5, BATCH, 100])
def test_accumulated_micro_batches_are_the_whole_batch(name: str, micro_batch: int) -> None:
    """5 does not divide 12: every example weighs the same. In float64, so that the order of additions is nothing."""
    keys: dict[str, Any] = {"momentum": 0.9, "dtype": torch.float64}
    plain = trained(name, batches(), **keys)
    accumulated = trained(name, batches(), memory="accumulate", micro_batch=micro_batch, **keys)
    for key, value in plain.items():
        torch.testing.assert_close(accumulated[key], value, rtol=1e-5, atol=1e-12)
        assert micro_batch < BATCH or torch.equal(accumulated[key], value), key


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 9), micro_batch=st.integers(1, 9))
def test_every_example_weighs_the_same_in_any_micro_batch(size: int, micro_batch: int) -> None:
    """One linear layer of zeros: the gradient of an example's loss is known, so is the step."""
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    nn.init.zeros_(model[0].weight)
    x, y = torch.randn(size, 4, generator=torch_generator(size)), torch.arange(size) % 2
    config = LocalSGDConfig(memory="accumulate", micro_batch=micro_batch)
    local_sgd(model, [(x, y)], config, 1.0, None)
    step = ((0.5 - torch.nn.functional.one_hot(y, 2).float()).T @ x) / size
    torch.testing.assert_close(model[0].weight.detach(), -step, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", [*SAME, {"memory": "accumulate", "micro_batch": 5}], ids=str)
def test_a_correction_changes_every_gradient_once_a_step_but_not_what_the_mask_prunes(keys: dict[str, Any]) -> None:
    """A proximal term: w <- w - lr (g + mu (w - w_0)) on kept weights and biases."""
    model = build("lenet5:width=0.25", CIFAR, 10)
    initialise(model, torch_generator(2))
    mask = erk(model)
    mask.apply_(prunable_weights(model))
    start = {name: parameter.detach() + 0.5 for name, parameter in model.named_parameters()}
    expected = copy.deepcopy(model)
    for x, y in batches(3):
        gradients = torch.autograd.grad(cross_entropy(expected(x), y), list(expected.parameters()))
        with torch.no_grad():
            for (name, parameter), gradient in zip(expected.named_parameters(), gradients, strict=True):
                step = gradient + 2.0 * (parameter - start[name])
                parameter.sub_(step * mask[name] if name in mask else step, alpha=0.05)

    def pull(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.grad.add_(parameter - start[name], alpha=2.0)

    local_sgd(model, batches(3), LocalSGDConfig(**keys), 0.05, mask, pull)
    assert mask.leak(dict(model.named_parameters())) is None
    for own, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_a_micro_batch_is_what_batch_norm_sees() -> None:
    model = nn.Sequential(nn.BatchNorm1d(1, affine=False, momentum=1.0), nn.Linear(1, 2))
    x, y = torch.tensor([[0.0], [2.0], [10.0], [14.0]]), torch.zeros(4, dtype=torch.long)
    local_sgd(model, [(x, y)], LocalSGDConfig(memory="accumulate", micro_batch=2), 0.1, None)
    assert model[0].running_mean.item() == 12.0


# -- checkpointing -----------------------------------------------------------------------------------------------------


def test_a_segment_is_a_layer_with_what_follows_it_and_never_starts_in_place() -> None:
    kinds = [[type(unit).__name__ for unit in segment] for segment in segments(build("lenet5", CIFAR, 10))]
    assert kinds == [
        ["Conv2d", "ReLU", "MaxPool2d"],
        ["Conv2d", "ReLU", "MaxPool2d", "Flatten"],
        ["Linear", "ReLU"],
        ["Linear", "ReLU"],
        ["Linear"],
    ]
    blocks = [[type(unit).__name__ for unit in segment] for segment in segments(build("resnet14", CIFAR, 10))]
    assert blocks == [
        ["Conv2d", "BatchNorm2d", "ReLU"],
        *[["BasicBlock"]] * 5,
        ["BasicBlock", "AdaptiveAvgPool2d", "Flatten"],
        ["Linear"],
    ]


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v2"])
def test_segments_hold_every_module_once_and_make_up_the_model(name: str) -> None:
    model = build(name, CIFAR, 10).eval()
    x = torch.randn(2, *CIFAR, generator=torch_generator(0))
    parts = segments(model)
    parameters = [p for part in parts for p in part.parameters()]
    assert [id(p) for p in parameters] == [id(p) for p in model.parameters()]
    assert torch.equal(nn.Sequential(*parts)(x), model(x))
    assert torch.equal(checkpointed(model)(x), model(x))


def test_what_comes_before_the_first_layer_belongs_to_its_segment() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    assert [len(part) for part in segments(model)] == [3, 1]


def test_a_model_that_is_no_sequence_is_skipped() -> None:
    class Other(nn.Module):
        pass

    with pytest.raises(Skip, match=r"one nn\.Sequential"):
        local_sgd(Other(), [], LocalSGDConfig(memory="checkpoint"), 0.1, None)


def test_recomputation_leaves_batch_norm_as_it_was() -> None:
    model = build("resnet14:width=0.25", CIFAR, 10)
    initialise(model, torch_generator(3))
    twin = copy.deepcopy(model)
    x = torch.randn(4, *CIFAR, generator=torch_generator(0))
    checkpointed(model)(x).sum().backward()
    twin(x).sum().backward()
    for norm, other in zip(model.modules(), twin.modules(), strict=True):
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.momentum == 0.1
            assert torch.equal(norm.running_mean, other.running_mean)
            assert torch.equal(norm.running_var, other.running_var)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


# -- what it saves -----------------------------------------------------------------------------------------------------


def test_every_option_lowers_the_peak_of_resnet14() -> None:
    name, size = "resnet14:norm=group", 16
    peaks = {keys["memory"]: cost(name, size, **keys).peak_bytes for keys in SAME}
    peaks["accumulate"] = cost(name, size, memory="accumulate", micro_batch=2).peak_bytes
    assert peaks["optimizer_in_backward"] < peaks["none"]
    assert peaks["checkpoint"] < 0.7 * peaks["none"]
    assert peaks["accumulate"] < 0.4 * peaks["none"]


def test_a_parameters_gradient_is_freed_as_soon_as_it_is_used() -> None:
    """Two linear layers of one size: the first one's gradient is made when the second one's is gone."""

    def gradients(memory: Any) -> int:
        model = nn.Sequential(nn.Linear(200, 200, bias=False), nn.Linear(200, 200, bias=False))
        x, y = torch.randn(1, 200), torch.zeros(1, dtype=torch.long)
        with StepMeter(model, None, {"parameters": [p.data for p in model.parameters()]}) as meter:
            local_sgd(model, [(x, y)], LocalSGDConfig(memory=memory), 0.05, None)
            return meter.cost().peak["gradients"]

    assert gradients("none") == 2 * 4 * 200 * 200
    assert gradients("optimizer_in_backward") == 4 * 200 * 200


def test_updates_in_backward_end_with_local_sgd() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    data = [(torch.ones(1, 2), torch.zeros(1, dtype=torch.long))]
    local_sgd(model, data, LocalSGDConfig(memory="optimizer_in_backward"), 1.0, None)
    before = model[0].weight.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is not None


def test_a_checkpoint_keeps_a_segments_input_instead_of_what_is_in_it() -> None:
    """Four segments of a linear layer and two tanh, each of which keeps its output: 4 B n bytes.

    The peak is at the start of backward: the outputs kept, the log-softmax, its gradient and the one before it.
    """
    n, size = 10, 1000
    layers = [layer for _ in range(4) for layer in (nn.Linear(n, n, bias=False), nn.Tanh(), nn.Tanh())]

    def outputs(memory: Any) -> int:
        model = nn.Sequential(*layers)
        x, y = torch.randn(size, n), torch.zeros(size, dtype=torch.long)
        with StepMeter(model, None, {"parameters": [*(p.data for p in model.parameters()), x, y]}) as meter:
            local_sgd(model, [(x, y)], LocalSGDConfig(memory=memory), 0.05, None)
            return round(meter.cost().peak["activations"] / (4 * n * size))

    assert outputs("none") == 4 * 2 + 3
    assert outputs("checkpoint") == 3 + 2 + 3


# -- configuration -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"memory": "accumulate"}, r'\[params.x\]: give micro_batch with memory = "accumulate", and only with it\.'),
        ({"micro_batch": 4}, "and only with it"),
        ({"memory": "checkpoint", "micro_batch": 4}, "and only with it"),
        ({"memory": "accumulate", "micro_batch": 0}, "params.x.micro_batch = 0: input should be greater than 0"),
        ({"memory": "gradient"}, "params.x.memory = 'gradient': input should be 'none', 'checkpoint'"),
        ({"local_epochs": 1, "local_steps": 1}, "give local_epochs or local_steps, not both"),
    ],
)
def test_unusable_keys_are_explained(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        validated(LocalSGDConfig, keys, "params.x")

"""Pruned activations: what is kept, gradients against explicitly pruned inputs, and the bytes really saved."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fedfore.masks import PRUNABLE_LAYERS, erk_mask, prunable_weights
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives import activation_pruning
from fedfore.primitives.activation_pruning import SAMPLE, Pruned, kth_magnitude, pruned_activations
from fedfore.primitives.flags import pack_bits
from fedfore.primitives.flat import flat_parameters
from fedfore.streams import torch_generator
from fedfore.tasks.models import build

MODELS = ("lenet5", "baffle_lenet", "resnet20:norm=none", "resnet20:norm=group", "resnet20:norm=batch")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed))


def pruned(x: Tensor, rate: float) -> Tensor:
    """Zero all but the top 1 - rate of `x`, by sorting."""
    order = x.flatten().abs().argsort(descending=True, stable=True)
    kept = torch.zeros(x.numel(), dtype=torch.bool)
    kept[order[: max(1, x.numel() - round(rate * x.numel()))]] = True
    return x * kept.view(x.shape)


# -- what is kept -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-100, 100, width=32) | st.sampled_from([0.0, 1.0, -1.0]), min_size=1, max_size=50), st.data())
def test_the_kth_magnitude_is_that_of_a_full_sort(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    assert float(kth_magnitude(torch.tensor(values), k)) == sorted(map(abs, values), reverse=True)[k - 1]


def test_the_kth_magnitude_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = draw(5000)
    expected = [float(flat.abs().sort(descending=True).values[k - 1]) for k in (1, 500, 5000)]
    for block in (17, 5000, 65536):
        monkeypatch.setattr(activation_pruning, "BLOCK", block)
        assert [float(kth_magnitude(flat, k)) for k in (1, 500, 5000)] == expected


@pytest.mark.parametrize("k", [1, 90, 5000, 39_999, 40_000])
def test_the_kth_magnitude_is_exact_whatever_the_sample_shows(k: int) -> None:
    """Entries that no sample meets, those that it meets alone, ties, and values that are no numbers."""
    flat, stride = draw(5 * SAMPLE - 960), 40_000 // SAMPLE | 1
    seen = torch.arange(len(flat)) % stride == 0
    odd = flat.clone()
    odd[::1000], odd[1::1000] = torch.nan, torch.inf
    for values in (flat, flat.relu(), flat * seen, flat * ~seen, flat.round(), odd, -odd.abs(), flat * 0):
        expected = values.abs().sort(descending=True).values[k - 1]
        torch.testing.assert_close(kth_magnitude(values, k), expected, rtol=0, atol=0, equal_nan=True)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["signed", "relu", "tied", "odd"])
def test_what_is_kept_and_what_comes_back_are_those_of_the_plain_formulas_bit_for_bit(rate: float, kind: str) -> None:
    """A boolean index and a masked scatter; the plain ones are several times as slow."""
    x = draw(8, 16, 32, 32).to(memory_format=torch.channels_last)
    x = {"signed": x, "relu": x.relu(), "tied": x.mul(2).round(), "odd": x.clone()}[kind]
    if kind == "odd":
        x[0, 0], x[1, 1], x[2, 2] = torch.nan, torch.inf, -0.0
    flat = x.permute(0, 2, 3, 1).reshape(-1)
    least = flat.abs().sort(descending=True).values[len(flat) - round(rate * len(flat)) - 1]
    kept = (flat >= least) | (flat <= -least) if least > 0 else flat != 0
    found = Pruned.of(x, rate)
    assert torch.equal(bits(found.values), bits(flat[kept])) and torch.equal(found.bits, pack_bits(kept))
    plain = torch.zeros(len(flat)).masked_scatter_(kept, flat[kept]).view(8, 32, 32, 16).permute(0, 3, 1, 2)
    assert torch.equal(bits(found.dense()), bits(plain))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_relu_is_the_product_with_its_flags_bit_for_bit(layout: torch.memory_format) -> None:
    """Negative zeros and NaN included, and where the gradient lies in memory in another order than the output."""
    input = draw(2, 3, 4, 5).to(memory_format=torch.channels_last)
    input[0, 0, 0], input[0, 1, 0] = torch.nan, 0.0
    given = draw(2, 3, 4, 5, seed=1).to(memory_format=layout)
    given[1, 0, 0], given[1, 1, 0] = torch.nan, torch.inf
    x = input.clone(memory_format=torch.preserve_format).requires_grad_()
    with pruned_activations(0.5):
        output = F.relu(x)
    (gradient,) = torch.autograd.grad(output, x, given)
    plain = given * (input > 0)
    assert torch.equal(bits(gradient), bits(plain)) and gradient.stride() == plain.stride()


def test_a_pruned_tensor_by_hand() -> None:
    x = torch.tensor([[3.0, -5.0, 0.0, 1.0], [-0.5, 4.0, 0.25, 0.0]])
    kept = Pruned.of(x, 0.625)
    assert kept.values.tolist() == [3.0, -5.0, 4.0]
    assert kept.bits.tolist() == [0b00100011]
    assert kept.dense().tolist() == [[3.0, -5.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]]


def test_zeros_are_never_stored_and_one_entry_always_is() -> None:
    x = torch.tensor([0.0, 2.0, 0.0, 0.0, -1.0])
    assert Pruned.of(x, 1e-9).values.tolist() == [2.0, -1.0]
    assert Pruned.of(x, 0.99).values.tolist() == [2.0]
    assert torch.equal(Pruned.of(torch.zeros(3), 0.5).dense(), torch.zeros(3))


def test_what_comes_back_lies_in_memory_as_what_was_kept() -> None:
    """Convolutions run in the layout of their inputs; a layout lost in backward would convert every gradient."""
    x = draw(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert torch.equal(Pruned.of(x, 0.75).dense(), pruned(x, 0.75))
    assert Pruned.of(x, 0.75).dense().stride() == x.stride()
    input = x.clone(memory_format=torch.preserve_format).requires_grad_()
    with pruned_activations(0.75):
        output = F.relu(input)
    given = torch.ones_like(output)
    (gradient,) = torch.autograd.grad(output, input, given)
    assert torch.equal(gradient, (x > 0).float())
    assert gradient.stride() == given.stride() == x.stride()


# -- gradients --------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """A model after one backward pass, with every prunable layer's input and the gradient of its output."""

    model: nn.Module
    x: Tensor
    loss: Tensor
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def gradients(self) -> dict[str, Tensor]:
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}


def step(name: str, context: AbstractContextManager[object], size: int = 4) -> Step:
    model = build(name, (3, 32, 32), 10)
    x, y = draw(size, 3, 32, 32), torch.arange(size) % 10
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            inputs[name] = args[0].detach().clone()
            output.register_hook(lambda gradient: outputs.__setitem__(name, gradient))

        module.register_forward_hook(hook)

    for layer, module in model.named_modules():
        if isinstance(module, PRUNABLE_LAYERS):
            watch(f"{layer}.weight", module)
    with context:
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    return Step(model, x, loss.detach(), inputs, outputs)


def weight_gradient(module: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """Return what autograd makes of the weight's gradient for input `x` and output gradient `gradient`."""
    with torch.enable_grad():
        output = module(x)
    (found,) = torch.autograd.grad(output, module.get_parameter("weight"), gradient)
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_weight_gradients_are_those_of_explicitly_pruned_inputs_and_all_others_are_exact(
    name: str, rate: float
) -> None:
    dense, sparse = step(name, pruned_activations(0.0)), step(name, pruned_activations(rate))
    assert torch.equal(dense.loss, sparse.loss)
    weights = prunable_weights(sparse.model)
    first = next(iter(weights))
    for layer, gradient in sparse.gradients.items():
        if layer in weights and layer != first:
            x = pruned(sparse.inputs[layer], rate)
            module = sparse.model.get_submodule(layer.removesuffix(".weight"))
            reference = weight_gradient(module, x, sparse.outputs[layer])
            torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-6 * float(reference.abs().max()))
        else:
            assert torch.equal(gradient, dense.gradients[layer]), layer
    for layer, gradient in sparse.outputs.items():
        assert torch.equal(gradient, dense.outputs[layer]), layer


@pytest.mark.parametrize("name", MODELS)
def test_nothing_changes_as_the_rate_goes_to_zero(name: str) -> None:
    dense, sparse = step(name, pruned_activations(0.0)), step(name, pruned_activations(1e-9))
    for layer, gradient in sparse.gradients.items():
        assert torch.equal(gradient, dense.gradients[layer]), layer


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 3, "ceil_mode": True},
        {"kernel_size": 3, "stride": 1, "dilation": 2},
    ],
)
@pytest.mark.parametrize("side", [13, 190])
def test_max_pooling_keeps_its_gradient(options: dict[str, Any], side: int) -> None:
    gradients = []
    for rate in (0.0, 0.9):
        x = draw(2, 3, side, side).requires_grad_()
        with pruned_activations(rate):
            y: Tensor = nn.MaxPool2d(**options)(x)
        y.backward(draw(*y.shape, seed=1))
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_linear_layer_on_sequences_and_on_a_transposed_input() -> None:
    weight = draw(5, 6, seed=1).requires_grad_()
    for shape in ((2, 3, 6), (7, 6)):
        x = draw(*shape[:-2], shape[-1], shape[-2]).mT.requires_grad_()
        with pruned_activations(0.5):
            y = F.linear(x, weight)
        g = draw(*y.shape, seed=2)
        to_x, to_weight = torch.autograd.grad(y, (x, weight), g)
        torch.testing.assert_close(to_x, g @ weight.detach())
        torch.testing.assert_close(to_weight, torch.einsum("...o,...i->oi", g, pruned(x.detach(), 0.5)))


def test_layers_that_read_one_tensor_share_one_copy_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Tensor] = []
    of = Pruned.of

    def watched(x: Tensor, rate: float) -> Pruned:
        made.append(x)
        return of(x, rate)

    monkeypatch.setattr(Pruned, "of", watched)
    one, two, three = (draw(4, 6, seed=seed).requires_grad_() for seed in (1, 2, 3))
    x = draw(8, 6).requires_grad_() * 1.0
    before = x.detach().clone()
    with pruned_activations(0.5):
        sums = F.linear(x, one).sum() + F.linear(x, two).sum()
        assert len(made) == 1
        x.mul_(draw(8, 6, seed=4))
        sums = sums + F.linear(x, three).sum()
    assert len(made) == 2
    sums.backward()
    for weight, seen in ((one, before), (two, before), (three, x.detach())):
        torch.testing.assert_close(weight.grad, pruned(seen, 0.5).sum(0).expand(4, 6))


# -- memory -----------------------------------------------------------------------------------------------------------


BALLAST = 1 << 32
"""Bytes allocated, and never touched, to move the peak of a run to one moment."""


def activation_bytes(name: str, rate: float, *, at_the_peak: bool) -> tuple[int, float]:
    """Return the activations of a training step on 32 examples, at its peak or as its forward pass ends; its FLOPs."""
    model = build(name, (3, 32, 32), 10)
    flat_parameters(model)
    mask = erk_mask(model, 0.8, torch_generator(0))
    assert mask is not None
    mask.apply_(dict(model.named_parameters()))
    x, y = draw(32, 3, 32, 32), torch.arange(32) % 10
    parameters: list[Tensor] = [*(p.data for p in model.parameters()), *model.buffers()]
    with StepMeter(model, mask, {"parameters": parameters, "messages": [x, y]}) as meter:
        with pruned_activations(rate):
            loss = F.cross_entropy(model(x), y)
        if not at_the_peak:
            torch.empty(BALLAST, dtype=torch.uint8)
        loss.backward()
        cost = meter.cost()
    return cost.peak["activations"] - (0 if at_the_peak else BALLAST), cost.flops


@pytest.mark.parametrize(
    ("name", "peak", "held"),
    [
        ("resnet20:norm=none", 0.41, 0.16),
        ("resnet20:norm=batch", 0.64, 0.60),
        ("lenet5", 0.77, 0.12),
        ("baffle_lenet", 0.80, 0.73),
    ],
)
@pytest.mark.thorough
def test_dropping_nine_tenths_leaves_no_more_than_this_share_of_the_activations(
    name: str, peak: float, held: float
) -> None:
    """Batch norm's own inputs, 25.7 MB, are 87% of what ResNet-20 still holds as its forward pass ends."""
    for share, at_the_peak in ((peak, True), (held, False)):
        dense, dense_flops = activation_bytes(name, 0.0, at_the_peak=at_the_peak)
        sparse, sparse_flops = activation_bytes(name, 0.9, at_the_peak=at_the_peak)
        assert sparse < share * dense
        assert sparse_flops == dense_flops

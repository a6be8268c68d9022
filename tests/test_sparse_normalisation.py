"""Normalised sparse convolution: the standardised filter by hand, its gradient, centred activations, no cost."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from fedfore.api import Method
from fedfore.baselines.baffle_erk import BaffleERK
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.execution.metering import metered_fields
from fedfore.federation.loop import Federation
from fedfore.masks import erk_mask, prunable_shapes
from fedfore.measure.flops import forward_macs
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives.activation_pruning import Pruned, pruned_activations
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.frozen_norm import frozen_norms
from fedfore.primitives.gradients import Batch
from fedfore.primitives.saliency import SaliencyConfig, score
from fedfore.primitives.sparse_normalisation import (
    EPSILON,
    GAIN,
    NormalisedConv2d,
    normalise_convolutions,
    standardise,
)
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise
from tests.conftest import TINY, make_cell

Make = Callable[..., Federation]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed))


def sparse(*shape: int, density: float, seed: int = 0) -> Tensor:
    generator = torch_generator(seed)
    kept = torch.rand(shape, generator=generator) < density
    return torch.randn(shape, generator=generator) * kept


def convolution(**options: int) -> nn.Sequential:
    """Return a normalised 3x3 convolution of 4 to 6 channels with sparse weights, as a model."""
    layer = nn.Conv2d(4, 6, 3, **options)  # type: ignore[arg-type]
    layer.weight.data = sparse(*layer.weight.shape, density=0.4)
    layer.bias.data = draw(6, seed=9)  # type: ignore[union-attr]
    model = normalise_convolutions(nn.Sequential(layer))
    assert isinstance(model, nn.Sequential)
    return model


# -- the filter -------------------------------------------------------------------------------------------------------


def test_a_filter_by_hand() -> None:
    """Active entries 1 and 3: mean 2, variance 1, fan-in 2."""
    used = standardise(torch.tensor([1.0, 0.0, 3.0]).view(1, 3, 1, 1)).flatten()
    size = math.sqrt(2 / (1 - 1 / math.pi)) / math.sqrt(2 * (1 + 1e-5))
    assert used.tolist() == pytest.approx([-size, 0.0, size])


def test_filters_with_fewer_than_two_active_entries_and_no_others_stay_as_they_are() -> None:
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 5.0, 1.0]]).view(3, 3, 1, 1).requires_grad_()
    used = standardise(weight)
    assert torch.equal(used[:2], weight[:2])
    assert not torch.equal(used[2], weight[2])
    (gradient,) = torch.autograd.grad(used, weight, draw(3, 3, 1, 1))
    assert torch.equal(gradient[:2], draw(3, 3, 1, 1)[:2])


@given(st.integers(0, 10_000), st.floats(0.02, 1.0))
def test_active_entries_have_mean_zero_and_the_gain_as_their_norm_and_pruned_ones_stay_zero(
    seed: int, density: float
) -> None:
    weight = 3.0 + sparse(5, 4, 3, 3, density=1.0, seed=seed)
    weight *= torch.rand(weight.shape, generator=torch_generator(seed + 1)) < density
    used = standardise(weight)
    assert not used[weight == 0].any()
    for given_row, row in zip(weight, used, strict=True):
        entries, values = given_row[given_row != 0], row[given_row != 0]
        if len(entries) >= 2:
            variance = float(entries.var(correction=0))
            assert float(values.sum()) == pytest.approx(0.0, abs=1e-3)
            assert float(values.norm()) == pytest.approx(GAIN * math.sqrt(variance / (variance + EPSILON)), rel=1e-4)


def test_equal_entries_give_zeros_and_finite_gradients() -> None:
    weight = torch.full((1, 4, 1, 1), 2.0, requires_grad=True)
    standardise(weight).sum().backward()
    assert torch.equal(standardise(weight), torch.zeros(1, 4, 1, 1))
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


def test_the_filter_does_not_depend_on_the_scale_and_shift_of_its_active_entries() -> None:
    weight = sparse(5, 4, 3, 3, density=0.5)
    moved = 7.0 * weight + 2.0 * (weight != 0)
    torch.testing.assert_close(standardise(moved), standardise(weight), rtol=1e-4, atol=1e-4)


# -- gradients --------------------------------------------------------------------------------------------------------


def test_the_backward_pass_of_training_is_autograds_of_the_plain_form() -> None:
    for options in ({}, {"stride": 2, "padding": 1}, {"groups": 2}, {"dilation": 2}):
        layer = convolution(**options)
        outputs, gradients = [], []
        for training in (True, False):
            x = draw(2, 4, 9, 9, seed=3).requires_grad_()
            y = layer.train(training)(x)
            outputs.append(y)
            gradients.append(torch.autograd.grad(y, (x, *layer.parameters()), draw(*y.shape, seed=4)))
        assert torch.equal(outputs[0], outputs[1])
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other)


def test_a_zero_has_the_gradient_of_an_active_entry_at_the_filters_mean() -> None:
    """Filter (1, 0, 3): scale gain / sqrt(2), and the gradient's mean over active entries, -0.375, is taken away."""
    weight = torch.tensor([1.0, 0.0, 3.0]).view(1, 3, 1, 1).requires_grad_()
    to_used = torch.tensor([0.25, 0.5, -1.0]).view(1, 3, 1, 1)
    (gradient,) = torch.autograd.grad(standardise(weight), weight, to_used)
    assert float(gradient[0, 1]) == pytest.approx((0.5 + 0.375) * GAIN / math.sqrt(2 * (1 + EPSILON)))
    assert gradient[0, 0].abs() < 1e-4 and gradient[0, 2].abs() < 1e-4, "two entries can only change scale and shift"


def test_second_derivatives_of_training_are_those_of_the_plain_form() -> None:
    found = []
    for training in (True, False):
        layer = convolution(padding=1).train(training)
        x = draw(2, 4, 9, 9, seed=3).requires_grad_()
        first = torch.autograd.grad(layer(x).pow(3).mean(), (x, *layer.parameters()), create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), (x, *layer.parameters())))  # type: ignore[arg-type]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_activation_pruning_sees_the_convolution() -> None:
    layer, x = convolution(padding=1), draw(2, 4, 9, 9, seed=3)
    gradients = []
    for inputs, rate in ((x, 0.9), (Pruned.of(x, 0.9).dense(), 0.0)):
        with pruned_activations(rate):
            y = layer(inputs.clone().requires_grad_())
        gradients.append(torch.autograd.grad(y, layer[0].get_parameter("weight"), draw(*y.shape, seed=4))[0])
    torch.testing.assert_close(*gradients)


# -- scored -----------------------------------------------------------------------------------------------------------


def test_scores_of_a_filter_cancel_unless_its_mean_and_scale_are_frozen() -> None:
    """A filter does not change with the scale of its own mask: Euler's theorem."""
    model, x = convolution(padding=1).eval(), draw(3, 4, 8, 8, seed=5)
    weight = model[0].get_parameter("weight")

    def ratios() -> Tensor:
        (gradient,) = torch.autograd.grad(model(x).square().sum(), weight)
        scores = (gradient * weight).detach().flatten(1)
        return scores.sum(1).abs() / scores.abs().sum(1)

    plain, whole = model(x), ratios()
    with frozen_norms(model, x) as outputs:
        torch.testing.assert_close(outputs, plain)
        torch.testing.assert_close(model(x), plain)
        frozen = ratios()
    assert whole.max() < 1e-3
    assert frozen.median() > 0.05
    assert torch.equal(model(x), plain)


@pytest.mark.parametrize("saliency", ["ntk", "snip", "grasp", "synflow"])
def test_every_saliency_scores_a_standardised_network(saliency: Literal["ntk", "snip", "grasp", "synflow"]) -> None:
    """SynFlow, which wants positive weights and no norms, scores it as the network without standardisation."""
    config = SaliencyConfig(saliency=saliency, inputs="real", weights="fixed")
    found = []
    for norm in ("standardised", "none"):
        model = build(f"resnet14:norm={norm},width=0.25", (1, 32, 32), 10)
        inputs = [(draw(8, 1, 32, 32), torch.arange(8))]
        found.append(score(model, None, config, inputs, torch_generator(0), initialise))
    own, plain = (list(scores.values()) for scores in found)
    assert all(bool(value.isfinite().all()) and bool(value.any()) for value in own)
    assert all(torch.equal(one, other) for one, other in zip(own, plain, strict=True)) is (saliency == "synflow")


# -- in a model -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_activations_are_centred_and_keep_their_variance_without_a_norm_layer() -> None:
    """On rectified inputs, whose mean plain filters pass on."""
    x = F.relu(draw(64, 32, 12, 12))
    layer = nn.Conv2d(32, 24, 3, bias=False)
    layer.weight.data = sparse(*layer.weight.shape, density=0.2, seed=1) / 12
    plain = layer(x).transpose(0, 1).flatten(1)
    normalised = normalise_convolutions(nn.Sequential(layer))(x).transpose(0, 1).flatten(1)
    assert (plain.mean(1) / plain.std(1)).abs().mean() > 0.5
    assert (normalised.mean(1) / normalised.std(1)).abs().max() < 0.05
    assert float(normalised.std()) == pytest.approx(1.0, abs=0.02)


def test_a_model_keeps_its_names_shapes_weights_and_counted_operations() -> None:
    plain = build("resnet20:norm=none,width=0.25", (3, 32, 32), 10)
    model = normalise_convolutions(copy.deepcopy(plain))
    assert sum(type(module) is NormalisedConv2d for module in model.modules()) == 21
    assert prunable_shapes(model) == prunable_shapes(plain)
    for (name, one), (other_name, other) in zip(plain.named_parameters(), model.named_parameters(), strict=True):
        assert name == other_name and torch.equal(one, other)
    assert forward_macs(model, (3, 32, 32)) == forward_macs(plain, (3, 32, 32))
    x = draw(2, 3, 32, 32)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert not torch.allclose(plain(x), model(x))


@pytest.mark.parametrize("estimator", ["directional", "exact"])
def test_zeroth_order_scalars_are_the_same_by_finite_differences_and_for_all_clients_at_once(
    estimator: Literal["directional", "exact"],
) -> None:
    model = build("resnet14:norm=standardised,width=0.25", (1, 32, 32), 10)
    flat_parameters(model)
    mask = erk_mask(model, 0.5, torch_generator(0))
    assert mask is not None
    mask.apply_(dict(model.named_parameters()))
    batches = [Batch(draw(8, 1, 32, 32, seed=seed), torch.arange(8)) for seed in range(2)]
    config = ZerothOrderConfig(num_perturbations=8, sigma=3e-4, form="central")
    step, real = (Step(kind, config, seed=5, round=2) for kind in (estimator, "finite_difference"))
    together = step.send(model, batches, range(2), mask)
    for client, batch in enumerate(batches):
        (alone,) = step.send(model, [batch], [client], mask)
        torch.testing.assert_close(asdict(together[client]), asdict(alone))
    if estimator == "directional":
        for one, other in zip(together, real.send(model, batches, range(2), mask), strict=True):
            assert one.scalars is not None and other.scalars is not None
            assert (one.scalars - other.scalars).norm() < 0.05 * one.scalars.norm()


METERED = replace(TINY, rounds=1, meter_only=True)


@pytest.mark.parametrize(("method", "given"), [(BaffleERK, {"num_perturbations": 2}), (FedAvgERK, {})])
def test_the_meters_see_the_layers_of_a_plain_network(method: type[Method], given: dict[str, int]) -> None:
    counted = ("device_step_flops", "forward_macs_masked", "num_parameters", "num_prunable", "uncounted_ops")
    fields = []
    for norm in ("standardised", "none"):
        model = f"resnet14:norm={norm},width=0.25"
        cell = make_cell(method, METERED, given=given, estimator="finite_difference", sparsity=0.8, model=model)
        fields.append(metered_fields(cell, method, torch.device("cpu")))
    assert [fields[0][name] for name in counted] == [fields[1][name] for name in counted]
    assert fields[0]["peak_device_bytes"] < 1.2 * fields[1]["peak_device_bytes"], "no weight is kept twice"


def test_a_training_step_costs_the_flops_of_the_mask_and_keeps_no_copy_of_the_weights() -> None:
    """Wide layers on few pixels: every kept copy of the weights would weigh more than all activations."""
    costs = []
    for normalised in (False, True):
        model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3))
        flat_parameters(model)
        mask = erk_mask(model, 0.8, torch_generator(0))
        assert mask is not None
        mask.apply_(dict(model.named_parameters()))
        if normalised:
            normalise_convolutions(model)
        x = draw(1, 64, 8, 8)
        with StepMeter(model, mask, {"parameters": [p.data for p in model.parameters()], "messages": [x]}) as meter:
            loss = model(x).square().sum()
            forward = meter.cost().peak["activations"]
            loss.backward()
            costs.append((meter.cost().flops, forward))
    weight_bytes = 4 * 64 * 64 * 9
    assert costs[1][0] == costs[0][0]
    assert costs[0][1] < weight_bytes < costs[1][1] - costs[0][1] < 4 * weight_bytes, "one layer's work space at a time"

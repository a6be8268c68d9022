"""Saliencies against hand-computed cases, autograd, finite differences and identities; frozen normalisation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from fedfore.api import Mask
from fedfore.contract.config import validated
from fedfore.errors import ConfigError
from fedfore.masks import prunable_shapes, prunable_weights, random_mask, uniform_densities
from fedfore.measure.flops import forward_macs
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.frozen_norm import frozen_norms, identity_norms
from fedfore.primitives.pruning import to_entries
from fedfore.primitives.saliency import SaliencyConfig, importance, score, score_without_passes
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise

NORMS = ["batch", "group", "layer", "none"]
FIXED = {"weights": "fixed"}
LABELLED = {"inputs": "real", **FIXED}


def norm_of(kind: str, channels: int, side: int, eps: float) -> nn.Module:
    made: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels, eps=eps),
        "group": lambda: nn.GroupNorm(2, channels, eps=eps),
        "layer": lambda: nn.LayerNorm([channels, side, side], eps=eps),
        "none": nn.Identity,
    }
    return made[kind]()


def small_net(norm: str, eps: float = 1e-5) -> nn.Module:
    """Return two convolutions and a linear layer on [2, 6, 6] inputs, in float64, with norms of non-trivial affine."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), norm_of(norm, 4, 4, eps), nn.Tanh(),
        nn.Conv2d(4, 6, 3, bias=False), norm_of(norm, 6, 2, eps), nn.Tanh(),
        nn.Flatten(), nn.Linear(24, 3),
    ).double()  # fmt: skip
    generator = torch_generator(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5 + 0.2)
    return model


def draws_of(count: int = 1, size: int = 8, labels: bool = False) -> list[tuple[Tensor, Tensor | None]]:
    generator = torch_generator(7)
    return [
        (
            torch.randn(size, 2, 6, 6, generator=generator).double(),
            torch.arange(size) % 3 if labels else None,
        )
        for _ in range(count)
    ]


def half_mask(model: nn.Module) -> Mask:
    shapes = prunable_shapes(model)
    return random_mask(shapes, uniform_densities(shapes, 0.5), torch_generator(3))


def scores_of(
    model: nn.Module,
    mask: Mask | None = None,
    draws: Any = None,
    seed: int = 1,
    forward: int | None = None,
    **keys: Any,
) -> dict[str, Tensor]:
    config = SaliencyConfig(**{**FIXED, **keys})
    return score(model, mask, config, draws or draws_of(), torch_generator(seed), initialise, forward)


def noise_like(weights: dict[str, Tensor], noise: float, seed: int = 1) -> dict[str, Tensor]:
    """Return dtheta as the first draw with fixed weights takes it from the generator of that seed."""
    generator = torch_generator(seed)
    return {name: noise * torch.empty(w.shape).normal_(generator=generator).to(w) for name, w in weights.items()}


def ones_like(weights: dict[str, Tensor], mask: Mask | None) -> dict[str, Tensor]:
    return {name: torch.ones_like(w) if mask is None else mask[name].to(w) for name, w in weights.items()}


def objective(
    model: nn.Module, m: dict[str, Tensor], theta: dict[str, Tensor], noise: dict[str, Tensor], x: Tensor
) -> Tensor:
    """Return the weight-noise objective in one graph of both branches, normalised as the model is at this moment."""
    first = functional_call(model, {n: theta[n] * m[n] for n in m}, (x,))
    second = functional_call(model, {n: (theta[n] + noise[n]) * m[n] for n in m}, (x,))
    return (first - second).square().sum() / len(x)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_the_ntk_score_is_the_gradient_of_the_joint_graph_and_the_slope_of_its_objective(
    norm: str, masked: bool
) -> None:
    model = small_net(norm)
    mask = half_mask(model) if masked else None
    ((x, _),) = draws_of()
    theta = {name: w.detach().clone() for name, w in prunable_weights(model).items()}
    noise = noise_like(theta, 0.1)
    m = {name: one.requires_grad_() for name, one in ones_like(theta, mask).items()}
    if mask is not None:
        mask.apply_(prunable_weights(model))
    found = scores_of(model, mask, noise=0.1)
    with frozen_norms(model, x):
        value = objective(model, m, theta, noise, x)
        gradients = torch.autograd.grad(value, list(m.values()))
    for (name, ones), gradient in zip(m.items(), gradients, strict=True):
        torch.testing.assert_close(found[name], gradient * ones.detach_(), rtol=1e-9, atol=1e-12)
    direction = {name: torch.randn(w.shape, generator=torch_generator(5)).to(w) * m[name] for name, w in theta.items()}
    with torch.no_grad(), frozen_norms(model, x):
        high, low = (objective(model, {n: m[n] + h * direction[n] for n in m}, theta, noise, x) for h in (1e-6, -1e-6))
    slope = sum(float((found[name] * direction[name]).sum()) for name in m)
    assert slope == pytest.approx(float(high - low) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("saliency", ["ntk", "snip", "grasp"])
def test_micro_batches_change_nothing_where_examples_do_not_see_each_other(saliency: str) -> None:
    draws = draws_of(2, labels=True)
    whole, parts = (
        scores_of(small_net("group"), None, draws, saliency=saliency, inputs="real", scoring_micro_batch=size)
        for size in (None, 3)
    )
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-9, atol=1e-12)


def test_batch_statistics_are_of_the_micro_batch() -> None:
    x = draws_of()[0][0]
    found = scores_of(small_net("batch"), None, [(x, None)], scoring_micro_batch=4)
    halves = [scores_of(small_net("batch"), None, [(half, None)]) for half in x.split(4)]
    whole = scores_of(small_net("batch"), None, [(x, None)])
    for name, value in found.items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2, rtol=1e-9, atol=1e-12)
        assert not torch.allclose(value, whole[name], rtol=1e-3)


def test_clients_scores_of_parts_average_to_the_score_of_the_pooled_inputs() -> None:
    """With common theta and dtheta, and shares that are the parts' sizes."""
    x = draws_of(size=12)[0][0]
    pooled = scores_of(small_net("group"), None, [(x, None)], seed=4)
    parts = [(part, scores_of(small_net("group"), None, [(part, None)], seed=4)) for part in x.split([2, 3, 7])]
    for name, value in pooled.items():
        mean = sum(len(part) / 12 * found[name] for part, found in parts)
        torch.testing.assert_close(mean, value, rtol=1e-9, atol=1e-12)


def test_draws_are_averaged_and_each_has_weights_and_noise_of_its_own() -> None:
    def redrawn(model: nn.Module, generator: torch.Generator) -> None:
        flat_parameters(model).normal_(generator=generator)
        seen.append(flat_parameters(model).clone())

    seen: list[Tensor] = []
    generator = torch_generator(1)
    config = SaliencyConfig()
    one_by_one = [score(small_net("none"), None, config, [draw], generator, redrawn) for draw in draws_of(2)]
    together = score(small_net("none"), None, config, draws_of(2), torch_generator(1), redrawn)
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[1], seen[3])
    for name, value in together.items():
        torch.testing.assert_close(value, (one_by_one[0][name] + one_by_one[1][name]) / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("forward", [None, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_fixed_weights_and_running_statistics_are_left_exactly_as_they_were(norm: str, forward: int | None) -> None:
    model = small_net(norm)
    mask = half_mask(model)
    mask.apply_(prunable_weights(model))
    before = copy.deepcopy(model.state_dict())
    found = scores_of(model, mask, draws_of(2), forward=forward, scoring_micro_batch=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in found.items():
        assert torch.equal(value != 0, mask[name])


@pytest.mark.parametrize(("draws", "error"), [(1000, 0.04), pytest.param(4000, 0.02, marks=pytest.mark.slow)])
def test_the_weight_noise_objective_estimates_the_trace_of_the_ntk(draws: int, error: float) -> None:
    """Without norms and biases f is of degree 1 in every layer's mask, so by Euler each layer's scores sum to twice
    the objective; that is noise^2 |J|_F^2 in expectation."""
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)).double()
    initialise(model, torch_generator(0))
    x = torch.randn(2, 4, generator=torch_generator(2)).double()
    weights = {name: w.detach() for name, w in model.named_parameters()}
    jacobian = jacrev(lambda w: functional_call(model, w, (x,)))(weights)
    exact = sum(float(part.square().sum()) for part in jacobian.values()) / len(x)
    generator = torch_generator(9)
    config = SaliencyConfig(weights="fixed", noise=1e-3)
    traces = []
    for _ in range(draws):
        found = score(model, None, config, [(x, None)], generator, initialise)
        first, last = (float(value.sum()) / 2 / 1e-6 for value in found.values())
        assert first == pytest.approx(last, rel=1e-6)
        traces.append(last)
    z = (np.mean(traces) - exact) / (np.std(traces) / np.sqrt(len(traces)))
    assert abs(z) < 4
    assert np.std(traces) / np.sqrt(len(traces)) < error * exact


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_differentiated_statistics_leave_noise_and_frozen_ones_do_not(norm: str) -> None:
    """The scores of a layer before a norm sum to 0 by Euler's theorem where its statistics are differentiated."""
    model = small_net(norm, eps=1e-14)
    ((x, _),) = draws_of()
    theta = {name: w.detach().clone() for name, w in prunable_weights(model).items()}
    m = {name: one.requires_grad_() for name, one in ones_like(theta, None).items()}
    value = objective(model, m, theta, noise_like(theta, 0.1), x)
    differentiated = dict(zip(m, torch.autograd.grad(value, list(m.values())), strict=True))
    frozen = scores_of(model, noise=0.1)
    for name in ("0.weight", "3.weight"):
        ratios = [float(found[name].sum().abs() / found[name].abs().sum()) for found in (differentiated, frozen)]
        assert ratios[0] < 1e-9
        assert ratios[1] > 1e-2


def test_frozen_statistics_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 0.0]])
    batch = nn.BatchNorm1d(4, eps=0.5)
    with frozen_norms(batch, x) as outputs:
        torch.testing.assert_close(outputs[:, 0], (x[:, 0] - 3) / np.sqrt(8 + 0.5))
        torch.testing.assert_close(batch(x + 10)[:, 0], (x[:, 0] + 7) / np.sqrt(8 + 0.5))
    group = nn.GroupNorm(2, 4, eps=0.5)
    with frozen_norms(group, x) as outputs:
        torch.testing.assert_close(outputs[0], torch.tensor([-0.5, 0.5, -0.5, 0.5]) / np.sqrt(0.25 + 0.5))
        torch.testing.assert_close(group(2 * x)[0, :2], (2 * x[0, :2] - 1.5) / np.sqrt(0.75))
    layer = nn.LayerNorm(4, eps=0.5)
    with frozen_norms(layer, x) as outputs:
        torch.testing.assert_close(outputs[0], (x[0] - 2.5) / np.sqrt(1.25 + 0.5))
    with identity_norms(batch):
        assert torch.equal(batch(x), x)


@pytest.mark.parametrize("norm", NORMS)
def test_frozen_norms_repeat_the_pass_they_recorded_and_end_with_the_context(norm: str) -> None:
    model = small_net(norm)
    x = draws_of()[0][0]
    before = copy.deepcopy(model.state_dict())
    with frozen_norms(model, x) as outputs:
        assert torch.equal(model(x), outputs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(RuntimeError), frozen_norms(model, x):
        raise RuntimeError
    assert not any("forward" in vars(module) for module in model.modules())
    if norm in ("group", "layer"):
        torch.testing.assert_close(model(x), outputs)


def tiny_linear() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    model[1].weight.data.copy_(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
    return model


TINY_INPUT = [(torch.tensor([[[[1.0, 2.0]]]]).double(), torch.tensor([0]))]
"""One input, (1, 2), of class 0: logits (-3, 6.5) at the weights of `tiny_linear`."""


def test_ntk_of_a_linear_layer_by_hand() -> None:
    """J = |(dtheta.m) x|^2, so dJ/dm_ij = 2 (dtheta x)_i dtheta_ij x_j."""
    model = tiny_linear()
    noise = noise_like(prunable_weights(model), 0.01)["1.weight"]
    x = torch.tensor([1.0, 2.0]).double()
    found = scores_of(model, None, TINY_INPUT)["1.weight"]
    torch.testing.assert_close(found, 2 * (noise @ x)[:, None] * noise * x, rtol=1e-9, atol=1e-12)


def test_snip_of_a_linear_layer_by_hand() -> None:
    """dL/dm_ij = (p_i - y_i) x_j w_ij."""
    p = 1 / (1 + np.exp(6.5 + 3))
    expected = (1 - p) * torch.tensor([[-1.0 * 1.0, -1.0 * 2.0 * -2.0], [1.0 * 0.5, 2.0 * 3.0]]).double()
    found = scores_of(tiny_linear(), None, TINY_INPUT, saliency="snip", inputs="real")["1.weight"]
    torch.testing.assert_close(found, expected)


def test_grasp_of_a_linear_layer_by_hand() -> None:
    """With q = softmax(W x / 200): g = (q - y) x' / 200, Hg = (diag q - q q') (q - y) x' |x|^2 / 200^3; theta.(Hg)."""
    x, w = torch.tensor([1.0, 2.0]).double(), tiny_linear()[1].weight.detach()
    q = torch.softmax(w @ x / 200, 0)
    curvature = torch.diag(q) - torch.outer(q, q)
    hg = torch.outer(curvature @ (q - torch.tensor([1.0, 0.0])), x) * 5 / 200**3
    found = scores_of(tiny_linear(), None, TINY_INPUT, saliency="grasp", inputs="real")["1.weight"]
    torch.testing.assert_close(found, w * hg, rtol=1e-9, atol=0)


def test_grasp_predicts_how_gradient_flow_falls_when_a_weight_is_removed() -> None:
    """Removing a small share h of weight j changes |g|^2 by -2 h theta_j (Hg)_j: the largest score is what to keep."""
    model = small_net("none")
    draws = draws_of(labels=True)
    found = scores_of(model, None, draws, saliency="grasp", inputs="real")["3.weight"].flatten()
    x, y = draws[0]
    weights = list(prunable_weights(model).values())

    def flow() -> float:
        gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x) / 200, y), weights)
        return sum(float(g.square().sum()) for g in gradients)

    for j in (int(found.argmax()), int(found.argmin())):
        before = flow()
        with torch.no_grad():
            model[3].weight.view(-1)[j] *= 1 - 1e-5
        assert flow() - before == pytest.approx(-2e-5 * float(found[j]), rel=1e-3)


def test_synflow_by_hand() -> None:
    """Paths of |w| from an input of ones: layer 1 [[1, 2], [0.5, 3]], layer 2 [1, -1]; R = (1 + 2) + (0.5 + 3)."""
    model = nn.Sequential(tiny_linear(), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    model[3].weight.data.copy_(torch.tensor([[1.0, -1.0]]))
    found = scores_of(model, None, [(torch.randn(4, 1, 1, 2).double(), None)], saliency="synflow")
    torch.testing.assert_close(found["0.1.weight"], torch.tensor([[1.0, 2.0], [0.5, 3.0]]).double() / 6.5)
    torch.testing.assert_close(found["3.weight"], torch.tensor([[3.0, 3.5]]).double() / 6.5)


def test_synflow_survives_a_depth_at_which_its_sum_overflows_float32() -> None:
    model = nn.Sequential(*[nn.Linear(64, 64, bias=False) for _ in range(60)])
    initialise(model, torch_generator(0))
    found = scores_of(model, None, [(torch.ones(1, 64), None)], saliency="synflow")
    for value in found.values():
        assert float(value.sum()) == pytest.approx(1.0, rel=1e-4)


def test_magnitude_and_random_need_no_pass() -> None:
    model = tiny_linear()
    found = score_without_passes(model, "magnitude", torch_generator(0))["1.weight"]
    assert found.tolist() == [[1.0, 2.0], [0.5, 3.0]]
    one, other = (score_without_passes(model, "random", torch_generator(seed))["1.weight"] for seed in (0, 1))
    assert one.shape == (2, 2) and not torch.equal(one, other)


def test_only_grasp_keeps_the_sign() -> None:
    scores = {"w": torch.tensor([-3.0, 2.0])}
    assert importance(scores, "grasp")["w"].tolist() == [-3.0, 2.0]
    assert all(importance(scores, name)["w"].tolist() == [3.0, 2.0] for name in ("ntk", "snip", "synflow"))


def test_the_error_of_the_forward_estimate_is_that_of_its_directions() -> None:
    """|G_hat - G| / |G| ~ sqrt((kept + 1) / N), and N directions in each of d micro-batches are d N directions."""
    model = small_net("group").float()
    mask = half_mask(model)
    draw = [(draws_of()[0][0].float(), None)]
    exact = to_entries(scores_of(model, mask, draw), mask)
    for count, micro_batches in ((40, 1), (160, 1), (40, 4)):
        found = scores_of(model, mask, draw, forward=count, scoring_micro_batch=8 // micro_batches)
        error = float((to_entries(found, mask) - exact).norm() / exact.norm())
        assert error == pytest.approx(np.sqrt((mask.kept + 1) / (count * micro_batches)), rel=0.2)


def live_bytes_and_flops(run: Callable[[nn.Module], object], model: nn.Module) -> tuple[int, float]:
    with StepMeter(model, None, {"parameters": [flat_parameters(model)]}) as meter:
        run(model)
        cost = meter.cost()
    return cost.peak["activations"], cost.flops


def test_flops_are_seven_forwards_less_two_first_layers_or_four_forwards_a_direction_and_one() -> None:
    model = build("lenet5:norm=group", (1, 32, 32), 10)
    flat_parameters(model)
    macs = forward_macs(model, (1, 32, 32))
    first = next(iter(macs.layers.values()))
    draw = [(torch.randn(6, 1, 32, 32, generator=torch_generator(0)), None)]
    for forward, expected in ((None, 7 * macs.dense - 2 * first), (5, 21 * macs.dense)):
        _, flops = live_bytes_and_flops(
            lambda m, f=forward: scores_of(m, None, draw, forward=f, scoring_micro_batch=3), model
        )
        assert flops == 2 * 6 * expected


def test_one_branch_lives_at_a_time_and_forward_passes_keep_no_graph() -> None:
    model = build("lenet5", (1, 32, 32), 10)
    x = torch.randn(64, 1, 32, 32, generator=torch_generator(0))
    theta = {name: w.detach().clone() for name, w in prunable_weights(model).items()}

    def joint(model: nn.Module) -> None:
        m = {name: one.requires_grad_() for name, one in ones_like(theta, None).items()}
        objective(model, m, theta, noise_like(theta, 0.01), x).backward()

    both, _ = live_bytes_and_flops(joint, model)
    one, _ = live_bytes_and_flops(lambda m: scores_of(m, None, [(x, None)]), model)
    small, _ = live_bytes_and_flops(lambda m: scores_of(m, None, [(x, None)], scoring_micro_batch=8), model)
    none, _ = live_bytes_and_flops(lambda m: scores_of(m, None, [(x, None)], forward=2), model)
    assert one < 0.7 * both
    assert small < 0.25 * one
    assert none < 0.7 * one


def lenet_scores(seed: int, weights: str) -> dict[str, Tensor]:
    model = build("lenet5", (1, 32, 32), 10)
    generator = torch_generator(seed)

    def inputs() -> Iterator[tuple[Tensor, None]]:
        for _ in range(4):
            yield torch.randn(32, 1, 32, 32, generator=generator), None

    return score(model, None, SaliencyConfig(weights=weights), inputs(), generator, initialise)  # type: ignore[arg-type]


def test_redrawn_weights_leave_no_ranking_within_a_layer_and_fixed_ones_do() -> None:
    reinit, fixed = ([lenet_scores(seed, weights) for seed in (1, 2)] for weights in ("reinit", "fixed"))
    for name in ("fc1.weight", "fc2.weight"):
        ranks = [stats.spearmanr(*(one[name].abs().flatten() for one in pair)).statistic for pair in (reinit, fixed)]
        assert abs(ranks[0]) < 0.1
        assert ranks[1] > 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"saliency": "snip"}, r"snip needs labels, which Gaussian inputs do not have; set inputs = \"real\"\."),
        ({"saliency": "grasp"}, "grasp needs labels"),
        ({"draws": 0}, "draws = 0: input should be greater than 0"),
        ({"saliency": "ntks"}, "saliency = 'ntks'"),
    ],
)
def test_a_wrong_key_is_one_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        validated(SaliencyConfig, given, "params.fed_ntk_zo")

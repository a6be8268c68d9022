"""Estimators: the same scalars from finite differences and from the gradient, and the laws of the estimate."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fedfore.api import Mask
from fedfore.baselines.baffle import Baffle
from fedfore.cell import Protocol
from fedfore.errors import Skip
from fedfore.federation.clients import Clients, ClientsOneByOne
from fedfore.federation.loop import Federation
from fedfore.federation.observers.evaluator import Evaluator
from fedfore.masks import prunable_shapes, random_mask, uniform_densities
from fedfore.primitives import zeroth_order
from fedfore.primitives.finite_difference import FiniteDifferenceConfig, finite_differences
from fedfore.primitives.flat import active_coordinates, flat_parameters, select
from fedfore.primitives.gradients import Batch, flat_gradient
from fedfore.primitives.perturbations import Directions
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise
from tests.conftest import make_cell

DIRECTIONS = Directions(seed=5, round=2)


@pytest.fixture
def model() -> nn.Module:
    made = build("lenet5", (1, 32, 32), 10)
    initialise(made, torch_generator(0))
    return made


def random_batch(seed: int, size: int = 32) -> Batch:
    generator = torch_generator(seed)
    return Batch(torch.randn(size, 1, 32, 32, generator=generator), torch.randint(10, (size,), generator=generator))


@pytest.fixture
def batch() -> Batch:
    return random_batch(1)


def mask_of(model: nn.Module, density: float) -> Mask | None:
    if density == 1:
        return None
    shapes = prunable_shapes(model)
    mask = random_mask(shapes, uniform_densities(shapes, density), torch_generator(2))
    mask.apply_(dict(model.named_parameters()))
    return mask


def step(estimator: str, seed: int = 5, **config: Any) -> Step:
    return Step(estimator, ZerothOrderConfig(**config), seed, round=2)  # type: ignore[arg-type]


def estimate(made: Step, model: nn.Module, batches: list[Batch], mask: Mask | None = None) -> torch.Tensor:
    """Return g_hat at the active coordinates, clients weighted equally."""
    clients = range(len(batches))
    sent = made.send(model, batches, clients, mask)
    shares = [1 / len(batches)] * len(batches)
    return select(made.estimate(sent, shares, clients, model, mask), active_coordinates(model, mask))


def true_gradient(model: nn.Module, batch: Batch, mask: Mask | None = None) -> torch.Tensor:
    return select(flat_gradient(model, batch), active_coordinates(model, mask))


def scalar_error(model: nn.Module, batch: Batch, mask: Mask | None, sigma: float, form: str, restore: str) -> float:
    config = {"num_perturbations": 20, "sigma": sigma, "form": form, "restore": restore}
    measured, expected = (
        step(estimator, **config).send(model, [batch], [0], mask)[0].scalars
        for estimator in ("finite_difference", "directional")
    )
    assert measured is not None and expected is not None
    return float((measured - expected).norm() / expected.norm())


def smooth_double() -> nn.Module:
    """Return LeNet-5 with tanh and average pooling in float64: no kinks, so the Taylor orders show."""
    made = build("lenet5:activation=tanh", (1, 32, 32), 10)
    initialise(made, torch_generator(0))
    for name, module in list(made.named_children()):
        if isinstance(module, nn.MaxPool2d):
            setattr(made, name, nn.AvgPool2d(2))
    return made.double()


@pytest.mark.parametrize(("form", "order"), [("forward", 1), ("central", 2)])
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_finite_differences_converge_to_the_directional_derivative_at_their_order(
    batch: Batch, form: str, order: int, density: float
) -> None:
    model = smooth_double()
    batch = Batch(batch.x.double(), batch.y)
    mask = mask_of(model, density)
    coarse, fine = (scalar_error(model, batch, mask, sigma, form, "copy") for sigma in (1e-4, 1e-5))
    assert fine < 1e-3
    assert np.log10(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize("restore", ["seed", "copy", "as_released"])
def test_weights_are_restored_and_the_mask_holds(model: nn.Module, batch: Batch, density: float, restore: str) -> None:
    mask = mask_of(model, density)
    before = flat_parameters(model).clone()
    assert scalar_error(model, batch, mask, 1e-4, "forward", restore) < 0.08
    drift = (flat_parameters(model) - before).abs().max()
    assert drift < 1e-6 if restore == "seed" else drift == 0
    if mask is not None:
        assert mask.leak(dict(model.named_parameters())) is None


def test_buffers_are_never_perturbed(batch: Batch) -> None:
    model = build("lenet5:norm=batch", (1, 32, 32), 10)
    initialise(model, torch_generator(0))
    model.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    finite_differences(model, batch, DIRECTIONS, FiniteDifferenceConfig(num_perturbations=3, sigma=1e-3), None)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_the_estimate_of_one_direction_is_the_projection_on_it(model: nn.Module, batch: Batch) -> None:
    gradient = true_gradient(model, batch)
    e = DIRECTIONS.generate(0, 1, (0, len(gradient)), None, gradient.device)[0]
    found = estimate(step("directional", num_perturbations=1), model, [batch])
    torch.testing.assert_close(found, (gradient @ e) * e, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "distribution"),
    [("directional", "gaussian"), ("moment", "gaussian"), ("directional", "rademacher")],
)
@pytest.mark.parametrize(("density", "count"), [(1.0, 200), (1.0, 20), (0.2, 100), (0.05, 400)])
def test_the_error_of_the_estimate_follows_the_law(
    model: nn.Module, batch: Batch, estimator: str, distribution: str, density: float, count: int
) -> None:
    """E|g_hat - g|^2 = (P + 1)/K |g|^2 for Gaussian and (P - 1)/K |g|^2 for Rademacher directions."""
    mask = mask_of(model, density)
    gradient = true_gradient(model, batch, mask)
    sign = 1 if distribution == "gaussian" else -1
    errors = []
    for seed in range(40 if estimator == "moment" else 20 if count == 20 else 8):
        made = step(estimator, seed, num_perturbations=count, distribution=distribution)
        found = estimate(made, model, [batch], mask)
        errors.append(float((found - gradient).square().sum() / gradient.square().sum()))
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.sqrt((len(gradient) + sign) / count), rel=0.05)


@pytest.mark.parametrize("estimator", ["directional", "moment"])
def test_the_cosine_follows_its_beta_law(estimator: str) -> None:
    """cos^2(g_hat, g) ~ Beta(K/2, (P - 1)/2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))
    batch = Batch(torch.randn(8, 16, generator=torch_generator(3)), torch.arange(8) % 3)
    gradient, count = true_gradient(model, batch), 10
    cosines = [
        float(
            torch.cosine_similarity(
                estimate(step(estimator, seed, num_perturbations=count), model, [batch]), gradient, 0
            )
        )
        for seed in range(400)
    ]
    law = stats.beta(count / 2, (len(gradient) - 1) / 2)
    assert stats.kstest(np.square(cosines), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("perturbations", ["shared", "independent"])
def test_moment_and_directional_estimates_have_one_distribution(perturbations: str) -> None:
    """Kolmogorov-Smirnov tests on projections of a three-client estimate: on the gradients and on a fixed direction."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False))
    batches = [Batch(torch.randn(8, 16, generator=torch_generator(s)), torch.full((8,), s)) for s in range(3)]
    axes = [true_gradient(model, batch) for batch in batches] + [torch.ones(48)]
    projections: dict[str, list[list[float]]] = {}
    for estimator in ("directional", "moment"):
        found = [
            estimate(step(estimator, s, num_perturbations=5, perturbations=perturbations), model, batches)
            for s in range(400)
        ]
        projections[estimator] = [[float(one @ axis) for one in found] for axis in axes] + [
            [float(one.norm()) for one in found]
        ]
    for one, other in zip(projections["directional"], projections["moment"], strict=True):
        assert stats.ks_2samp(one, other).pvalue > 1e-3


def test_moment_scalars_have_the_covariance_of_directional_ones(model: nn.Module) -> None:
    batches = [random_batch(seed, 8) for seed in range(3)]
    gradients = torch.stack([true_gradient(model, batch) for batch in batches])
    expected = gradients @ gradients.T
    for estimator in ("moment", "directional"):
        sent = step(estimator, num_perturbations=2000, sigma=1.0).send(model, batches, range(3), None)
        scalars = torch.stack([one.scalars for one in sent if one.scalars is not None])
        found = scalars @ scalars.T / 2000
        torch.testing.assert_close(found, expected, rtol=0.15, atol=0.1 * float(expected.max()))


def test_the_exact_control_is_the_gradient(model: nn.Module, batch: Batch) -> None:
    mask = mask_of(model, 0.3)
    torch.testing.assert_close(estimate(step("exact"), model, [batch], mask), true_gradient(model, batch, mask))


def test_nothing_is_estimated_where_the_mask_prunes(model: nn.Module, batch: Batch) -> None:
    mask = mask_of(model, 0.3)
    made = step("directional", num_perturbations=3)
    found = made.estimate(made.send(model, [batch], [0], mask), [1.0], [0], model, mask)
    active = active_coordinates(model, mask)
    assert active is not None
    inactive = torch.ones_like(found, dtype=torch.bool)
    inactive[active] = False
    assert torch.count_nonzero(found[inactive]) == 0
    assert torch.count_nonzero(found[active]) > 0.99 * len(active)


@pytest.mark.parametrize("clip", ["none", "client", "server"])
@pytest.mark.parametrize("perturbations", ["shared", "independent"])
@pytest.mark.parametrize("estimator", ["finite_difference", "directional", "moment", "exact"])
def test_all_clients_in_one_pass_equal_the_loop(
    model: nn.Module, estimator: str, perturbations: str, clip: str
) -> None:
    if estimator == "moment" and (clip, perturbations) != ("none", "independent"):
        pytest.skip("shared moment draws are made together, and no moment estimate is clipped")
    made = step(estimator, num_perturbations=6, perturbations=perturbations, clip=clip, restore="copy")
    batches = [random_batch(seed, 8) for seed in range(3)]
    shares = [0.5, 0.3, 0.2]
    together = made.estimate(made.send(model, batches, range(3), None), shares, range(3), model, None)
    one_by_one = sum(
        share * made.estimate(made.send(model, [batch], [c], None), [1.0], [c], model, None)
        for c, (share, batch) in enumerate(zip(shares, batches, strict=True))
    )
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("estimator", ["finite_difference", "directional", "exact"])
def test_clipping_by_client_and_by_server_agree_and_keep_the_infinity_norm(model: nn.Module, estimator: str) -> None:
    batches = [random_batch(seed, 8) for seed in range(2)]
    found = {
        clip: estimate(step(estimator, num_perturbations=5, clip=clip, clip_norm=0.01, restore="copy"), model, batches)
        for clip in ("none", "client", "server")
    }
    assert found["none"].abs().max() > 0.02
    assert found["server"].abs().max() <= 0.01 + 1e-6
    torch.testing.assert_close(found["client"], found["server"], rtol=1e-3, atol=1e-7)


def test_independent_perturbations_average_out_and_shared_ones_do_not(model: nn.Module, batch: Batch) -> None:
    """Variance of identical gradients: (P + 1)/K |g|^2 shared, a C-th of it independent."""
    gradient, clients, count = true_gradient(model, batch), 5, 50
    for perturbations, divisor in (("shared", 1), ("independent", clients)):
        made = step("directional", num_perturbations=count, perturbations=perturbations)
        error = (estimate(made, model, [batch] * clients) - gradient).square().sum() / gradient.square().sum()
        assert float(error) == pytest.approx((len(gradient) + 1) / count / divisor, rel=0.3)


def test_every_local_step_and_client_has_directions_of_its_own() -> None:
    config = ZerothOrderConfig(perturbations="independent")
    keys = {
        Step("directional", config, 1, round, local_step).directions(client).key(k)
        for round in range(3)
        for local_step in range(3)
        for client in range(3)
        for k in range(3)
    }
    assert len(keys) == 81


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"distribution": "rademacher"}, "Gaussian"),
        ({"clip": "server"}, "clipping"),
        ({"clip": "client"}, "clipping"),
        ({"communication": "epoch"}, "in one draw"),
    ],
)
def test_moment_is_skipped_where_it_is_not_exact(config: dict[str, Any], said: str) -> None:
    method = Baffle(Baffle.Config(**config))
    with pytest.raises(Skip, match=said):
        method.check(make_cell(Baffle, estimator="moment"))
    method.check(make_cell(Baffle, estimator="directional"))


def test_moment_draws_of_shared_directions_that_were_made_one_by_one_are_refused(model: nn.Module) -> None:
    made, batches = step("moment", num_perturbations=6), [random_batch(seed, 8) for seed in range(2)]
    apart = [made.send(model, [batch], [c], None)[0] for c, batch in enumerate(batches)]
    with pytest.raises(Skip, match="in one draw"):
        made.estimate(apart, [0.5, 0.5], range(2), model, None)
    made.estimate(apart[:1], [1.0], [0], model, None)


@pytest.mark.parametrize("communication", ["step", "epoch"])
@pytest.mark.parametrize("perturbations", ["shared", "independent"])
def test_moment_runs_client_by_client_only_where_directions_are_independent(
    federation: Callable[..., Federation], perturbations: str, communication: str
) -> None:
    """Client by client are local steps, and a method without the form for all clients at once."""

    def run(clients: type[Clients]) -> torch.Tensor:
        train = Protocol(clients=2, batch_size=40, rounds=1)
        options = {"clients": clients}
        made = federation(Baffle, train, given=given, estimator="moment", options=options)
        return flat_parameters(made.run().model)

    given = {"num_perturbations": 3, "perturbations": perturbations, "communication": communication}
    if perturbations == "independent":
        torch.testing.assert_close(run(Clients), run(ClientsOneByOne), rtol=1e-5, atol=1e-7)
    else:
        with pytest.raises(Skip, match="in one draw"):
            run(Clients if communication == "epoch" else ClientsOneByOne)


@pytest.mark.parametrize(("rounds", "every"), [(4, 1), pytest.param(15, 3, marks=pytest.mark.slow)])
@pytest.mark.thorough
def test_a_finite_difference_cell_agrees_with_its_directional_twin(
    federation: Callable[..., Federation], rounds: int, every: float
) -> None:
    train = Protocol(clients=4, batch_size=16, rounds=rounds, eval_every=every)
    given = {"num_perturbations": 20, "lr": 3e-3}
    real, limit = (
        federation(Baffle, train, given=given, estimator=estimator).run()
        for estimator in ("finite_difference", "directional")
    )
    difference = flat_parameters(real.model) - flat_parameters(limit.model)
    start = federation(Baffle, train, given=given, estimator="directional").model
    moved = flat_parameters(limit.model) - flat_parameters(start)
    assert difference.norm() < 0.1 * moved.norm()
    for one, other in zip(real.seen_by(Evaluator).points, limit.seen_by(Evaluator).points, strict=True):
        assert one.test.loss == pytest.approx(other.test.loss, rel=0.03)
        assert abs(one.test.accuracy - other.test.accuracy) <= 0.03


@pytest.mark.parametrize(
    "given", [{}, {"perturbations": "independent"}, {"clip": "client"}, {"clip": "server"}], ids=str
)
def test_directions_that_are_held_for_the_estimate_change_no_bit(
    model: nn.Module, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, asked = [random_batch(seed, 8) for seed in (1, 2)], []
    generate = Directions.generate

    def watched(directions: Directions, *args: Any) -> torch.Tensor:
        asked.append(args)
        return generate(directions, *args)

    monkeypatch.setattr(Directions, "generate", watched)
    found, numbers = [], []
    for held in (1 << 24, 0):
        monkeypatch.setattr(zeroth_order, "HELD", held)
        zeroth_order._held.cache_clear()
        one = step("directional", num_perturbations=40, **given)
        sent = one.send(model, data, [0, 3], None)
        estimate = one.estimate(sent, [0.25, 0.75], [0, 3], model, None)
        found.append(torch.cat([*(scalars.scalars for scalars in sent), estimate]))
        numbers.append(len(asked))
    assert torch.equal(*found)
    assert given or numbers == [3, 3 + 6]

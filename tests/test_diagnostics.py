"""Gradient diagnostics against closed forms."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from baselines.baffle import Baffle
from baselines.baffle_erk import BaffleERK
from baselines.fedavg import FedAvg
from baselines.fedavg_erk import FedAvgERK
from bench.cell import Protocol
from bench.diagnostics import gradient_energy, scalar_error, summary, variance_ratio
from bench.errors import ConfigError
from bench.federated import Federation
from bench.masks import Mask, prunable_shapes, random_mask, uniform_densities
from bench.models import build, initialise
from bench.primitives.gradients import Batch
from bench.primitives.zeroth_order import Step, ZerothOrderConfig, check_estimator
from bench.probes import MILESTONES
from bench.streams import torch_generator

Make = Callable[..., Federation]
TRAIN = Protocol(clients=4, batch_size=16, rounds=20)


@pytest.fixture
def model() -> nn.Module:
    made = build("lenet5", (1, 32, 32), 10)
    initialise(made, torch_generator(0))
    return made


def batch_of(label: int, size: int = 16) -> Batch:
    x = torch.randn(size, 1, 32, 32, generator=torch_generator(label))
    return Batch(x, torch.full((size,), label))


def test_the_exact_control_has_no_error(federation: Make) -> None:
    result = federation(Baffle, TRAIN, estimator="exact").run()
    for one in result.diagnoses:
        assert one.grad_rel_error == pytest.approx(0.0, abs=1e-6)
        assert one.grad_cosine == pytest.approx(1.0, abs=1e-5)
        assert one.fd_scalar_error is None


@pytest.mark.parametrize("estimator", ["finite_difference", "directional", "moment"])
def test_the_recorded_error_follows_the_law(federation: Make, estimator: str) -> None:
    made = federation(BaffleERK, TRAIN, given={"num_perturbations": 50}, estimator=estimator, sparsity=0.8)
    result = made.run()
    assert result.mask is not None
    active = result.mask.kept + 61_706 - result.mask.size
    found = summary(result.diagnoses, result.energy_at_start)
    assert found["grad_rel_error"] == pytest.approx(np.sqrt((active + 1) / 50), rel=0.15)
    assert found["grad_cosine"] == pytest.approx(np.sqrt(50 / (50 + active)), rel=0.5)
    assert 0 < found["fd_scalar_error"] < 0.2


def test_every_moment_of_the_budget_is_diagnosed_once(federation: Make) -> None:
    seen = federation(Baffle, TRAIN, given={"num_perturbations": 4}, estimator="moment").run().diagnoses
    assert [one.moment for one in seen] == list(MILESTONES)
    assert [one.round for one in seen] == [0, 1, 2, 10, 20]


def test_methods_that_send_no_estimate_have_no_estimate_quality(federation: Make) -> None:
    result = federation(FedAvg).run()
    assert set(summary(result.diagnoses, result.energy_at_start).values()) == {None}


def test_diagnostics_change_nothing(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = federation(Baffle, given={"num_perturbations": 4}, estimator="directional").run()
    monkeypatch.setattr(Federation, "_diagnose", lambda self: None)
    plain = federation(Baffle, given={"num_perturbations": 4}, estimator="directional").run()
    assert [p.test.loss for p in measured.points] == [p.test.loss for p in plain.points]
    assert measured.totals == plain.totals


def test_the_variance_ratio_of_agreeing_clients_is_their_number_and_falls_with_disagreement(model: nn.Module) -> None:
    assert variance_ratio(model, [batch_of(3)] * 5, [10] * 5, None) == pytest.approx(5.0, rel=1e-4)
    skewed = variance_ratio(model, [batch_of(label) for label in range(5)], [10] * 5, None)
    assert skewed < 4.0
    assert variance_ratio(model, [batch_of(1), batch_of(2)], [1, 10**6], None) == pytest.approx(1.0, abs=1e-3)


def test_a_random_mask_keeps_its_density_of_the_gradient_energy(model: nn.Module) -> None:
    shapes = prunable_shapes(model)
    kept = [
        gradient_energy(
            model, batch_of(1, 64), random_mask(shapes, uniform_densities(shapes, 0.3), torch_generator(seed))
        )
        for seed in range(5)
    ]
    assert np.mean(kept) == pytest.approx(0.3, abs=0.03)
    everything = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})
    assert gradient_energy(model, batch_of(1), everything) == pytest.approx(1.0)


def test_energy_is_measured_at_the_dense_start_and_at_the_masked_end(federation: Make) -> None:
    made = federation(FedAvgERK, TRAIN, sparsity=0.8)
    result = made.run()
    found = summary(result.diagnoses, result.energy_at_start)
    assert 0.1 < found["grad_energy_kept"] < 0.6
    assert 0.0 < found["grad_energy_masked_point"] < 1.0
    assert found["grad_energy_kept"] != found["grad_energy_masked_point"]


def test_low_precision_forwards_break_finite_differences(model: nn.Module) -> None:
    """bfloat16 keeps 8 bits of a weight near 0.05, float16 11: a change of 1e-4 is rounded away, or nearly."""
    config = ZerothOrderConfig(sigma=1e-4)
    errors = [
        scalar_error(model, batch_of(1), Step("directional", replace(config, precision=precision), 1, 0), None)
        for precision in ("float32", "float16", "bfloat16")
    ]
    assert errors[0] < 0.05 < 0.2 < errors[1] < errors[2]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_training_by_finite_differences_in_low_precision_is_refused(precision: str) -> None:
    config = ZerothOrderConfig(precision=precision)
    with pytest.raises(ConfigError, match=f"finite differences of {precision} losses are rounding noise"):
        check_estimator("finite_difference", config)
    check_estimator("directional", config)


def test_a_network_without_a_gradient_has_no_energy_to_keep(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    everything = Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in prunable_shapes(model).items()})
    assert gradient_energy(model, batch_of(1), everything) is None

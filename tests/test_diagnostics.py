"""Gradient diagnostics against closed forms."""

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Client, ClientContext, Context, Estimate, Message, Method, ServerContext, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.baffle_erk import BaffleERK
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.cell import Protocol
from fedfore.errors import ConfigError, Diverged
from fedfore.federation.loop import Federation
from fedfore.federation.observers.diagnoser import GradientDiagnoser
from fedfore.federation.observers.evaluator import Evaluator
from fedfore.masks import Mask, dead_channels, prunable_shapes, prunable_weights, random_mask, uniform_densities
from fedfore.measure import diagnostics
from fedfore.measure.diagnostics import estimate_quality, gradient_energy, scalar_error, variance_ratio
from fedfore.methods.fed_ntk_zo import FedNTKZO
from fedfore.primitives.gradients import Batch, flat_gradient
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig, check_estimator
from fedfore.records.lines import DIAGNOSTICS
from fedfore.records.probes import MILESTONES
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise
from tests.conftest import TINY

Make = Callable[..., Federation]
TRAIN = Protocol(clients=4, batch_size=16, rounds=20)
SETUP = Protocol(clients=4, batch_size=16, setup_only=True)


@pytest.fixture
def model() -> nn.Module:
    made = build("lenet5", (1, 32, 32), 10)
    initialise(made, torch_generator(0))
    return made


def batch_of(label: int, size: int = 16) -> Batch:
    x = torch.randn(size, 1, 32, 32, generator=torch_generator(label))
    return Batch(x, torch.full((size,), label))


@pytest.mark.parametrize("augment", [False, True])
def test_the_exact_control_has_no_error(federation: Make, augment: bool) -> None:
    result = federation(Baffle, replace(TINY, augment=augment), estimator="exact").run()
    for one in result.seen_by(GradientDiagnoser).diagnoses:
        assert one.grad_rel_error == pytest.approx(0.0, abs=1e-6)
        assert one.grad_cosine == pytest.approx(1.0, abs=1e-5)
        assert one.fd_scalar_error is None


@pytest.mark.parametrize(
    ("estimator", "rounds"),
    [
        ("finite_difference", 1),
        pytest.param("finite_difference", 20, marks=pytest.mark.slow),
        ("directional", 5),
        ("moment", 20),
    ],
)
@pytest.mark.thorough
def test_the_recorded_error_follows_the_law(federation: Make, estimator: str, rounds: int) -> None:
    train = replace(TRAIN, rounds=rounds)
    made = federation(BaffleERK, train, given={"num_perturbations": 50}, estimator=estimator, sparsity=0.8)
    result = made.run()
    assert result.mask is not None
    active = result.mask.kept + 61_706 - result.mask.size
    found = result.fields()
    assert found["grad_rel_error"] == pytest.approx(np.sqrt((active + 1) / 50), rel=0.15)
    assert found["grad_cosine"] == pytest.approx(np.sqrt(50 / (50 + active)), rel=0.5)
    assert 0 < found["fd_scalar_error"] < 0.2


@pytest.mark.thorough
def test_every_moment_of_the_budget_is_diagnosed_once(federation: Make) -> None:
    seen = (
        federation(Baffle, TRAIN, given={"num_perturbations": 4}, estimator="moment")
        .run()
        .seen_by(GradientDiagnoser)
        .diagnoses
    )
    assert [one.moment for one in seen] == list(MILESTONES)
    assert [one.round for one in seen] == [0, 1, 2, 10, 20]


def test_methods_that_send_no_estimate_have_no_estimate_quality(federation: Make) -> None:
    result = federation(FedAvg).run()
    assert set(result.seen_by(GradientDiagnoser).fields(result).values()) == {None}


def test_diagnostics_change_nothing(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = federation(Baffle, given={"num_perturbations": 4}, estimator="directional").run()
    monkeypatch.setattr(GradientDiagnoser, "_diagnose", lambda *_: None)
    plain = federation(Baffle, given={"num_perturbations": 4}, estimator="directional").run()
    assert [p.test.loss for p in measured.seen_by(Evaluator).points] == [
        p.test.loss for p in plain.seen_by(Evaluator).points
    ]
    assert measured.totals == plain.totals


class OnlyInDocumentedPhases(Baffle):
    """Refuses every call that the contract does not describe."""

    def start(self, model: nn.Module, ctx: ServerContext) -> Mask | None:
        self._check(ctx)
        return super().start(model, ctx)

    def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
        self._check(ctx)
        return super().broadcast(model, ctx)

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        self._check(ctx)
        return super().client_update(model, client, ctx)

    def client_updates(self, model: nn.Module, clients: Sequence[Client], ctx: ClientContext) -> list[Update] | None:
        self._check(ctx)
        return super().client_updates(model, clients, ctx)

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        self._check(ctx)
        return super().aggregate(model, updates, ctx)

    def evaluation_weights(self, model: nn.Module, ctx: ServerContext) -> Mapping[str, Tensor] | None:
        self._check(ctx)
        return super().evaluation_weights(model, ctx)

    def round_kind(self, ctx: Context) -> str:
        self._check(ctx)
        return super().round_kind(ctx)

    def _check(self, ctx: Context) -> None:
        assert ctx.phase in ("setup", "train"), ctx.phase


def test_hooks_are_called_in_documented_phases_and_a_rehearsal_before_the_end(federation: Make) -> None:
    progress: list[float] = []

    class Rehearsed(OnlyInDocumentedPhases):
        """Notes when it is asked for a message."""

        def broadcast(self, model: nn.Module, ctx: ServerContext) -> Message:
            progress.append(ctx.progress)
            return super().broadcast(model, ctx)

    diagnoses = (
        federation(Rehearsed, given={"num_perturbations": 4}, estimator="directional")
        .run()
        .seen_by(GradientDiagnoser)
        .diagnoses
    )
    assert all(one.grad_rel_error is not None for one in diagnoses)
    assert len(progress) == 2 + len(diagnoses) and all(0 <= spent < 1 for spent in progress)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (Baffle, {"given": {"lr": 1e20}}),
        (BaffleERK, {"given": {"lr": 1e10}, "sparsity": 0.5}),
        (FedAvgERK, {"given": {"lr": 1e9}, "sparsity": 0.5}),
    ],
)
def test_training_that_is_no_longer_finite_has_diverged_also_between_evaluations(
    federation: Make, method: type[Method], fields: dict[str, Any]
) -> None:
    if "estimator" in method.uses:
        fields = {**fields, "given": {**fields["given"], "num_perturbations": 5}, "estimator": "directional"}
    with pytest.raises(Diverged, match=r"not finite after train round [123]; try a smaller learning rate\.$"):
        federation(method, replace(TINY, rounds=3, eval_every=3), **fields).run()


@pytest.mark.parametrize("keys", [{"precision": "float16", "init_scale": 1000.0}, {"sigma": 1e20}])
@pytest.mark.thorough
def test_scalars_that_overflow_are_unknown_and_no_failure(federation: Make, keys: dict[str, Any]) -> None:
    made = federation(Baffle, given={"num_perturbations": 5, **keys}, estimator="directional")
    result = made.run()
    fields = result.fields()
    assert fields["fd_scalar_error"] is None and fields["grad_rel_error"] > 0
    json.dumps([fields, *result.log()[DIAGNOSTICS]], allow_nan=False)


def test_what_is_not_defined_is_unknown(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    silent = Estimate(torch.zeros(61_706), Step("exact", ZerothOrderConfig(), 1, 0))
    found = estimate_quality(model, batch_of(0), silent, None)
    assert found == {"grad_rel_error": 1.0, "grad_cosine": None, "fd_scalar_error": None}


def test_the_variance_ratio_holds_no_more_gradients_for_more_clients(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def counted(*args: Any) -> Tensor:
        held.append(sum(type(one) is Tensor and one.shape == (61_706,) for one in gc.get_objects()))
        return flat_gradient(*args)

    monkeypatch.setattr(diagnostics, "flat_gradient", counted)
    variance_ratio(model, [batch_of(label) for label in range(5)], [10] * 5, None)
    assert len(set(held[1:])) == 1


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


def batch_normalised() -> tuple[nn.Module, Mask]:
    """Return a net of which the mask leaves the second of three filters without a weight, masked."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 30 * 30, 10))
    initialise(net, torch_generator(3))
    filters = torch.ones(3, 1, 3, 3, dtype=torch.bool)
    filters[1] = False
    filters[0, 0, 0] = False
    mask = Mask({"0.weight": filters, "3.weight": torch.ones(10, 2700, dtype=torch.bool)})
    mask.apply_(dict(net.named_parameters()))
    return net, mask


def test_weights_of_a_channel_without_weights_are_no_part_of_the_energy() -> None:
    net, mask = batch_normalised()
    batch = batch_of(2)
    first, last = torch.autograd.grad(batch.loss(net), [net[0].weight, net[3].weight])
    dead = float(first[1].square().sum())
    assert dead > 100 * float(first[[0, 2]].square().sum()), "batch norm multiplies what reaches it by 1 / sqrt(eps)"
    rest = float(first[[0, 2]].square().sum() + last.square().sum())
    lost = float(first[0, 0, 0].square().sum())
    assert gradient_energy(net, batch, mask) == pytest.approx(1 - lost / rest, rel=1e-4)
    assert [int(dead_channels(weight).sum()) for weight in (net[0].weight, net[3].weight)] == [1, 0]


def test_dead_channels_are_counted_in_the_record(federation: Make) -> None:
    made = federation(FedAvgERK, replace(TINY, rounds=1), sparsity=0.99)
    result = made.run()
    assert result.mask is not None
    dead = sum(int((~layer.flatten(1).any(1)).sum()) for layer in result.mask.values())
    assert result.fields()["dead_channels"] == dead > 0


def test_energy_at_the_start_is_that_of_the_weights_that_the_method_starts_from(federation: Make) -> None:
    kept = []
    for scale in (1.0, 4.0):
        made = federation(BaffleERK, SETUP, given={"init_scale": scale}, estimator="directional", sparsity=0.8)
        kept.append(made.run().seen_by(GradientDiagnoser).energy_at_start)
    scaled = made.world.initial_model(made.server.method)
    with torch.no_grad():
        for weight in prunable_weights(scaled).values():
            weight.mul_(4.0)
    assert made.mask is not None
    assert kept[1] == gradient_energy(scaled, made.world.batch(made.world.probe), made.mask) != kept[0]


def test_energy_at_the_start_is_of_each_weight_once_where_what_is_pruned_keeps_its_value(federation: Make) -> None:
    given = {"where": "server", "iterations": 1, "draws": 1, "inputs_per_draw": 4}
    zeroed, valued = (
        federation(
            FedNTKZO, SETUP, given={**given, "mask_perturbations_only": only}, estimator="moment", sparsity=0.8
        ).run()
        for only in (False, True)
    )
    assert zeroed.mask is not None and zeroed.mask.same_as(valued.mask)
    assert zeroed.seen_by(GradientDiagnoser).energy_at_start == valued.seen_by(GradientDiagnoser).energy_at_start


def test_a_channel_whose_pruned_weights_keep_their_values_is_not_dead(federation: Make) -> None:
    given = {"saliency": "ntk", "where": "server", "iterations": 1, "draws": 1, "inputs_per_draw": 4}
    found = {}
    for only in (False, True):
        control = {**given, "mask_perturbations_only": only}
        made = federation(FedNTKZO, SETUP, given=control, estimator="moment", sparsity=0.95)
        result = made.run()
        found[only] = result.fields()
    assert found[False]["dead_channels"] > 0 == found[True]["dead_channels"]
    assert found[True]["grad_energy_masked_point"] == pytest.approx(found[True]["grad_energy_kept"], rel=1e-4)


@pytest.mark.thorough
def test_energy_is_measured_at_the_dense_start_and_at_the_masked_end(federation: Make) -> None:
    made = federation(FedAvgERK, TRAIN, sparsity=0.8)
    result = made.run()
    found = result.fields()
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

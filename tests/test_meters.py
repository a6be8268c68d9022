"""FLOPs, live bytes and operations against hand counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from baselines.baffle import Baffle
from baselines.fedavg import FedAvg
from baselines.fedavg_erk import FedAvgERK
from bench.cell import Protocol
from bench.federated import Federation, Result
from bench.masks import prunable_shapes, random_mask, uniform_densities
from bench.meters import Clock, StepMeter, cheapest_bytes, forward_macs
from bench.metrics import METRICS
from bench.models import build
from bench.record import measured_fields
from bench.streams import torch_generator

LENET5_DIGITS_MACS = 416_520
LENET5_DIGITS_FIRST = 28 * 28 * 6 * 25
BATCH = 16

Make = Callable[..., Federation]


def fields(result: Result, made: Federation) -> dict[str, Any]:
    return measured_fields(made.cell, result, made.dataset.spec.input_shape)


def run_fields(made: Federation) -> dict[str, Any]:
    return fields(made.run(), made)


def test_forward_macs_of_lenet5_by_hand() -> None:
    by_hand = {
        "conv1": 28 * 28 * 6 * (3 * 25),
        "conv2": 10 * 10 * 16 * (6 * 25),
        "fc1": 400 * 120,
        "fc2": 120 * 84,
        "fc3": 84 * 10,
    }
    macs = forward_macs(build("lenet5", (3, 32, 32), 10), (3, 32, 32))
    assert sorted(macs.layers.values()) == sorted(by_hand.values())
    assert macs.dense == 651_720


def test_masked_macs_are_each_layers_macs_times_its_density() -> None:
    model = build("lenet5", (3, 32, 32), 10)
    shapes = prunable_shapes(model)
    mask = random_mask(shapes, uniform_densities(shapes, 0.25), torch_generator(0))
    macs = forward_macs(model, (3, 32, 32))
    expected = sum(macs.layers[name] * int(mask[name].sum()) / mask[name].numel() for name in mask)
    assert macs.masked(mask) == pytest.approx(expected)
    assert macs.masked(None) == 651_720


def test_a_backpropagation_step_is_three_forwards_less_the_first_layers_input_gradient(federation: Make) -> None:
    step = run_fields(federation(FedAvg))["device_step_flops"]
    assert step == 2 * BATCH * (3 * LENET5_DIGITS_MACS - LENET5_DIGITS_FIRST)


@pytest.mark.parametrize(("form", "passes"), [("forward", 11), ("central", 20)])
def test_a_zeroth_order_step_is_its_forward_passes(federation: Make, form: str, passes: int) -> None:
    given = {"num_perturbations": 10, "form": form}
    measured = run_fields(federation(Baffle, given=given, estimator="directional"))
    assert measured["device_step_flops"] == 2 * BATCH * passes * LENET5_DIGITS_MACS


def test_the_cost_for_k_is_linear_so_that_all_k_agree_with_two_and_three(federation: Make) -> None:
    def cost(count: int) -> dict[str, Any]:
        return run_fields(federation(Baffle, given={"num_perturbations": count}, estimator="finite_difference"))

    two, three, eight = cost(2), cost(3), cost(8)
    for name in ("device_step_flops", "perturbation_ops"):
        assert eight[name] == pytest.approx(two[name] + 6 * (three[name] - two[name]))
    assert eight["peak_device_bytes"] == three["peak_device_bytes"]


def test_masked_weights_cost_nothing_in_a_training_step(federation: Make) -> None:
    made = federation(FedAvgERK, sparsity=0.8)
    result = made.run()
    assert result.mask is not None
    densities = result.mask.layer_densities()
    macs = forward_macs(result.model, (1, 32, 32)).layers
    first = next(iter(macs))
    expected = sum(3 * value * densities[name] for name, value in macs.items()) - macs[first] * densities[first]
    assert fields(result, made)["device_step_flops"] == pytest.approx(2 * BATCH * expected)


def test_total_flops_are_the_cost_times_the_examples_really_drawn(federation: Make) -> None:
    made = federation(FedAvg, Protocol(clients=4, batch_size=BATCH, rounds=3))
    measured = run_fields(made)
    per_example = 2 * (3 * LENET5_DIGITS_MACS - LENET5_DIGITS_FIRST)
    assert measured["train_flops_total"] == pytest.approx(3 * 160 * per_example)


def test_peak_bytes_of_a_two_layer_net_by_hand() -> None:
    """At the peak, in the first layer's backward: weights, batch, both weight gradients, the hidden layer's gradient.

    The first layer's weight gradient is new and not yet booked on gradients; the loss keeps two scalars.
    """
    model = nn.Sequential(nn.Linear(100, 50, bias=False), nn.Linear(50, 10, bias=False))
    x, y = torch.randn(8, 100), torch.zeros(8, dtype=torch.long)
    with StepMeter(model, None, {"parameters": [p.data for p in model.parameters()], "messages": [x, y]}) as meter:
        cross_entropy(model(x), y).backward()
        peak = meter.cost().peak
    weights, inputs = 4 * (100 * 50 + 50 * 10), 4 * 8 * 100 + 8 * 8
    assert peak["parameters"] == weights
    assert peak["messages"] == inputs
    assert peak["gradients"] == 4 * 50 * 10
    assert peak["activations"] == 4 * (100 * 50 + 8 * 50 + 2)


def test_the_split_adds_up_to_the_peak_and_sparse_storage_saves(federation: Make) -> None:
    measured = run_fields(federation(FedAvgERK, sparsity=0.9))
    parts = ("parameters", "gradients", "activations", "perturbation", "optimizer", "messages")
    assert sum(measured[f"peak_device_bytes_{part}"] for part in parts) == measured["peak_device_bytes"]
    assert measured["peak_device_bytes_sparse"] < measured["peak_device_bytes"]


def test_zeroth_order_needs_less_memory_than_backpropagation_and_a_copy_costs_a_model(federation: Make) -> None:
    backprop = run_fields(federation(FedAvg))
    seed, copy = (
        run_fields(federation(Baffle, given={"num_perturbations": 4, "restore": restore}, estimator="directional"))
        for restore in ("seed", "copy")
    )
    assert seed["peak_device_bytes"] < backprop["peak_device_bytes"]
    assert seed["peak_device_bytes_gradients"] == 0
    assert copy["peak_device_bytes"] - seed["peak_device_bytes"] >= 4 * 61_706


def test_a_zeroth_order_cell_meters_the_on_device_algorithm_whatever_it_simulates(federation: Make) -> None:
    given = {"num_perturbations": 5}
    costs = [
        {k: v for k, v in run_fields(federation(Baffle, given=given, estimator=e)).items() if "device" in k}
        for e in ("directional", "finite_difference")
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    ("size", "kept", "expected"), [(100, 100, 400), (1000, 500, 125 + 2000), (1000, 1, 6), (64, 0, 0), (1, 1, 4)]
)
def test_the_cheapest_storage(size: int, kept: int, expected: int) -> None:
    assert cheapest_bytes(size, kept) == expected


def test_every_measured_number_has_a_row_in_the_metric_table_and_none_is_missing(federation: Make) -> None:
    measured = run_fields(federation(FedAvg))
    assert set(measured) - {"uncounted_ops", "estimator_uncertified", "evaluates_other_weights"} == set(METRICS)
    for name, (low, high) in ((name, METRICS[name].limits) for name in METRICS):
        if measured[name] is not None:
            assert (low is None or measured[name] >= low) and (high is None or measured[name] <= high), name


def test_clock_accounts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.5, 10.0, 10.25, 20.0, 22.0])
    monkeypatch.setattr("bench.meters.time.perf_counter", lambda: next(ticks))
    clock = Clock()
    for name in ("train", "evaluate", "train"):
        with clock.charge(name):
            pass
    assert clock.seconds["train"] == 3.5
    assert clock.seconds["evaluate"] == 0.25

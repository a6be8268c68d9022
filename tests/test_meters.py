"""FLOPs, live bytes and operations against hand counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, linear
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.fedtiny import FedTiny
from fedfore.cell import Protocol
from fedfore.federation.loop import Federation
from fedfore.masks import Mask, prunable_shapes, prunable_weights, random_mask, uniform_densities
from fedfore.measure.clock import Clock
from fedfore.measure.flops import forward_macs
from fedfore.measure.memory import LiveBytes, cheapest_bytes, sparse_saving
from fedfore.measure.step_meter import StepCost, StepMeter
from fedfore.primitives.accounting import account, dense_gradients
from fedfore.primitives.finite_difference import BLOCK, FiniteDifferenceConfig, finite_differences
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.gradients import Batch
from fedfore.primitives.perturbations import Directions
from fedfore.records.metrics import MEASURED
from fedfore.streams import torch_generator
from fedfore.tasks.models import build
from tests.conftest import TINY

LENET5_DIGITS_MACS = 416_520
LENET5_DIGITS_FIRST = 28 * 28 * 6 * 25
BATCH = 16
CIFAR = (3, 32, 32)

Make = Callable[..., Federation]


def run_fields(made: Federation) -> dict[str, Any]:
    return made.run().fields()


def metered(model: nn.Module, mask: Mask | None, work: Callable[[], object], **resident: list[Tensor]) -> StepCost:
    with StepMeter(model, mask, resident) as meter:  # type: ignore[arg-type]
        result = work()
        cost = meter.cost()
        del result
    return cost


def mask_of(model: nn.Module, *kept: int) -> Mask:
    """Apply and return a mask that keeps that many weights of each layer, the first ones."""
    layers = {}
    for (name, weight), count in zip(prunable_weights(model).items(), kept, strict=True):
        layers[name] = (torch.arange(weight.numel()) < count).view(weight.shape)
    mask = Mask(layers)
    mask.apply_(prunable_weights(model))
    return mask


# -- forward passes ----------------------------------------------------------------------------------------------------


def mobilenet_v2_macs() -> int:
    """MobileNetV2's table on 32x32 images with a first stride of 1."""
    side, width = 32, 32
    total = side**2 * width * 27
    for expansion, channels, blocks, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ):  # fmt: skip
        for stride in (first_stride, *[1] * (blocks - 1)):
            hidden = expansion * width
            total += side**2 * width * hidden * (expansion > 1)
            side //= stride
            total += side**2 * hidden * (9 + channels)
            width = channels
    return total + side**2 * 320 * 1280 + 1280 * 10


FORWARD_MACS = {
    "lenet5": 28**2 * 6 * 75 + 10**2 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10,
    "baffle_lenet": 32**2 * 16 * 75 + 16**2 * 64 * 400 + 64 * 10,
    "resnet20": (
        32**2 * 16 * 9 * (3 + 6 * 16)
        + 16**2 * 32 * (9 * (16 + 5 * 32) + 16)
        + 8**2 * 64 * (9 * (32 + 5 * 64) + 32)
        + 640
    ),
    "mobilenet_v2": mobilenet_v2_macs(),
}


def test_forward_macs_of_lenet5_by_layer() -> None:
    macs = forward_macs(build("lenet5", CIFAR, 10), CIFAR)
    assert macs.layers == {
        "conv1.weight": 352_800, "conv2.weight": 240_000, "fc1.weight": 48_000, "fc2.weight": 10_080, "fc3.weight": 840
    }  # fmt: skip
    assert macs.dense == 651_720


@pytest.mark.parametrize("name", FORWARD_MACS)
def test_forward_macs_by_hand_and_by_torchs_counter(name: str) -> None:
    model = build(name, CIFAR, 10).eval()
    macs = forward_macs(model, CIFAR)
    assert macs.dense == FORWARD_MACS[name]
    assert macs.other == 0
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *CIFAR))
    assert counter.get_total_flops() == 2 * macs.dense
    assert metered(model, None, lambda: model(torch.zeros(1, *CIFAR))).flops == 2 * macs.dense


@pytest.mark.parametrize("name", ["lenet5", "baffle_lenet", "resnet14", "mobilenet_v2"])
@pytest.mark.parametrize("norm", ["batch", "group", "standardised"])
def test_every_operator_of_a_model_is_counted_or_light(name: str, norm: str) -> None:
    model = build(f"{name}:norm={norm},width=0.25", CIFAR, 10)
    assert forward_macs(model, CIFAR).uncounted == ()
    x, y = torch.zeros(2, *CIFAR), torch.zeros(2, dtype=torch.long)
    assert not metered(model, None, lambda: cross_entropy(model(x), y).backward()).uncounted


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(32 * 32, 8)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.flatten(2))
        return torch.softmax(tokens @ tokens.transpose(1, 2), -1) @ tokens


def test_products_outside_layers_count_and_no_mask_prices_them() -> None:
    model = Attention()
    macs = forward_macs(model, CIFAR)
    assert (dict(macs.layers), macs.other) == ({"embed.weight": 3 * 1024 * 8}, 2 * 3 * 3 * 8)
    mask = mask_of(model, 1024)
    assert macs.masked(mask) == 3 * 1024 + 2 * 3 * 3 * 8
    assert metered(model, mask, lambda: model(torch.ones(1, *CIFAR))).flops == 2 * macs.masked(mask)


def test_masked_macs_are_each_layers_macs_times_its_density() -> None:
    model = build("lenet5", CIFAR, 10)
    shapes = prunable_shapes(model)
    mask = random_mask(shapes, uniform_densities(shapes, 0.25), torch_generator(0))
    macs = forward_macs(model, CIFAR)
    expected = sum(macs.layers[name] * int(mask[name].sum()) / mask[name].numel() for name in mask)
    assert macs.masked(mask) == pytest.approx(expected)
    assert macs.masked(None) == 651_720


def test_a_product_before_a_layer_counts_whole_on_the_way_back_too() -> None:
    model, before, x = nn.Linear(4, 4), torch.eye(4, requires_grad=True), torch.randn(3, 4)
    mask = mask_of(model, 4)
    step = metered(model, mask, lambda: model((x @ before).relu()).sum().backward())
    assert step.flops == 2 * (2 * 3 * 16 + 3 * 3 * 4)


# -- whatever runs -----------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    """Two layers of one shape that read the same input, behind one that makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).relu()
        return self.left(hidden) + self.right(hidden)


def test_two_layers_that_read_the_same_input_have_each_their_own_density() -> None:
    model, x = Branches(), torch.randn(6, 6)  # as many examples as units: no shape tells the products apart
    mask = mask_of(model, 36, 9, 18)
    forward = 6 * (36 + 9 + 18)
    assert metered(model, mask, lambda: model(x)).flops == 2 * forward
    assert metered(model, mask, lambda: model(x).sum().backward()).flops == 2 * (3 * forward - 6 * 36)
    only_left = metered(model, mask, lambda: torch.autograd.grad(model(x).sum(), [model.left.weight]))
    assert only_left.flops == 2 * (forward + 6 * 9)


def test_a_shortcut_and_the_convolution_beside_it_have_each_their_own_density() -> None:
    model = build("resnet14:width=0.25", CIFAR, 10)
    macs = forward_macs(model, CIFAR)
    shapes, generator = prunable_shapes(model), torch_generator(0)
    mask = random_mask(
        shapes, {name: 0.1 + 0.8 * float(torch.rand((), generator=generator)) for name in shapes}, generator
    )
    mask.apply_(prunable_weights(model))
    x, y = torch.randn(2, *CIFAR), torch.zeros(2, dtype=torch.long)
    first = macs.layers["conv.weight"] * mask.layer_densities()["conv.weight"]
    step = metered(model, mask, lambda: cross_entropy(model(x), y).backward())
    assert step.flops == pytest.approx(2 * 2 * (3 * macs.masked(mask) - first), rel=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_convolutions_gradients_take_as_many_products_as_its_forward_pass(groups: int) -> None:
    model, x = nn.Conv2d(4, 8, 3, groups=groups), torch.randn(2, 4, 8, 8, requires_grad=True)
    forward = 2 * 2 * 6 * 6 * 8 * 4 // groups * 9
    assert metered(model, None, lambda: model(x).sum().backward()).flops == 3 * forward


def test_dense_gradients_charge_the_weights_gradient_whole_and_nothing_else() -> None:
    for model, x in ((Branches(), torch.randn(6, 6)), (nn.Conv2d(2, 3, 3), torch.randn(2, 2, 5, 5))):
        mask = mask_of(model, *[9] * len(prunable_weights(model)))

        def work(model: nn.Module = model, x: Tensor = x) -> None:
            with dense_gradients():
                model(x).sum().backward()

        plain = metered(model, mask, lambda model=model, x=x: model(x).sum().backward()).flops
        products = 2 * len(x) * (9 if isinstance(model, nn.Conv2d) else 1)
        pruned = mask.size - mask.kept
        assert metered(model, mask, work).flops == plain + products * pruned


def test_weights_that_were_computed_have_the_density_of_their_layer() -> None:
    model, x = Branches(), torch.randn(6, 6)
    mask = mask_of(model, 36, 9, 18)
    expected = metered(model, mask, lambda: model(x).sum().backward()).flops

    def computed() -> None:
        weights = {name: 2 * p if name in mask else p for name, p in model.named_parameters()}
        functional_call(model, weights, (x,)).sum().backward()

    def transformed() -> object:
        return torch.func.grad(lambda w: functional_call(model, w, (x,)).sum())(dict(model.named_parameters()))

    assert metered(model, mask, computed).flops == expected
    assert metered(model, mask, transformed).flops == expected


def test_pruned_weights_that_are_not_zero_are_not_counted_as_zeros() -> None:
    model, x = nn.Linear(4, 4), torch.randn(1, 4)
    mask = Mask({"weight": torch.eye(4, dtype=torch.bool)})
    assert metered(model, mask, lambda: model(x)).flops == 2 * 16
    mask.apply_(prunable_weights(model))
    assert metered(model, mask, lambda: model(x)).flops == 2 * 4
    model.weight.data.zero_()
    assert metered(model, mask, lambda: model(x)).flops == 2 * 4


def test_products_of_a_gradients_gradient_have_the_density_of_their_layer() -> None:
    """d(sum W x)/dx = W' 1: its own gradient with respect to W takes one product, and one for the way back to x."""
    model, x = nn.Linear(4, 4, bias=False), torch.randn(3, 4, requires_grad=True)
    mask = mask_of(model, 4)

    def work() -> None:
        (slope,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()

    assert metered(model, mask, work).flops % (2 * 3 * 4) == 0
    assert metered(model, mask, work).flops == metered(model, None, work).flops / 4


def test_operators_without_a_formula_that_may_multiply_matrices_are_named() -> None:
    model, a = nn.Linear(2, 2), torch.eye(4)
    assert metered(model, None, lambda: torch.linalg.solve(a, a)).uncounted == {"_linalg_solve_ex"}
    assert metered(model, None, lambda: torch.cumsum(a.softmax(0)[1:].clone(), 0).std()).uncounted == set()


def test_matrix_vector_and_in_place_products_count() -> None:
    model, a = nn.Linear(2, 2), torch.ones(4, 5)
    assert metered(model, None, lambda: a @ a[0]).flops == 2 * 20
    assert metered(model, None, lambda: a[0] @ a[0]).flops == 2 * 5
    assert metered(model, None, lambda: torch.zeros(4, 4).addmm_(a, a.T)).flops == 2 * 80


def test_perturbation_operations_are_the_real_numbers_written_on_that_account() -> None:
    model, x = nn.Linear(2, 2), torch.ones(10)

    def work() -> None:
        (x + 1).view(2, 5)
        with account("perturbation"):
            torch.empty(10).copy_(x).view(2, 5).add_(1)
            torch.arange(10) + 1

    assert metered(model, None, work).perturbation_ops == 20


def test_the_hooks_are_gone_afterwards_and_a_layer_that_fails_is_closed() -> None:
    model = Branches()
    with pytest.raises(RuntimeError), StepMeter(model, None, {}):
        model(torch.ones(2, 5))
    mask = mask_of(model, 9, 9, 9)

    def work() -> None:
        with pytest.raises(RuntimeError):
            model(torch.ones(2, 5))
        linear(torch.ones(2, 6), torch.eye(6))

    assert metered(model, mask, work).flops == 2 * 2 * 36
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


# -- through the harness -----------------------------------------------------------------------------------------------


def test_a_backpropagation_step_is_three_forwards_less_the_first_layers_input_gradient(federation: Make) -> None:
    step = run_fields(federation(FedAvg))["device_step_flops"]
    assert step == 2 * BATCH * (3 * LENET5_DIGITS_MACS - LENET5_DIGITS_FIRST)


def test_total_flops_are_the_cost_times_the_examples_really_drawn(federation: Make) -> None:
    made = federation(FedAvg, Protocol(clients=4, batch_size=BATCH, rounds=3))
    measured = run_fields(made)
    per_example = 2 * (3 * LENET5_DIGITS_MACS - LENET5_DIGITS_FIRST)
    assert measured["train_flops_total"] == pytest.approx(3 * 160 * per_example)


def test_the_split_adds_up_to_the_peak_and_sparse_storage_saves(federation: Make) -> None:
    measured = run_fields(federation(FedAvgERK, sparsity=0.9))
    parts = ("parameters", "gradients", "activations", "perturbation", "optimizer", "messages")
    assert sum(measured[f"peak_device_bytes_{part}"] for part in parts) == measured["peak_device_bytes"]
    assert measured["peak_device_bytes_sparse"] < measured["peak_device_bytes"]


@pytest.mark.thorough
def test_zeroth_order_needs_less_memory_than_backpropagation_and_every_copy_costs_a_model(federation: Make) -> None:
    backprop = run_fields(federation(FedAvg))
    train = replace(TINY, batch_size=1)
    seed, copy, released = (
        run_fields(
            federation(Baffle, train, given={"num_perturbations": 4, "restore": restore}, estimator="directional")
        )
        for restore in ("seed", "copy", "as_released")
    )
    assert seed["peak_device_bytes"] < backprop["peak_device_bytes"]
    assert seed["peak_device_bytes_gradients"] == 0
    assert copy["peak_device_bytes"] - seed["peak_device_bytes"] >= 4 * (61_706 - 1)
    assert released["peak_device_bytes"] - copy["peak_device_bytes"] >= 4 * (61_706 - BLOCK)


@pytest.mark.parametrize("keys", [{}, {"local_steps": 2}])
def test_the_flops_of_a_step_are_those_of_a_training_batch_also_where_rounds_adjust(
    federation: Make, keys: dict[str, int]
) -> None:
    static, moving = (
        run_fields(federation(FedTiny, replace(TINY, rounds=3), given=given | keys, sparsity=0.8))
        for given in ({"adjust_every": 1.0}, {"adjust_every": 1, "adjust_until": 10})
    )
    assert moving["train_flops_total"] > static["train_flops_total"]
    assert moving["device_step_flops"] == static["device_step_flops"]


@pytest.mark.thorough
def test_a_zeroth_order_cell_meters_the_on_device_algorithm_whatever_it_simulates(federation: Make) -> None:
    given = {"num_perturbations": 5}
    costs = [
        {k: v for k, v in run_fields(federation(Baffle, given=given, estimator=e)).items() if "device" in k}
        for e in ("directional", "finite_difference")
    ]
    assert costs[0] == costs[1]


def test_every_measured_number_has_a_row_in_the_metric_table_and_every_cost_is_measured(federation: Make) -> None:
    measured = run_fields(federation(FedAvg))
    texts = {"uncounted_ops", "evaluates_other_weights", "method_variant", "ntk_reason", "partition_sha256"}
    costs = {name for name, metric in MEASURED.items() if metric.unit in ("MACs", "FLOPs", "operations", "bytes")}
    assert costs - {"attempt_resident_bytes"} <= set(measured) - texts <= set(MEASURED)
    for name in set(measured) - texts:
        low, high = MEASURED[name].limits
        if measured[name] is not None:
            assert (low is None or measured[name] >= low) and (high is None or measured[name] <= high), name


# -- bytes -------------------------------------------------------------------------------------------------------------


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 50, bias=False), nn.Linear(50, 10, bias=False))


def test_a_storage_counts_once_however_many_views_it_has_and_until_the_last_is_gone() -> None:
    live = LiveBytes()
    tensor = torch.zeros(10)
    view = tensor[2:]
    live.see(tensor, "activations")
    live.see(view, "activations")
    assert live.peak["activations"] == 40
    del tensor
    other = torch.zeros(5)
    live.see(other, "optimizer")
    assert (live.peak["activations"], live.peak["optimizer"]) == (40, 20)
    del view
    larger = torch.zeros(16)
    live.see(larger, "messages")
    assert {name: size for name, size in live.peak.items() if size} == {"optimizer": 20, "messages": 64}


def test_what_existed_before_is_not_counted_for_being_viewed_and_what_grows_is_counted_anew() -> None:
    model, data = nn.Linear(2, 2), torch.zeros(1000)

    def work() -> Tensor:
        out = torch.empty(0)
        torch.add(data[:10].view(2, 5), 1, out=out)
        data.add_(1)
        return out

    assert metered(model, None, work).peak_bytes == 40


def test_peak_bytes_of_a_backpropagation_step_by_hand() -> None:
    """At the peak, in the first layer's backward: weights, batch, both weight gradients, the hidden layer's gradient.

    The loss keeps two scalars.
    """
    model, x, y = two_layers(), torch.randn(8, 100), torch.zeros(8, dtype=torch.long)
    peak = metered(
        model,
        None,
        lambda: cross_entropy(model(x), y).backward(),
        parameters=[p.data for p in model.parameters()],
        messages=[x, y],
    ).peak
    assert peak["parameters"] == 4 * (100 * 50 + 50 * 10)
    assert peak["messages"] == 4 * 8 * 100 + 8 * 8
    assert peak["gradients"] == 4 * (100 * 50 + 50 * 10)
    assert peak["activations"] == 4 * (8 * 50 + 2)
    assert peak["perturbation"] == peak["optimizer"] == 0


def test_gradients_of_biases_and_norms_are_booked_as_such() -> None:
    model = nn.Sequential(nn.Linear(2, 50), nn.LayerNorm(50))

    def work() -> Tensor:
        model(torch.ones(1, 2)).sum().backward()
        return torch.empty(10_000)

    peak = metered(model, None, work).peak
    assert (peak["gradients"], peak["activations"]) == (4 * (2 * 50 + 50 + 50 + 50), 40_000)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_peak_bytes_of_a_zeroth_order_step_by_hand(count: int) -> None:
    """At the peak, in the last pass's second layer: weights, batch, both layers' outputs, a scalar a pass before."""
    model, x, y = two_layers(), torch.randn(512, 100), torch.zeros(512, dtype=torch.long)
    flat_parameters(model)
    cost = metered(
        model,
        None,
        lambda: finite_differences(model, Batch(x, y), Directions(1, 0), FiniteDifferenceConfig(count), None),
        parameters=[p.data for p in model.parameters()],
        messages=[x, y],
    )
    assert cost.peak["parameters"] == 4 * (100 * 50 + 50 * 10)
    assert cost.peak["messages"] == 4 * 512 * 100 + 8 * 512
    assert cost.peak["activations"] == 4 * 512 * (50 + 10) + 4 * count
    assert cost.peak["gradients"] == cost.peak["perturbation"] == cost.peak["optimizer"] == 0
    assert cost.perturbation_ops == 4 * count * 5_500


def allocators_peak(work: Callable[[], object]) -> int:
    """Return the peak of what torch's CPU allocator hands out meanwhile, as its profiler records it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    live = peak = 0
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_the_peak_is_the_allocators_to_the_byte_where_kernels_take_no_work_space() -> None:
    """So nothing that autograd makes on its own escapes the meter."""
    model = nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU(inplace=True), nn.Linear(128, 64), nn.GELU())
    x = torch.randn(32, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)

    def step() -> None:
        for _ in range(2):
            (model(x) + x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    step()
    assert metered(model, None, step).peak_bytes == allocators_peak(step)


def test_convolutions_take_work_space_that_is_not_counted() -> None:
    model = build("resnet20", CIFAR, 10)
    x, y = torch.randn(8, *CIFAR), torch.zeros(8, dtype=torch.long)

    def step() -> None:
        cross_entropy(model(x), y).backward()
        model.zero_grad()

    step()
    assert 1.0 <= allocators_peak(step) / metered(model, None, step).peak_bytes < 1.1


@pytest.mark.parametrize(
    ("rows", "columns", "kept", "bits"),
    [
        (10, 10, 100, 3200),  # dense
        (10, 100, 500, 1000 + 500 * 32),  # bitmap
        (1000, 1, 1, 32 + 10),  # COO: 10 bits tell 1000 entries apart
        (100, 1000, 2000, 2000 * (32 + 10) + 101 * 11),  # CSR: 10 bits a column, 11 a row pointer up to 2000
        (8, 8, 0, 0),
        (1, 1, 1, 32),
    ],
)
def test_the_cheapest_storage(rows: int, columns: int, kept: int, bits: int) -> None:
    assert cheapest_bytes(rows, columns, kept) == -(-bits // 8)


@given(st.integers(1, 50), st.integers(1, 50), st.data())
def test_sparse_storage_never_takes_more_than_dense_and_grows_with_what_is_kept(
    rows: int, columns: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, rows * columns - 1))
    assert cheapest_bytes(rows, columns, kept) <= cheapest_bytes(rows, columns, kept + 1) <= 4 * rows * columns


def test_sparse_storage_holds_the_mask() -> None:
    model = nn.Linear(1000, 100)
    mask = mask_of(model, 1)
    assert sparse_saving(model, mask) == 100_000 * (4 + 1) - cheapest_bytes(100, 1000, 1)
    assert sparse_saving(model, None) == 0


def test_clock_accounts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 1.5, 10.0, 10.25, 20.0, 22.0])
    monkeypatch.setattr("fedfore.measure.clock.time.perf_counter", lambda: next(ticks))
    clock = Clock()
    for name in ("train", "evaluate", "train"):
        with clock.charge(name):
            pass
    assert clock.seconds["train"] == 3.5
    assert clock.seconds["evaluate"] == 0.25

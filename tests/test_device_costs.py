"""What a device's update costs: closed formulas against the real update under the meter, its peak against real memory.

The formulas hold exactly: the tolerance of 1e-12 is for the order of additions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.api import Client, ClientContext, Method, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.cell import Protocol
from fedfore.masks import Mask, erk_densities, prunable_shapes, prunable_weights, random_mask
from fedfore.measure.device import DeviceCost, DeviceSetting, meter_device
from fedfore.measure.flops import forward_macs
from fedfore.measure.step_meter import StepMeter
from fedfore.primitives.accounting import dense_gradients
from fedfore.primitives.flat import flat_parameters, model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd
from fedfore.primitives.saliency import SaliencyConfig, score
from fedfore.primitives.zeroth_order import CHUNK
from fedfore.streams import torch_generator
from fedfore.tasks.models import build, initialise
from tests.conftest import make_cell
from tests.step_formulas import StepFormulas

CIFAR = (3, 32, 32)
LENET5 = {"conv1": 352_800, "conv2": 240_000, "fc1": 48_000, "fc2": 10_080, "fc3": 840}
F, F_FIRST = 651_720, 352_800
BATCH = 4


def images(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, *CIFAR, generator=torch_generator(0)), torch.arange(count) % 10


def client_of(examples: int, state: dict[str, Any] | None = None) -> Client:
    x, y = images(examples)
    return Client(0, len(y), state or {}, lambda chosen, _: (x[chosen], y[chosen]), BATCH, lambda epoch: epoch)


def erk(model: nn.Module, density: float = 0.3) -> Mask:
    """Apply and return a mask whose layers have different densities."""
    shapes = prunable_shapes(model)
    mask = random_mask(shapes, erk_densities(shapes, density), torch_generator(1))
    mask.apply_(prunable_weights(model))
    return mask


def setting(
    method: type[Method], model: nn.Module, mask: Mask | None = None, phase: str = "train", **given: Any
) -> DeviceSetting:
    cell = make_cell(method, Protocol(batch_size=BATCH, rounds=1), given=given, estimator="directional")
    ctx = ClientContext(
        cell=cell,
        phase=phase,
        round=0,
        mask=mask,
        progress=0.0,
        device=torch.device("cpu"),
        input_shape=(3, 32, 32),
        initialise=initialise,
        received={"seed": torch.tensor(7)},
    )
    return DeviceSetting(method, cell.params, model, ctx, client_of, 2 * BATCH, lambda update: 0)


def cost(method: type[Method], model: nn.Module, mask: Mask | None = None, **given: Any) -> DeviceCost:
    return meter_device(setting(method, model, mask, **given))


def formulas(model: nn.Module, mask: Mask | None = None) -> StepFormulas:
    return StepFormulas(forward_macs(model, CIFAR), mask)


def lenet5(**options: str) -> nn.Module:
    return build("lenet5" + "".join(f":{name}={value}" for name, value in options.items()), CIFAR, 10)


# -- backpropagation ---------------------------------------------------------------------------------------------------


def test_a_backpropagation_step_of_lenet5_in_numbers() -> None:
    macs = {"none": 1_602_360, "checkpoint": 1_602_360 + F - 840, "optimizer_in_backward": 1_602_360}
    assert formulas(lenet5()).backpropagation == 3 * F - F_FIRST == macs["none"]
    assert formulas(lenet5()).checkpointed(["fc3.weight"]) == macs["checkpoint"]
    for memory, expected in macs.items():
        assert cost(FedAvg, lenet5(), memory=memory).flops_per_batch == 2 * BATCH * expected
    accumulated = cost(FedAvg, lenet5(), memory="accumulate", micro_batch=1)
    assert accumulated.flops_per_batch == 2 * BATCH * macs["none"]


@pytest.mark.parametrize("name", ["resnet14:width=0.5", "resnet14:norm=none,width=0.5", "mobilenet_v2:width=0.25"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_its_formula(name: str, masked: bool) -> None:
    model = build(name, CIFAR, 10)
    mask = erk(model) if masked else None
    last = [weight for weight in prunable_weights(model) if weight.startswith(("fc.", "classifier."))]
    expected = formulas(model, mask)
    step = cost(FedAvg, model, mask, local_steps=1)
    checkpointed = cost(FedAvg, model, mask, local_steps=1, memory="checkpoint")
    assert step.flops_per_batch == pytest.approx(2 * BATCH * expected.backpropagation, rel=1e-12)
    assert checkpointed.flops_per_batch == pytest.approx(2 * BATCH * expected.checkpointed(last), rel=1e-12)


def test_recomputation_stops_before_a_segments_last_layer_where_backward_does_not_need_it() -> None:
    model = build("mobilenet_v2:norm=none,width=0.25", CIFAR, 10)
    measured = cost(FedAvg, model, local_steps=1, memory="checkpoint").flops_per_batch / (2 * BATCH)
    macs = forward_macs(model, CIFAR).layers
    not_needed = sum(count for name, count in macs.items() if ".conv.2" in name or name.startswith("features.1.conv.1"))
    assert measured == formulas(model).checkpointed(["classifier.weight"]) - not_needed


class Growing(Method):
    """One step, and the gradient of the last layers' weights at pruned places too."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        ((x, y),) = client.batches(steps=1)
        with dense_gradients():
            torch.autograd.grad(
                cross_entropy(model(x), y), [p for n, p in model.named_parameters() if n == "fc2.weight"]
            )
        return update


def test_an_adjustment_round_adds_dense_weight_gradients_of_what_it_adjusts() -> None:
    model = lenet5()
    mask = erk(model)
    densities, step = mask.layer_densities(), formulas(model, mask)
    to_fc2 = LENET5["fc3"] * densities["fc3.weight"]
    adjusting = step.forward_pass + to_fc2 + LENET5["fc2"]
    assert step.gradients_whole(["fc2.weight"]) == pytest.approx(LENET5["fc2"] * (1 - densities["fc2.weight"]))
    measured = cost(Growing, model, mask)
    for batches in (1, 5):
        expected = 2 * BATCH * (batches * step.backpropagation + adjusting)
        assert measured.flops(1, batches + 1) == pytest.approx(expected, rel=1e-12)


def test_work_on_a_batch_of_its_own_is_less_on_a_smaller_device_and_other_fixed_work_is_not() -> None:
    """A device of half a batch: half of its step and half of the batch beside it."""
    growing, scoring = cost(Growing, lenet5()), meter_device(setting(Scoring, lenet5(), phase="setup"))
    whole = growing.flops_of([BATCH], 2 * BATCH)
    assert growing.flops_of([BATCH, BATCH // 2], 3 * BATCH) == 1.5 * whole
    assert scoring.flops_of([BATCH, BATCH // 2], 0) == 2 * scoring.fixed_flops > 0


# -- forward passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "passes"), [("forward", 501), ("central", 1000)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_zeroth_order_step_is_its_forward_passes(form: Any, passes: int, masked: bool) -> None:
    model = lenet5()
    mask = erk(model) if masked else None
    expected = formulas(model, mask).zeroth_order(500, form)
    assert expected == pytest.approx(passes * formulas(model, mask).forward_pass)
    measured = cost(Baffle, model, mask, num_perturbations=500, form=form)
    assert measured.flops_per_batch == pytest.approx(2 * BATCH * expected, rel=1e-12)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"form": "central"},
        {"restore": "copy"},
        {"restore": "as_released"},
        {"clip": "client"},
        {"communication": "epoch"},
        {"perturbations": "independent", "distribution": "rademacher"},
    ],
    ids=str,
)
@pytest.mark.thorough
def test_few_perturbations_extended_cost_what_many_cost(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """FLOPs, perturbation operations and the peak, account by account."""
    model, count = lenet5(width="0.25"), CHUNK + 9
    extended = cost(Baffle, model, num_perturbations=count, **given)
    monkeypatch.setattr("fedfore.measure.device.declared_keys", lambda kind: {})
    assert extended == cost(Baffle, model, num_perturbations=count, **given)


def test_a_client_that_clips_holds_a_chunk_of_perturbations() -> None:
    model = lenet5(width="0.25")
    size = 4 * sum(p.numel() for p in model.parameters())
    plain, clipping = (cost(Baffle, model, num_perturbations=500, clip=clip) for clip in ("none", "client"))
    assert clipping.peak["perturbation"] > CHUNK * size > plain.peak_bytes


def test_a_forward_pass_of_resnet20_holds_three_activations_however_its_sequences_are_nested() -> None:
    """A block's input, what its second norm reads, what that writes; a mean and a deviation for each of 2 groups."""
    model = build("resnet20:norm=group", CIFAR, 10)
    measured = cost(Baffle, model, num_perturbations=1)
    activation, batch = 4 * BATCH * 16 * 32 * 32, 4 * BATCH * 3 * 32 * 32
    small = 2 * 4 * BATCH * 2 + 8 * BATCH + 4 + 8 * 2 * BATCH  # statistics, labels, the first loss, the epoch's order
    assert measured.peak["activations"] == 3 * activation + batch + small


# -- scoring -----------------------------------------------------------------------------------------------------------


class Scoring(Method):
    """A setup round: an NTK score on Gaussian inputs, no data drawn."""

    runs: ClassVar[list[int]] = []

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        self.runs.append(client.num_examples)
        generator = ctx.rng("method", client)
        inputs = [(torch.randn(3, *CIFAR, generator=generator), None) for _ in range(2)]
        config = SaliencyConfig(scoring_micro_batch=2)
        score(model, ctx.mask, config, inputs, generator, ctx.initialise)
        return Update(weights=model_tensors(model), num_examples=client.num_examples)


@pytest.mark.parametrize("name", ["lenet5", "resnet14:norm=group,width=0.5"])
@pytest.mark.parametrize("masked", [False, True])
def test_an_ntk_score_is_its_formula_and_costs_once_whatever_is_drawn(name: str, masked: bool) -> None:
    model = build(name, CIFAR, 10)
    mask = erk(model) if masked else None
    Scoring.runs.clear()
    measured = meter_device(setting(Scoring, model, mask, phase="setup"))
    expected = 2 * 2 * 3 * formulas(model, mask).ntk_foresight
    assert measured.flops(calls=10, batches=3) == pytest.approx(10 * expected, rel=1e-12)
    assert len(Scoring.runs) == 1, "a method that draws no batch is metered once"
    if name == "lenet5" and not masked:
        assert expected == 12 * (7 * F - 2 * F_FIRST)


# -- how a device is metered -------------------------------------------------------------------------------------------


class Counting(Method):
    """Counts its runs and what each one drew."""

    runs: ClassVar[list[int]] = []

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        self.runs.append(client.batches_drawn)
        return update


@pytest.mark.parametrize(
    ("given", "runs"),
    [({}, [2, 1]), ({"local_epochs": 3}, [6, 3]), ({"local_steps": 1}, [1]), ({"local_steps": 100}, [2, 1])],
)
def test_a_device_is_metered_no_more_than_its_cost_needs(given: dict[str, int], runs: list[int]) -> None:
    Counting.runs.clear()
    measured = cost(Counting, lenet5(), **given)
    assert Counting.runs == runs
    assert (measured.fixed_flops, measured.flops_per_batch) == (0, 2 * BATCH * (3 * F - F_FIRST))


def test_metering_leaves_the_model_the_client_and_the_generators_as_they_were() -> None:
    model, state = lenet5(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost(Baffle, model, num_perturbations=4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(not module._forward_hooks for module in model.modules())


def test_the_peak_is_that_of_a_later_batch_where_the_optimizer_keeps_a_state() -> None:
    size = 4 * sum(p.numel() for p in lenet5().parameters())
    plain, momentum = (cost(FedAvg, lenet5(), momentum=value) for value in (0.0, 0.9))
    assert (plain.peak["optimizer"], momentum.peak["optimizer"]) == (0, size)
    assert momentum.peak_bytes - plain.peak_bytes == size
    assert cost(FedAvg, lenet5(), momentum=0.9, local_steps=1).peak_bytes < momentum.peak_bytes


class Remembering(Method):
    """A device with a state of its own and a message to read."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        client.state["new"] = torch.zeros(7)
        return Update(num_examples=client.num_examples)


def test_messages_the_mask_and_a_devices_own_state_live_from_the_beginning() -> None:
    model = lenet5()
    mask = erk(model)
    start = setting(Remembering, model, mask)
    peak = meter_device(replace(start, client_of=lambda n: client_of(n, {"old": torch.zeros(5)}))).peak
    assert peak["messages"] == mask.size + 8
    assert peak["optimizer"] == 20
    assert peak["activations"] == 28
    assert peak["parameters"] == 4 * sum(p.numel() for p in model.parameters())


def test_the_sparse_peak_is_the_peak_less_what_sparse_storage_saves() -> None:
    model = lenet5()
    assert cost(FedAvg, model).peak_bytes_sparse == cost(FedAvg, model).peak_bytes
    mask = erk(model, 0.1)
    measured = cost(FedAvg, model, mask)
    assert 0 < measured.peak_bytes - measured.peak_bytes_sparse < 5 * mask.size


class Circular(Method):
    """Leaves garbage that only the collector frees."""

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        for _ in range(100):
            waste: list[Any] = [torch.zeros(1000)]
            waste.append(waste)
        return Update(num_examples=client.num_examples)


def test_a_peak_does_not_depend_on_when_the_garbage_collector_runs() -> None:
    assert cost(Circular, lenet5()).peak["activations"] == 100 * 4000


# -- the peak against real memory --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A step to measure: its model, and the number of examples."""

    model: str
    batch: int
    config: LocalSGDConfig
    device: str = "cpu"

    def prepared(self) -> tuple[nn.Module, Callable[[], None], list[Tensor]]:
        """Return the model, one step of training, and what lives before it."""
        model = build(self.model, CIFAR, 10).to(self.device)
        flat_parameters(model)
        x, y = (tensor.to(self.device) for tensor in images(self.batch))
        x = x.to(memory_format=torch.channels_last)  # as data sets give it; otherwise oneDNN reorders a copy
        resident = [*(p.data for p in model.parameters()), *model.buffers(), x, y]
        return model, lambda: local_sgd(model, [(x, y)], self.config, 0.1, None), resident

    def metered(self) -> int:
        """Return the peak of live bytes beyond what lives before the step."""
        model, step, resident = self.prepared()
        with StepMeter(model, None, {"parameters": resident}) as meter:
            step()
            cost = meter.cost()
        return cost.peak_bytes - cost.peak["parameters"]


WORK = [
    pytest.param("none", None, id="plain"),
    pytest.param("checkpoint", None, id="checkpoint"),
    pytest.param("optimizer_in_backward", None, id="optimizer in backward"),
    pytest.param("accumulate", 32, id="accumulate"),
]


def status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def resident_growth(work: Work) -> int:
    """Return by how much the process's resident set grew at most during a second step, by the kernel's own count."""
    _, step, _ = work.prepared()
    step()
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of the resident set
    step()
    return status_bytes("VmHWM") - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the kernel's peak of a resident set")
@pytest.mark.parametrize(("memory", "micro_batch"), WORK)
def test_the_peak_is_the_growth_of_a_real_processs_resident_set(memory: Any, micro_batch: int | None) -> None:
    """ResNet-20 at batch 128, in a fresh process whose allocator gives freed pages back; it agrees to 0.3%."""
    work = Work("resnet20", 128, LocalSGDConfig(memory=memory, micro_batch=micro_batch))
    environment = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "16384", "MALLOC_TRIM_THRESHOLD_": "0"}
    code = f"from tests.test_device_costs import *; print(resident_growth({work!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == pytest.approx(work.metered(), rel=0.01)


@pytest.mark.gpu
@pytest.mark.parametrize(("memory", "micro_batch"), WORK)
def test_the_peak_is_cudas_but_for_work_space(memory: Any, micro_batch: int | None) -> None:
    """CUDA adds cuDNN's work space and rounds each block up to 512 bytes, so it never reports less."""
    work = Work("resnet20", 128, LocalSGDConfig(memory=memory, micro_batch=micro_batch), "cuda")
    _, step, _ = work.prepared()
    step()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    assert 1.0 <= (torch.cuda.max_memory_allocated() - before) / work.metered() < 1.1

"""Speed, as ratios against a stated reference in the same run, on one thread."""

import copy
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.nn.functional import cross_entropy

from fedfore.api import Method
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.feddst import FedDST
from fedfore.baselines.fedmef import FedMef
from fedfore.baselines.fedtiny import FedTiny
from fedfore.cell import Cell, Estimator, Protocol
from fedfore.execution.executors.machine import usable_cpus
from fedfore.execution.executors.warm_server import HUGE_PAGES, TUNABLES
from fedfore.federation.clients import Clients
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.federation.world import World
from fedfore.measure.flops import forward_macs
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.gradients import Batch
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig
from fedfore.records.provenance import ROOT
from fedfore.tasks.datasets import spec
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.models import build, initialise
from tests.conftest import make_cell

pytestmark = pytest.mark.benchmark

CLIENTS, COHORT, SHARE, BATCH, LR = 100, 10, 100, 32, 0.05


def huge_pages_on_demand() -> bool:
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return setting.is_file() and "[madvise]" in setting.read_text()


def random_images(count: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    cifar = spec("cifar10")
    return Examples(
        torch.randint(256, (count, *cifar.input_shape), dtype=torch.uint8, generator=generator),
        torch.arange(count) % cifar.num_classes,
        torch.tensor(cifar.mean),
        torch.tensor(cifar.std),
    )


def unobserved(cell: Cell, method: type[Method], dataset: Dataset, processes: int = 1) -> Federation:
    """Return the federation of a cell of which nothing is looked at but what devices pay."""
    clients = partial(Clients, processes=processes)
    return Federation(World.of(cell, dataset, torch.device("cpu")), method, [CostMeter()], clients=clients)


def next_round(federation: Federation) -> None:
    federation.round("train", federation.totals["train"].rounds)


def paired_ratio(
    ours: Callable[[], object],
    reference: Callable[[], object],
    pairs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the median of time(ours) / time(reference) over adjacent pairs, after one warm-up of each."""
    ours()
    reference()
    ratios = []
    for _ in range(pairs):
        marks = [clock()]
        for work in (ours, reference):
            work()
            marks.append(clock())
        ratios.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
    return statistics.median(ratios)


def test_a_fedavg_round_costs_no_more_than_the_plain_loop(benchmark: BenchmarkFixture) -> None:
    """Reference: a PyTorch loop that does the same SGD steps on the same batches and averages the weights."""
    dataset = Dataset(spec("cifar10"), random_images(CLIENTS * SHARE), random_images(100))
    train = Protocol(clients=CLIENTS, participation=COHORT / CLIENTS, batch_size=BATCH, rounds=1000)
    cell = make_cell(FedAvg, train, given={"lr": LR}, dataset="cifar10", model="baffle_lenet")
    federation = unobserved(cell, FedAvg, dataset)
    model = copy.deepcopy(federation.model)

    def harness() -> None:
        next_round(federation)

    def plain() -> None:
        start = flat_parameters(model).clone()
        mean = torch.zeros_like(start)
        for client in range(COHORT):
            flat_parameters(model).copy_(start)
            optimizer = torch.optim.SGD(model.parameters(), lr=LR)
            for indices in (client * SHARE + torch.randperm(SHARE)).split(BATCH):
                x, y = dataset.train.batch(indices)
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
            mean.add_(flat_parameters(model), alpha=1 / COHORT)
        flat_parameters(model).copy_(mean)

    ratio = paired_ratio(harness, plain, pairs=9)
    benchmark.extra_info["ratio_to_plain_loop"] = ratio
    benchmark.pedantic(harness, rounds=3)
    assert ratio <= 1.1


@pytest.mark.skipif(usable_cpus() < 2, reason="needs two CPUs")
def test_two_processes_share_the_clients_of_a_round(benchmark: BenchmarkFixture) -> None:
    """Reference: the same round of ResNet-20, ten clients of five steps, in one process."""
    dataset = Dataset(spec("cifar10"), random_images(COHORT * SHARE), random_images(100))
    train, steps = Protocol(clients=COHORT, batch_size=BATCH, rounds=1000), {"local_epochs": None, "local_steps": 5}
    cell = make_cell(FedAvg, train, given={"lr": LR, **steps}, dataset="cifar10", model="resnet20:norm=group")
    both, alone = (partial(next_round, unobserved(cell, FedAvg, dataset, processes)) for processes in (2, 1))
    ratio = paired_ratio(both, alone, pairs=3)
    benchmark.extra_info["ratio_to_one_process"] = ratio
    benchmark.pedantic(both, rounds=1)
    assert ratio <= 1 / 1.6


ROUND_CLIENTS, ROUND_STEPS, ROUND_BATCH = 5, 3, 64
"""A round: clients with 192 examples in mini-batches of 64."""


def resnet14_round(method: type[Method], **given: object) -> Federation:
    """Return a federation of 5 clients, all in every round, that has set up, trained, and been metered for all kinds.

    ResNet-14 of 16, 32 and 64 channels (175,258 parameters).
    """
    dataset = Dataset(spec("cifar10"), random_images(ROUND_CLIENTS * ROUND_STEPS * ROUND_BATCH), random_images(100))
    train = Protocol(clients=ROUND_CLIENTS, batch_size=ROUND_BATCH, rounds=1000)
    sparsity = 0.9 if "sparsity" in method.uses else 0.0
    cell = make_cell(method, train, given=given, dataset="cifar10", model="resnet14:norm=batch", sparsity=sparsity)
    federation = unobserved(cell, method, dataset)
    federation.setup()
    for _ in range(5):
        next_round(federation)
    return federation


@pytest.mark.parametrize(
    ("method", "given", "target"),
    [
        (FedAvg, {}, 1.15),
        (FedTiny, {"adjust_every": 1.0}, 1.3),
        (FedTiny, {"adjust_every": 1, "adjust_until": 1000}, 1.3),
        (FedDST, {"adjust_every": 1, "adjust_until": 1000}, 1.5),
        (FedMef, {"adjust_every": 1, "adjust_until": 1000, "nsconv": False}, 2.7),
    ],
    ids=["fedavg", "fedtiny-training", "fedtiny-adjusting", "feddst-adjusting", "fedmef-adjusting"],
)
def test_a_round_against_its_bare_arithmetic(
    benchmark: BenchmarkFixture, method: type[Method], given: dict[str, object], target: float
) -> None:
    """CPU seconds of a round of 5 clients x 3 steps against 15 forward and backward passes on the same images."""
    federation = resnet14_round(method, **given)
    model = build("resnet14:norm=batch", spec("cifar10").input_shape, 10)
    data = [
        federation.world.train_set.batch(part)
        for part in torch.arange(len(federation.world.train_set)).split(ROUND_BATCH)
    ]

    def arithmetic() -> None:
        for x, y in data:
            cross_entropy(model(x), y).backward()

    ratio = paired_ratio(lambda: next_round(federation), arithmetic, pairs=5, clock=time.process_time)
    benchmark.pedantic(lambda: next_round(federation), rounds=1)
    benchmark.extra_info["ratio_to_bare_arithmetic"] = ratio
    print(f"a round of {method.__name__} {given}: {ratio:.2f} times its bare arithmetic")
    assert ratio <= target


@pytest.mark.skipif(not huge_pages_on_demand(), reason="huge pages are not given on demand")
def test_cells_train_in_huge_pages(benchmark: BenchmarkFixture) -> None:
    """CPU seconds of five rounds in a process. Reference: one that is not told what a cell's process is."""
    code = (
        "import time\n"
        "from tests.test_benchmarks import FedAvg, next_round, resnet14_round\n"
        "federation = resnet14_round(FedAvg)\n"
        "start = time.process_time()\n"
        "for _ in range(5): next_round(federation)\n"
        "print(time.process_time() - start)\n"
    )

    def spent(environment: Mapping[str, str]) -> float:
        given = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=given, stdout=subprocess.PIPE, check=True)
        return float(done.stdout)

    told = {TUNABLES: HUGE_PAGES}
    ratio = statistics.median(spent(told) / spent({TUNABLES: ""}) for _ in range(3))
    benchmark.extra_info["ratio_to_small_pages"] = ratio
    benchmark.pedantic(lambda: spent(told), rounds=1)
    print(f"a round in huge pages: {ratio:.2f} times the CPU seconds of one in small pages")
    assert ratio <= 0.95


def test_rounds_of_fedtiny_stay_below_1500_megabytes_of_resident_memory() -> None:
    code = (
        "import resource\n"
        "from tests.test_benchmarks import FedTiny, next_round, resnet14_round\n"
        "federation = resnet14_round(FedTiny, adjust_every=1, adjust_until=1000)\n"
        "for _ in range(5): next_round(federation)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    kibibytes = int(done.stdout)
    print(f"peak resident set of FedTiny's rounds: {kibibytes / 1e6 * 1.024:.2f} GB")
    assert kibibytes * 1024 < 1.5e9


PLAIN_PERTURBATIONS = 10


def published_loop(model: nn.Module, batch: Batch, count: int, sigma: float = 1e-4) -> list[float]:
    """Return K loss differences as published code finds them: a perturbed state dict loaded for every forward pass."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    differences = []
    with torch.no_grad():
        base = float(cross_entropy(model(batch.x), batch.y))
        for k in range(count):
            torch.manual_seed(k)
            model.load_state_dict({name: value + sigma * torch.randn_like(value) for name, value in state.items()})
            differences.append(float(cross_entropy(model(batch.x), batch.y)) - base)
        model.load_state_dict(state)
    return differences


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the shortest time of `work` after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    model = build("baffle_lenet", spec("cifar10").input_shape, 10)
    initialise(model, torch.Generator().manual_seed(0))
    flat_parameters(model)
    return model


def batches(count: int) -> list[Batch]:
    images = random_images(count * BATCH)
    return [Batch(*images.batch(part)) for part in torch.arange(len(images)).split(BATCH)]


def test_the_published_loop_is_linear_in_k_so_that_it_may_be_scaled(net: nn.Module) -> None:
    batch = contiguous(batches(1)[0])
    double = paired_ratio(
        lambda: published_loop(net, batch, 2 * PLAIN_PERTURBATIONS),
        lambda: published_loop(net, batch, PLAIN_PERTURBATIONS),
        pairs=7,
    )
    assert double == pytest.approx((2 * PLAIN_PERTURBATIONS + 1) / (PLAIN_PERTURBATIONS + 1), rel=0.15)


def contiguous(batch: Batch) -> Batch:
    """Return the batch as a published loader gives it."""
    return Batch(batch.x.contiguous(), batch.y)


CASES = [
    ("finite_difference", 20, 1, 1.3),
    ("directional", 500, 1, 60),
    ("moment", 500, 1, 200),
    ("directional", 500, 10, 150),
    ("moment", 500, 10, 200),
    ("moment", 5000, 1, 2000),
]


@pytest.mark.parametrize(("estimator", "count", "clients", "target"), CASES)
def test_an_estimator_against_the_published_loop(
    benchmark: BenchmarkFixture,
    net: nn.Module,
    estimator: Estimator,
    count: int,
    clients: int,
    target: float,
) -> None:
    """A round (clients' scalars and the server's estimate) of BAFFLE's LeNet, batch 32, against K forwards a client.

    Every round has directions of its own, so that none are left from the one before.
    """
    config = ZerothOrderConfig(num_perturbations=count, restore="copy")
    steps = (Step(estimator, config, seed=1, round=number) for number in itertools.count())
    data, ids = batches(clients), range(clients)

    def a_round() -> None:
        step = next(steps)
        sent = step.send(net, data, ids, None)
        step.estimate(sent, [1 / clients] * clients, ids, net, None)

    plain = contiguous(data[0])
    scale = (count + 1) / (PLAIN_PERTURBATIONS + 1) * clients
    ratio = scale / paired_ratio(a_round, lambda: published_loop(net, plain, PLAIN_PERTURBATIONS), pairs=7)
    benchmark.pedantic(a_round, rounds=3)
    benchmark.extra_info["times_faster_than_the_published_loop"] = ratio
    print(f"{estimator}, K = {count}, {clients} clients: {ratio:.1f} times faster than the published loop")
    assert ratio >= target


def test_the_share_of_the_machines_arithmetic_peak(benchmark: BenchmarkFixture, net: nn.Module) -> None:
    """FLOP/s of finite differences against those of a large matrix product, both on one thread."""
    size = 1024
    a, b = torch.randn(size, size), torch.randn(size, size)
    peak = 2 * size**3 / seconds(lambda: a @ b, repeats=5)
    step = Step("finite_difference", ZerothOrderConfig(num_perturbations=20, restore="copy"), seed=1, round=0)
    data = batches(1)
    benchmark.pedantic(lambda: step.send(net, data, [0], None), rounds=3, warmup_rounds=1)
    flops = 21 * BATCH * 2 * forward_macs(net, spec("cifar10").input_shape).dense
    share = flops / benchmark.stats.stats.min / peak
    benchmark.extra_info.update(peak_gflops=peak / 1e9, share_of_peak=share)
    print(f"finite differences run at {share:.0%} of a matrix product's {peak / 1e9:.0f} GFLOP/s")
    assert share > 0.2

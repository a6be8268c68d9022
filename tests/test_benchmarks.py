"""Speed, as ratios against a stated reference in the same run, on one thread."""

import copy
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.nn.functional import cross_entropy

from baselines.fedavg import FedAvg
from bench.cell import Protocol
from bench.data import Dataset, Examples, spec
from bench.federated import Federation
from bench.primitives.flat import flat_parameters
from tests.conftest import make_cell

pytestmark = pytest.mark.benchmark

CLIENTS, COHORT, SHARE, BATCH, LR = 100, 10, 100, 32, 0.05


def random_images(count: int) -> Examples:
    generator = torch.Generator().manual_seed(0)
    cifar = spec("cifar10")
    return Examples(
        torch.randint(256, (count, *cifar.input_shape), dtype=torch.uint8, generator=generator),
        torch.arange(count) % cifar.num_classes,
        torch.tensor(cifar.mean),
        torch.tensor(cifar.std),
    )


def paired_ratio(ours: Callable[[], object], reference: Callable[[], object], pairs: int) -> float:
    """Return the median of time(ours) / time(reference) over adjacent pairs, after one warm-up of each."""
    ours()
    reference()
    ratios = []
    for _ in range(pairs):
        marks = [time.perf_counter()]
        for work in (ours, reference):
            work()
            marks.append(time.perf_counter())
        ratios.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
    return statistics.median(ratios)


def test_a_fedavg_round_costs_no_more_than_the_plain_loop(benchmark: BenchmarkFixture) -> None:
    """Reference: a PyTorch loop that does the same SGD steps on the same batches and averages the weights."""
    dataset = Dataset(spec("cifar10"), random_images(CLIENTS * SHARE), random_images(100))
    train = Protocol(clients=CLIENTS, participation=COHORT / CLIENTS, batch_size=BATCH, rounds=1000)
    cell = make_cell(FedAvg, train, given={"lr": LR}, dataset="cifar10", model="baffle_lenet")
    federation = Federation(cell, FedAvg, dataset, torch.device("cpu"))
    model = copy.deepcopy(federation.model)

    def harness() -> None:
        federation._round("train", federation.totals["train"].rounds)

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

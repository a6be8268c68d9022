"""Directions are a function of key and dense coordinate alone, and have the moments they should."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedfore.primitives.perturbations import (
    _LAST_SHIFT,
    _ROUNDS,
    GAUSSIAN_TABLE,
    Directions,
    _mix_,
    _mix_int,
    _signed,
    _words,
)

CPU = torch.device("cpu")
SIZE = 4_099
KEY = Directions(seed=7, round=3, step=1, client=2)


def whole(directions: Directions, count: int = 4, size: int = SIZE) -> torch.Tensor:
    return directions.generate(0, count, (0, size), None, CPU)


def test_the_table_and_the_first_values_are_pinned() -> None:
    assert hashlib.sha256(GAUSSIAN_TABLE.numpy().tobytes()).hexdigest()[:16] == "28d807793afe4c4a"
    assert hashlib.sha256(whole(KEY).numpy().tobytes()).hexdigest()[:16] == "f49dc73ed3059c40"


def test_the_table_is_a_centred_unit_normal() -> None:
    table = GAUSSIAN_TABLE.double()
    assert table.mean() == 0.0
    assert abs(table.square().mean() - 1.0) < 1e-5
    assert abs((table**4).mean() - 3.0) < 2e-3
    assert torch.equal(table * 4096, (table * 4096).round())


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_no_value_depends_on_chunk_span_or_mask(distribution: str) -> None:
    directions = Directions(7, 3, distribution=distribution)  # type: ignore[arg-type]
    all_of_them = whole(directions)
    one_by_one = torch.cat([directions.generate(k, 1, (0, SIZE), None, CPU) for k in range(4)])
    assert torch.equal(all_of_them, one_by_one)
    for start, stop in ((0, 5), (1, 2), (3, 1000), (4_000, SIZE)):
        assert torch.equal(directions.generate(0, 4, (start, stop), None, CPU), all_of_them[:, start:stop])
    active = torch.arange(0, SIZE, 7)
    assert torch.equal(directions.generate(0, 4, (0, SIZE), active, CPU), all_of_them[:, active])


def test_no_value_depends_on_the_number_of_threads() -> None:
    threads = torch.get_num_threads()
    size = 300_000
    try:
        torch.set_num_threads(1)
        one = whole(KEY, size=size)
        torch.set_num_threads(2)
        assert torch.equal(one, whole(KEY, size=size))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "other", [Directions(8, 3, 1, 2), Directions(7, 4, 1, 2), Directions(7, 3, 2, 2), Directions(7, 3, 1, 3)]
)
def test_every_part_of_the_key_gives_other_directions(other: Directions) -> None:
    correlation = np.corrcoef(whole(KEY).ravel(), whole(other).ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(4 * SIZE)


@pytest.mark.parametrize(("distribution", "kurtosis"), [("gaussian", 3.0), ("rademacher", 1.0)])
def test_moments_and_independence_of_directions_and_neighbours(distribution: str, kurtosis: float) -> None:
    count, size = 64, 8_192
    e = whole(Directions(11, 0, distribution=distribution), count, size).double()  # type: ignore[arg-type]
    noise = 5 / np.sqrt(count * size)
    assert abs(e.mean()) < noise
    assert abs(e.square().mean() - 1) < noise * np.sqrt(2) + 1e-5
    assert abs((e**4).mean() - kurtosis) < noise * np.sqrt(96)
    assert abs((e[:, :-1] * e[:, 1:]).mean()) < noise
    assert abs((e[:-1] * e[1:]).mean()) < noise
    gram = e @ e.T / size - torch.eye(count)
    assert gram.triu(1).abs().max() < 6 / np.sqrt(size)


def test_numpy_and_torch_mix_alike() -> None:
    words = torch.randint(-(2**63), 2**63 - 1, (1000,), generator=torch.Generator().manual_seed(0))
    expected = torch.tensor([_signed(_mix_int(int(word) % 2**64)) for word in words])
    assert torch.equal(_mix_(words.clone()), expected)
    by_torch = words.clone()
    for bits, factor in _ROUNDS:
        by_torch ^= (by_torch >> bits) & ((1 << (64 - bits)) - 1)
        by_torch *= _signed(factor)
    by_torch ^= (by_torch >> _LAST_SHIFT) & ((1 << (64 - _LAST_SHIFT)) - 1)
    assert torch.equal(by_torch, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("density", [1.0, 0.5, 0.1])
def test_no_value_depends_on_the_device(density: float) -> None:
    active = (torch.arange(SIZE) % 10 < 10 * density).nonzero().squeeze(1)
    on_gpu = KEY.generate(0, 4, (0, SIZE), active.cuda(), torch.device("cuda"))
    assert torch.equal(on_gpu.cpu(), KEY.generate(0, 4, (0, SIZE), active, CPU))


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
@pytest.mark.thorough
def test_no_value_depends_on_the_instruction_set(capability: str) -> None:
    if capability == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    code = (
        "import hashlib, torch; from fedfore.primitives.perturbations import Directions;"
        "e = Directions(7, 3, 1, 2).generate(0, 4, (0, 4099), None, torch.device('cpu'));"
        "a = Directions(7, 3, 1, 2).generate(0, 4, (0, 4099), torch.arange(0, 4099, 9), torch.device('cpu'));"
        "print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(e.numpy().tobytes()).hexdigest(),"
        " torch.equal(a, e[:, ::9]))"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    used, digest, same = done.stdout.split()
    assert used.lower() == capability
    assert digest == hashlib.sha256(whole(KEY).numpy().tobytes()).hexdigest()
    assert same == "True"


def test_every_bit_of_a_word_is_balanced_and_follows_no_neighbour() -> None:
    """Bits of consecutive counters and of consecutive keys are ones half the time, alone and when compared."""
    count, size = 32, 4_096
    keys = torch.tensor([_signed(Directions(3, 0).key(k)) for k in range(count)])
    words = _words(keys, torch.arange(size))
    noise = 5 * 0.5 / np.sqrt(count * size)
    for other in (torch.zeros_like(words), words.roll(1, 0), words.roll(1, 1)):
        for bit in range(64):
            share = ((words ^ other) >> bit & 1).double().mean()
            assert abs(share - 0.5) < noise

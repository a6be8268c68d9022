"""Random directions e_k that server and devices regenerate from a key: nothing but a seed travels.

A direction's entry is a function of (key, dense coordinate) alone: a counter-based integer generator (the 64-bit
finaliser of splitmix64 over key + counter x odd constant; Steele, Lea, Flood 2014, variant 13 of Stafford) in int64
arithmetic, then one table look-up. So a weight's perturbation does not depend on the mask, on the chunk, the number
of threads or the instruction set. One 64-bit word serves four coordinates, 16 bits each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedfore.primitives.accounting import account

Distribution = Literal["gaussian", "rademacher"]

LANES = 4
TABLE_BITS = 16
TABLE_STEP = 2.0**-12
_WORD = 1 << 64
_GAMMA = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31


def _gaussian_table() -> Tensor:
    half = 1 << (TABLE_BITS - 1)
    levels = (torch.arange(half, dtype=torch.float64) + 0.5) / (2 * half)
    lower = torch.special.ndtri(levels)
    lower = lower / lower.square().mean().sqrt()
    lower = torch.round(lower / TABLE_STEP) * TABLE_STEP
    return torch.cat([lower, -lower]).to(torch.float32)


GAUSSIAN_TABLE = _gaussian_table()
"""The 65,536 equally likely values of a Gaussian perturbation: normal quantiles rounded to multiples of 2^-12.

Odd symmetric, so every odd moment is exactly 0; scaled before rounding so that the variance is 1 to 1e-5. On a device
it is a constant in read-only memory and no meter counts it; so it is made at import, which no meter sees.
"""


@cache
def _table(device: torch.device) -> Tensor:
    return GAUSSIAN_TABLE.to(device)


def _signed(value: int) -> int:
    value %= _WORD
    return value - _WORD if value >= _WORD >> 1 else value


def _mix_int(z: int) -> int:
    for bits, factor in _ROUNDS:
        z = ((z ^ (z >> bits)) * factor) % _WORD
    return z ^ (z >> _LAST_SHIFT)


def _mix_(words: Tensor) -> Tensor:
    """Mix every 64-bit word in place; on a CPU by NumPy, whose unsigned arithmetic is twice as fast as torch's."""
    spare = torch.empty_like(words)
    if words.device.type == "cpu":
        z, t = (tensor.numpy().view(np.uint64) for tensor in (words, spare))
        for bits, factor in _ROUNDS:
            np.bitwise_xor(z, np.right_shift(z, np.uint64(bits), out=t), out=z)
            np.multiply(z, np.uint64(factor), out=z)
        np.bitwise_xor(z, np.right_shift(z, np.uint64(_LAST_SHIFT), out=t), out=z)
        return words
    for bits, factor in _ROUNDS:
        words.bitwise_xor_(_shifted(words, bits, spare)).mul_(_signed(factor))
    return words.bitwise_xor_(_shifted(words, _LAST_SHIFT, spare))


def _shifted(words: Tensor, bits: int, out: Tensor) -> Tensor:
    """Shift unsigned 64-bit words right by `bits`; torch's own shift of int64 carries the sign."""
    return torch.bitwise_right_shift(words, bits, out=out).bitwise_and_((1 << (64 - bits)) - 1)


@dataclass(frozen=True)
class Directions:
    """The K directions of one step: a seed, the round, the local step and the client (0 where all share them)."""

    seed: int
    round: int
    step: int = 0
    client: int = 0
    distribution: Distribution = "gaussian"

    @cached_property
    def _stem(self) -> int:
        stem = 0
        for part in (self.seed, self.round, self.step, self.client):
            stem = _mix_int((stem + _GAMMA + part) % _WORD)
        return stem

    def key(self, k: int) -> int:
        """Return the 64-bit key of direction `k`."""
        return _mix_int((self._stem + _GAMMA + k) % _WORD)

    def generate(
        self, first: int, count: int, span: tuple[int, int], active: Tensor | None, device: torch.device
    ) -> Tensor:
        """Return directions `first` .. `first + count - 1` as [count, P] float32.

        `span` = (start, stop) are the dense coordinates; `active` [P] selects from them, relative to start, and None
        takes them all.
        """
        start, stop = span
        with account("perturbation"):
            keys = torch.tensor([_signed(self.key(first + i)) for i in range(count)], device=device)
            if active is not None and LANES * len(active) < stop - start:
                lanes = _lanes_at(keys, active + start)
            else:
                lanes = _lanes_between(keys, start, stop)
                lanes = lanes if active is None else lanes.index_select(1, active)
            if self.distribution == "rademacher":
                return lanes.bitwise_and(1).mul(2).sub(1).to(torch.float32)
            levels = lanes.view(torch.uint16).to(torch.int32)
            return _table(device).index_select(0, levels.view(-1)).view(levels.shape)


def _words(keys: Tensor, counters: Tensor) -> Tensor:
    return _mix_(keys[:, None] + (counters + 1).mul_(_signed(_GAMMA)))


def _lanes_between(keys: Tensor, start: int, stop: int) -> Tensor:
    """Return the 16-bit lanes [count, stop - start] of consecutive coordinates: a quarter of a word each."""
    low, high = start // LANES, -(-stop // LANES)
    words = _words(keys, torch.arange(low, high, device=keys.device))
    return words.view(torch.int16).view(len(keys), -1)[:, start - low * LANES : stop - low * LANES]


def _lanes_at(keys: Tensor, coordinates: Tensor) -> Tensor:
    """Return the 16-bit lanes [count, P] of single coordinates: cheaper where fewer than one in four is active."""
    words = _words(keys, coordinates // LANES)
    return (words >> (16 * (coordinates % LANES))).to(torch.int16)

"""Named random streams: every random number of a cell comes from a seed that says what it is for.

A stream is `hash(seed, role, phase, round within the phase, client)`. The method's name is no part of it, so two
methods with one seed see the same initial weights, the same partition, the same cohorts and the same batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

ROLES = ("init", "partition", "cohort", "batches", "probe", "perturbation", "method")


def stream_seed(seed: int, role: str, phase: str = "", round: int = 0, client: int = -1) -> int:
    """Return the 63-bit seed of a stream. Raises ValueError for a role that is not in `ROLES`."""
    if role not in ROLES:
        raise ValueError(f'"{role}" is no random stream; the roles are {", ".join(ROLES)}.')
    key = f"{seed}/{role}/{phase}/{round}/{client}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def torch_generator(seed: int) -> torch.Generator:
    """Return a CPU generator seeded with `seed`."""
    return torch.Generator().manual_seed(seed)


def numpy_generator(seed: int) -> np.random.Generator:
    """Return a NumPy generator seeded with `seed`."""
    return np.random.Generator(np.random.Philox(seed))

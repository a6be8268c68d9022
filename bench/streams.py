"""Named random streams: every random number of a cell comes from a seed that says what it is for.

A stream is `hash(seed, role, phase, round within the phase, client)`. The method's name is no part of it, so two
methods with one seed see the same initial weights, the same partition, the same cohorts and the same batches.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

_WORDS = 624
_FIRST_WORD = 24
"""The byte of a torch generator's state, as torch's checkpoints keep it, at which the twister's 8-byte words begin."""

ROLES = ("init", "partition", "cohort", "batches", "probe", "perturbation", "method")


def stream_seed(seed: int, role: str, phase: str = "", round: int = 0, client: int = -1) -> int:
    """Return the 63-bit seed of a stream. Raises ValueError for a role that is not in `ROLES`."""
    if role not in ROLES:
        raise ValueError(f'"{role}" is no random stream; the roles are {", ".join(ROLES)}.')
    key = f"{seed}/{role}/{phase}/{round}/{client}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def torch_generator(seed: int, part: int = 0) -> torch.Generator:
    """Return a CPU generator whose whole state comes from all bits of `seed` (any size) and from `part` of it.

    torch's own `manual_seed` fills its Mersenne Twister from the low 32 bits of a seed, so that two of our seeds would
    often share a stream. Here its 624 words are the SHAKE-128 digest of `seed/part`, the same on every machine.
    """
    digest = hashlib.shake_128(f"{seed}/{part}".encode()).digest(4 * _WORDS)
    generator = torch.Generator()
    state = generator.get_state()
    words = state[_FIRST_WORD : _FIRST_WORD + 8 * _WORDS].numpy().view(np.uint64)
    words[:] = np.frombuffer(digest, dtype="<u4")
    return generator.set_state(state)


def numpy_generator(seed: int) -> np.random.Generator:
    """Return a NumPy generator seeded with `seed`."""
    return np.random.Generator(np.random.Philox(seed))

"""Flags of many numbers: made by comparison, packed eight to a byte, and counted out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Comparison = Literal["greater", "greater_equal", "less", "less_equal"]


def compared(comparison: Comparison, x: Tensor, bound: float | Tensor) -> Tensor:
    """Return by entry of `x` how it compares with `bound`, in the layout of `x`; by NumPy eight times as fast."""
    if not _numpy_may(x):
        return getattr(torch, comparison)(x, bound)
    flags = torch.empty_like(x, dtype=torch.bool)
    getattr(np, comparison)(x.detach().numpy(), float(bound), out=flags.numpy())
    return flags


def selected(flat: Tensor, flags: Tensor) -> Tensor:
    """Return the entries of `flat` [n] whose flag is set, in order; by NumPy three times as fast."""
    if not _numpy_may(flat):
        return flat[flags]
    return torch.from_numpy(flat.numpy()[np.flatnonzero(flags.numpy())])


def spread(values: Tensor, flags: Tensor) -> Tensor:
    """Return zeros [n] with `values`, in order, where a flag [n] is set; by NumPy nearly twice as fast."""
    flat = values.new_zeros(len(flags))
    if not _numpy_may(values):
        return flat.masked_scatter_(flags, values)
    flat.numpy()[np.flatnonzero(flags.numpy())] = values.numpy()
    return flat


def _numpy_may(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


def pack_bits(flags: Tensor) -> Tensor:
    """Return boolean `flags` [n], eight to a byte: uint8 [ceil(n / 8)].

    The product of eight flags, read as one integer, and the constant has them side by side in its highest byte, which
    is the last in memory.
    """
    octets = F.pad(flags, (0, -len(flags) % 8)).view(torch.int64)
    return octets.mul(0x0102_0408_1020_4080).view(torch.uint8)[7::8].clone()


def unpack_bits(bits: Tensor, count: int) -> Tensor:
    """Return the `count` flags that `pack_bits` packed, by a table of the 256 bytes."""
    shifts = torch.arange(8, device=bits.device)
    table = (torch.arange(256, device=bits.device)[:, None] >> shifts & 1).to(torch.bool).view(torch.int64)
    return table.view(-1).index_select(0, bits.int()).view(torch.bool)[:count]

"""Live tensor bytes by account, their peak, and what sparse storage would save.

Counted: the storage of every tensor made on the way, the mini-batch included, once however many views it has, from its
making to its end, without any allocator's rounding. Not counted: work space inside a kernel (im2col, cuDNN, oneDNN),
what lives on without a tensor, the program, the data set. `torch.distributed._tools.mem_tracker` knows no perturbations
and no messages, and `torch.profiler` reads one machine's allocator: hence this; the tests hold it against the latter.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fedfore.cell import Account
from fedfore.masks import Mask, prunable_weights

ACCOUNTS: tuple[Account, ...] = get_args(Account)


class LiveBytes:
    """The bytes of all live storages that were shown to it, by account, and the split at their highest total."""

    def __init__(self) -> None:
        self._storages: dict[int, tuple[weakref.ref[object], int, Account]] = {}
        self._live: dict[Account, int] = dict.fromkeys(ACCOUNTS, 0)
        self._total = 0
        self._highest = 0
        self.peak: Mapping[Account, int] = dict(self._live)

    def see(self, tensor: Tensor, name: Account) -> None:
        """Book the storage of `tensor` on account `name`, unless it is booked already."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._storages:
            self._storages[key] = (weakref.ref(storage, lambda _: self._release(key)), size, name)
            self._add(name, size)

    def see_again(self, tensor: Tensor, name: Account | None = None) -> None:
        """If the storage of `tensor` is booked, book it with its present size, and on account `name` if given."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            reference, booked, before = self._storages[key]
            if (size, name or before) != (booked, before):
                self._storages[key] = (reference, size, name or before)
                self._live[before] -= booked
                self._total -= booked
                self._add(name or before, size)

    def close(self) -> None:
        """Stop following the storages that are still alive."""
        self._storages.clear()

    def _release(self, key: int) -> None:
        _, size, name = self._storages.pop(key)
        self._add(name, -size)

    def _add(self, name: Account, size: int) -> None:
        self._live[name] += size
        self._total += size
        if self._total > self._highest:
            self._highest, self.peak = self._total, dict(self._live)


def tensors_in(state: object) -> list[Tensor]:
    """Return the dense tensors of a state, however deep in dicts, lists and tuples."""
    return [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes that the tensors hold in memory, those of a shared storage once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


def cheapest_bytes(rows: int, columns: int, kept: int, value_bytes: int = 4) -> int:
    """Return the bytes of a matrix with `kept` entries that are not zero, in the cheapest of four storages.

    Dense; a bitmap and values; COO, values with flat indices; CSR, values with column indices and row pointers. Indices
    and pointers are packed, as many bits each as they need.
    """
    size, value_bits = rows * columns, 8 * value_bytes
    bits = (
        size * value_bits,
        size + kept * value_bits,
        kept * (value_bits + _index_bits(size)),
        kept * (value_bits + _index_bits(columns)) + (rows + 1) * _index_bits(kept + 1),
    )
    return -(-min(bits) // 8)


def _index_bits(count: int) -> int:
    """Return the bits that tell `count` things apart, at least 1."""
    return max(1, (count - 1).bit_length())


def sparse_saving(model: nn.Module, mask: Mask | None) -> int:
    """Return the bytes that the cheapest storage of the masked weights saves on a device; it holds their mask as well.

    A weight is a matrix of as many rows as it has outputs. Gradients, momentum and perturbations are taken as dense.
    """
    if mask is None:
        return 0
    return sum(
        weight.nbytes
        + mask[name].nbytes
        - cheapest_bytes(len(weight), weight[0].numel(), mask.layer_kept[name], weight.itemsize)
        for name, weight in prunable_weights(model).items()
    )

"""A device as a method sees it: its examples, drawn in batches, and its memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedfore.errors import ContractError
from fedfore.streams import torch_generator


@dataclass
class Client:
    """A device: its share of the data, drawn in shuffled epochs, and `state`, a dict that it keeps between rounds.

    `state` holds tensors, numbers and strings; its bytes count as the device's memory.
    """

    id: int
    num_examples: int
    state: dict[str, Any]
    _batch: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]] = field(repr=False)
    _batch_size: int = field(repr=False)
    _stream: Callable[[int], int] = field(repr=False)
    _epoch: int = field(default=-1, repr=False)
    _order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long), repr=False)
    _generator: torch.Generator = field(default_factory=torch.Generator, repr=False)
    examples_drawn: int = 0
    batches_drawn: int = 0

    def batches(self, *, epochs: int | None = None, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mini-batches (x [B, C, H, W] float32, y [B] int64): whole `epochs`, or a number of `steps`.

        The last batch of an epoch may be smaller; nothing is dropped. A client that draws less than an epoch goes on
        from there next time. Raises ContractError (`batches`) unless exactly one of the two is given.
        """
        if (epochs is None) == (steps is None):
            raise ContractError("batches", "client.batches() takes exactly one of epochs= and steps=.")
        per_epoch = -(-self.num_examples // self._batch_size)
        for _ in range(steps if steps is not None else (epochs or 0) * per_epoch):
            if len(self._order) == 0:
                self._epoch += 1
                self._generator = torch_generator(self._stream(self._epoch))
                self._order = torch.randperm(self.num_examples, generator=self._generator)
            chosen, self._order = self._order[: self._batch_size], self._order[self._batch_size :]
            self.examples_drawn += len(chosen)
            self.batches_drawn += 1
            yield self._batch(chosen, self._generator)

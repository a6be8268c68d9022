"""The meter of whatever runs inside it: FLOPs, perturbation operations and the peak of live tensor bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import set_multithreading_enabled
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedfore.cell import Account
from fedfore.masks import Mask
from fedfore.measure.flops import FlopCounter
from fedfore.measure.memory import LiveBytes
from fedfore.primitives.accounting import current_account


@dataclass(frozen=True)
class StepCost:
    """What one metered run cost.

    perturbation_ops: real numbers written while perturbing: drawn, masked, scaled, added, taken back; the generator's
    integer arithmetic is not counted. peak: live bytes by account at their highest total. uncounted: operators that may
    multiply matrices and that no formula counts. drawn: batches of data. uplink_bytes: of the message that goes up.
    kept_bytes: of the state that the device keeps.
    """

    flops: float
    perturbation_ops: float
    peak: Mapping[Account, int]
    uncounted: frozenset[str]
    drawn: int = 0
    uplink_bytes: int = 0
    kept_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        """The peak of live tensor bytes."""
        return sum(self.peak.values())

    def extended(self, after: StepCost, steps: int) -> StepCost:
        """Return the cost `steps` steps of a linear growth later, of which `after` is the first.

        Bytes grow where no account shrinks; otherwise the two peaks are at different moments and the higher one holds.
        """
        growth = {name: after.peak[name] - size for name, size in self.peak.items()}
        if min(growth.values()) < 0:
            peak = max(self, after, key=lambda cost: cost.peak_bytes).peak
        else:
            peak = {name: size + steps * growth[name] for name, size in self.peak.items()}
        return StepCost(
            flops=self.flops + steps * (after.flops - self.flops),
            perturbation_ops=self.perturbation_ops + steps * (after.perturbation_ops - self.perturbation_ops),
            peak=peak,
            uncounted=self.uncounted | after.uncounted,
            drawn=self.drawn + steps * (after.drawn - self.drawn),
            uplink_bytes=self.uplink_bytes + steps * (after.uplink_bytes - self.uplink_bytes),
            kept_bytes=after.kept_bytes,
        )


class StepMeter(TorchDispatchMode):
    """Count the FLOPs, perturbation operations and live tensor bytes of everything that runs inside, backward included.

    `resident` are the tensors that live from the beginning, by account. Other tensors are booked on the account open
    when they are made, gradients of parameters on `gradients`. Backward runs in the calling thread meanwhile.
    """

    def __init__(self, model: nn.Module, mask: Mask | None, resident: Mapping[Account, list[Tensor]]) -> None:
        super().__init__()
        self._perturbation_ops = 0.0
        self._products = FlopCounter(model, mask)
        self._bytes = LiveBytes()
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._book_gradient) for p in model.parameters() if p.requires_grad
        ]
        for name, tensors in resident.items():
            for tensor in tensors:
                self._bytes.see(tensor, name)

    def cost(self) -> StepCost:
        """Return what was counted so far."""
        return StepCost(
            flops=self._products.flops,
            perturbation_ops=self._perturbation_ops,
            peak=self._bytes.peak,
            uncounted=frozenset(self._products.uncounted),
        )

    def __enter__(self) -> StepMeter:
        self._threads = set_multithreading_enabled(False)
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._threads.__exit__(*exc)
        self._products.close()
        self._bytes.close()
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        for gradient in self._products.count(func, args, kwargs, out):
            self._bytes.see(gradient, "gradients")
        perturbing = current_account() == "perturbation" and not func.is_view and "empty" not in func.__name__
        makes = _makes_its_results(func)
        for leaf in map(_stored, tree_leaves(out)):
            if isinstance(leaf, Tensor):
                if perturbing and leaf.is_floating_point():
                    self._perturbation_ops += leaf.numel()
                if makes:
                    self._bytes.see(leaf, current_account())
                else:
                    self._bytes.see_again(leaf)
        return out

    def _book_gradient(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._bytes.see_again(parameter.grad, "gradients")


def _stored(leaf: Any) -> Any:
    """Return a tensor's values where it is sparse, which is how it has a storage; anything else as it is."""
    if not isinstance(leaf, Tensor) or leaf.layout == torch.strided:
        return leaf
    return leaf._values() if leaf.layout == torch.sparse_coo else leaf.values()


@cache
def _makes_its_results(func: Any) -> bool:
    """Return whether an operator's results are new: no views and no arguments, which may be the data set's."""
    return func is torch.ops.aten.lift_fresh.default or all(made.alias_info is None for made in func._schema.returns)

"""The rules that the harness holds a method to; breaking one raises a ContractError that names it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.cell import Cell
from bench.contract import Method
from bench.errors import ContractError
from bench.masks import Mask, prunable_weights
from bench.wire import Layout

SPARSITY_TOLERANCE = 0.01


def expect(value: object, kind: type, hook: str) -> None:
    """Raise (`hook_type`) unless what a hook returned is of the contract's type."""
    if not isinstance(value, kind):
        raise ContractError(
            "hook_type",
            f"{hook} must return {kind.__name__}, got {type(value).__name__}; the harness does the measuring.",
        )


def check_plain(state: object, where: str) -> None:
    """Raise (`state_type`) unless a state holds tensors, numbers and strings only."""
    if isinstance(state, dict):
        for value in state.values():
            check_plain(value, where)
    elif isinstance(state, list | tuple):
        for value in state:
            check_plain(value, where)
    elif not (state is None or isinstance(state, Tensor | str | int | float)):
        raise ContractError(
            "state_type", f"{where} holds a {type(state).__name__}; it keeps tensors, numbers and strings only."
        )


def check_tensors(tensors: Mapping[str, Tensor], layout: Layout, mask: Mask | None, who: str) -> None:
    """Raise (`weights`, `mask_leak`) unless the tensors are a whole model's, and zero where the mask prunes."""
    for name, shape in layout.shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            raise ContractError("weights", f'The weights of {who} lack "{name}" of shape {tuple(shape)}.')
    leak = mask.leak(tensors) if mask is not None else None
    if leak is not None:
        raise ContractError("mask_leak", f'The weights of {who} are not zero where the mask prunes "{leak}".')


def check_untouched(mask: Mask | None, active: Tensor | None, layout: Layout, method: type[Method]) -> None:
    """Raise (`mask_edit`) where the present mask, whose values travel at `active`, has been edited in place."""
    now = layout.active(mask)
    if now is not None and active is not None and not torch.equal(now, active):
        raise ContractError(
            "mask_edit", f"{method.__name__} edits the tensors of ctx.mask, which all share; edit a clone of them."
        )


def check_revival(new: Mask, present: Mask | None, method: type[Method]) -> None:
    """Raise (`revival`) where a mask keeps a weight that is pruned, unless the method may do so."""
    if not method.grows and not new.within(present):
        raise ContractError(
            "revival", f"{method.__name__} revives pruned weights; a method that may do so sets grows = True."
        )


def measured_sparsity(model: nn.Module, mask: Mask | None) -> float:
    """Return zeros / prunable weights: of the mask, or of the weights themselves where there is no mask."""
    if mask is not None:
        return mask.sparsity
    weights = list(prunable_weights(model).values())
    return 1.0 - sum(int(torch.count_nonzero(weight)) for weight in weights) / sum(weight.numel() for weight in weights)


def check_sparsity(cell: Cell, method: type[Method], model: nn.Module, mask: Mask | None) -> None:
    """Raise (`sparsity`) where the model is not as sparse as the cell asks."""
    if "sparsity" in method.uses:
        measured = measured_sparsity(model, mask)
        if abs(measured - cell.sparsity) > SPARSITY_TOLERANCE:
            raise ContractError(
                "sparsity", f"The cell asks for sparsity {cell.sparsity:g}, and {measured:.4f} was measured."
            )


def global_rng() -> tuple[object, ...]:
    """Return the states of all global random generators, to see whether a method used one."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().numpy().tobytes(),
        numpy_state[1].tobytes(),
        numpy_state[2:],
        random.getstate(),
    )


def check_global_rng(before: tuple[object, ...], method: type[Method]) -> None:
    """Raise (`global_rng`) where a global generator has moved."""
    if global_rng() != before:
        raise ContractError(
            "global_rng", f"{method.__name__} used a global random generator; draw from ctx.rng(role) instead."
        )

"""The rules that the harness holds a method to; breaking one raises a ContractError that names it."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedfore.cell import Cell
from fedfore.contract.exchange import Update
from fedfore.contract.instance import fingerprint
from fedfore.contract.method import Method
from fedfore.errors import ConfigError, ContractError
from fedfore.federation.wire import Layout
from fedfore.masks import Mask, prunable_weights

SPARSITY_TOLERANCE = 0.01
DEEPEST = 20
MOST_EXAMPLES = 2**32 - 1
"""What the wire has room for."""


def expect(value: object, kind: type, hook: str) -> None:
    """Raise (`hook_type`) unless what a hook returned is of the contract's type."""
    if not isinstance(value, kind):
        raise ContractError(
            "hook_type",
            f"{hook} must return {kind.__name__}, got {type(value).__name__}; the harness does the measuring.",
        )


def check_plain(state: object, where: str, depth: int = 0) -> None:
    """Raise (`state_type`) unless a state holds tensors, numbers and strings only, in dicts and lists of them."""
    if depth > DEEPEST:
        raise ContractError("state_type", f"{where} nests its values more than {DEEPEST} deep.")
    if isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            check_plain(value, where, depth + 1)
    elif not (state is None or isinstance(state, Tensor | str | int | float)):
        raise ContractError(
            "state_type", f"{where} holds a {type(state).__name__}; it keeps tensors, numbers and strings only."
        )


def check_update(update: object, who: str) -> None:
    """Raise (`hook_type`, `num_examples`, `message_type`) unless a client returned an Update of the right types."""
    expect(update, Update, "client_update")
    assert isinstance(update, Update)
    count = update.num_examples
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_EXAMPLES:
        raise ContractError(
            "num_examples", f"{who} says num_examples = {count!r}; give client.num_examples, a whole number from 1 on."
        )
    if update.weights is not None:
        expect(update.weights, Mapping, "Update.weights")
    if update.scalars is not None:
        _check_dense(update.scalars, "Update.scalars", who)
        if update.scalars.dim() != 1 or not update.scalars.is_floating_point():
            raise ContractError("message_type", f"The scalars of {who} are no vector of real numbers.")
    check_named(update.tensors, who)


def check_named(tensors: object, who: str) -> None:
    """Raise (`hook_type`, `message_type`) unless the tensors beside a model are dense ones by name."""
    expect(tensors, Mapping, "tensors")
    assert isinstance(tensors, Mapping)
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise ContractError("message_type", f"A tensor of {who} has the name {name!r}; names are strings.")
        _check_dense(tensor, f'"{name}"', who)


def _check_dense(tensor: object, name: str, who: str) -> None:
    if not isinstance(tensor, Tensor):
        raise ContractError("message_type", f"{name} of {who} is a {type(tensor).__name__}, not a tensor.")
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ContractError(
            "message_type", f"{name} of {who} is no dense tensor in memory; the wire finds sparse forms by itself."
        )


def check_tensors(tensors: Mapping[str, Tensor], layout: Layout, mask: Mask | None, who: str) -> None:
    """Raise (`weights`, `mask_leak`) unless the tensors are a whole model's, and zero where the mask prunes."""
    for name, shape in layout.shapes.items():
        if name not in tensors:
            raise ContractError("weights", f'The weights of {who} lack "{name}" of shape {tuple(shape)}.')
        _check_dense(tensors[name], f'"{name}"', who)
        if tensors[name].shape != shape:
            found = tuple(tensors[name].shape)
            raise ContractError("weights", f'"{name}" of {who} has shape {found}, and the model has {tuple(shape)}.')
        if not tensors[name].is_floating_point():
            raise ContractError("weights", f'"{name}" of {who} holds {tensors[name].dtype}; weights are real numbers.')
    odd = sorted(map(str, set(tensors) - set(layout.shapes)))
    if odd:
        raise ContractError("weights", f'The weights of {who} name "{odd[0]}", which the model does not have.')
    leak = mask.leak(tensors) if mask is not None else None
    if leak is not None:
        raise ContractError("mask_leak", f'The weights of {who} are not zero where the mask prunes "{leak}".')


def check_untouched(mask: Mask | None, kept: Mask | None, method: type[Method]) -> None:
    """Raise (`mask_edit`) where the present mask, of which `kept` is a copy, has been edited in place."""
    if mask is not None and not mask.same_as(kept):
        raise ContractError(
            "mask_edit", f"{method.__name__} edits the tensors of ctx.mask, which all share; edit a clone of them."
        )


def check_unchanged(method: Method, before: bytes) -> None:
    """Raise (`self_state`) where a method's instance is no longer what its fingerprint `before` says."""
    if fingerprint(method) != before:
        raise ContractError(
            "self_state", f"{type(method).__name__} changed data on self; keep it in ctx.state or client.state."
        )


def check_revival(new: Mask, present: Mask | None, method: type[Method]) -> None:
    """Raise (`revival`) where a mask keeps a weight that is pruned, unless the method may do so."""
    if not method.grows and not new.within(present):
        raise ContractError(
            "revival", f"{method.__name__} revives pruned weights; a method that may do so sets grows = True."
        )


def measured_sparsity(model: nn.Module, mask: Mask | None) -> float:
    """Return zeros / prunable weights: of the mask, or of the weights themselves where there is no mask.

    0 where nothing can be pruned.
    """
    if mask is not None:
        return mask.sparsity
    weights = list(prunable_weights(model).values())
    size = sum(weight.numel() for weight in weights)
    return 1.0 - sum(int(torch.count_nonzero(weight)) for weight in weights) / size if size else 0.0


def check_sparsity(cell: Cell, method: type[Method], model: nn.Module, mask: Mask | None) -> None:
    """Raise (`sparsity`) where the model is not as sparse as the cell asks."""
    if "sparsity" in method.uses:
        measured = measured_sparsity(model, mask)
        if abs(measured - cell.sparsity) > SPARSITY_TOLERANCE:
            raise ContractError(
                "sparsity", f"The cell asks for sparsity {cell.sparsity:g}, and {measured:.4f} was measured."
            )


def check_last_batches(model: nn.Module, sizes: Sequence[int], batch_size: int, input_shape: Sequence[int]) -> None:
    """Raise ConfigError where a client's epoch ends with one example and batch norm needs two, as over vectors."""
    if not any(size % batch_size == 1 or batch_size == 1 for size in sizes):
        return
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return
    try:
        one = next(model.parameters()).new_zeros(1, *input_shape)
        copy.deepcopy(model).train()(one)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            "A client's last batch has one example, of which batch norm over vectors has no variance; choose another "
            "train.batch_size, or a model with norm=group."
        ) from None


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

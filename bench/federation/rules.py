"""The rules that the harness holds a method to; breaking one raises a ContractError that names it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping, Sequence
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
from fedfore.tasks.examples import Examples

SPARSITY_TOLERANCE = 0.01
DEEPEST = 20
PLAIN = (str, int, float, bool, type(None))
MOST_EXAMPLES = 2**32 - 1
"""What the wire has room for."""


def expect(value: object, kind: type, hook: str) -> None:
    """Raise (`hook_type`) unless what a hook returned is of the contract's type."""
    if not isinstance(value, kind):
        raise ContractError(
            "hook_type",
            f"{hook} must return {kind.__name__}, got {type(value).__name__}; the harness does the measuring.",
        )


def storages_of(model: nn.Module) -> set[int]:
    """Return what holds the values of a model, for `check_plain`."""
    return {id_of_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}


def id_of_storage(tensor: Tensor) -> int:
    """Return a number that tensors have in common where they share memory."""
    return int(tensor.untyped_storage()._cdata)


def check_plain(state: object, where: str, taken: set[int]) -> None:
    """Raise (`state_type`) unless a state can be saved as it is and comes back the same.

    It is a dict of tensors, numbers and strings, and of dicts, lists and tuples of them, each in memory of its own:
    `taken` is memory that others hold already (see `storages_of`), to which the state's is added.
    """
    if type(state) is not dict:
        raise ContractError("state_type", f"{where} is a {type(state).__name__}; it stays a dict.")
    _check_value(state, where, taken, 0)


def _check_value(value: object, where: str, taken: set[int], depth: int) -> None:
    if depth > DEEPEST:
        raise ContractError("state_type", f"{where} nests its values more than {DEEPEST} deep.")
    if type(value) is dict:
        _take(id(value), where, taken)
        for key, inner in value.items():
            _check_key(key, where)
            _check_value(inner, where, taken, depth + 1)
    elif type(value) in (list, tuple):
        assert isinstance(value, list | tuple)
        if type(value) is list:
            _take(id(value), where, taken)
        for inner in value:
            _check_value(inner, where, taken, depth + 1)
    elif type(value) is Tensor:
        if value.layout != torch.strided or value.is_meta or value.is_complex() or value.is_quantized:
            raise ContractError("state_type", f"{where} holds a tensor that is no dense one of real numbers in memory.")
        if value.requires_grad:
            raise ContractError("state_type", f"{where} holds a tensor with a gradient; detach and clone it.")
        if value.numel():
            _take(id_of_storage(value), where, taken)
    elif type(value) not in PLAIN:
        raise ContractError(
            "state_type", f"{where} holds a {type(value).__name__}; it keeps tensors, numbers and strings only."
        )


def _take(memory: int, where: str, taken: set[int]) -> None:
    if memory in taken:
        raise ContractError(
            "state_type", f"{where} shares memory with the model or with another entry; keep a copy, as by .clone()."
        )
    taken.add(memory)


def _check_key(key: object, where: str) -> None:
    for part in key if type(key) is tuple else (key,):
        if type(part) not in (str, int):
            raise ContractError(
                "state_type", f"{where} has the key {key!r}; keys are strings, whole numbers, and tuples of them."
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


def writes_to(examples: Iterable[Examples]) -> tuple[int, ...]:
    """Return how often each tensor of these examples has been written to in place, as torch counts it."""
    return tuple(tensor._version for part in examples for tensor in part.tensors.values())


def check_data(examples: Iterable[Examples], before: tuple[int, ...], method: type[Method]) -> None:
    """Raise (`data`) where examples have been written to."""
    if writes_to(examples) != before:
        raise ContractError("data", f"{method.__name__} overwrites the data set; change a copy of what it is given.")


def check_global_rng(before: tuple[object, ...], method: type[Method]) -> None:
    """Raise (`global_rng`) where a global generator has moved."""
    if global_rng() != before:
        raise ContractError(
            "global_rng", f"{method.__name__} used a global random generator; draw from ctx.rng(role) instead."
        )

"""What a method's hook leaves as it was: the model beside its values, and in an evaluation the server's values too."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.contract.method import Method
from fedfore.errors import ContractError

SCALARS = (str, int, float, bool, type(None))
PASSING = ("training", "_is_full_backward_hook")
"""What a hook may leave behind: the mode, which loading sets, and what PyTorch keeps of a hook that was removed."""
DEEPEST = 8


@contextmanager
def unchanged_modules(model: nn.Module, method: type[Method], hook: str) -> Iterator[None]:
    """Raise (`model_state`) where modules, their attributes or hooks are others at the end than at the beginning.

    Values of parameters and buffers may change.
    """
    before = _modules(model)
    yield
    after = _modules(model)
    for place in {**before, **after}:
        one, other = before.get(place), after.get(place)
        if one is None or other is None or not _alike(one, other):
            raise ContractError(
                "model_state",
                f'{method.__name__}.{hook} leaves "{place}" of the model changed, which all share; undo it, and keep '
                "memory in ctx.state or client.state.",
            )


@contextmanager
def unchanged_values(model: nn.Module, state: dict[str, Any], method: type[Method], hook: str) -> Iterator[None]:
    """Raise (`evaluation_edit`) where a value of the model or the server's memory is another one at the end."""
    before = copy.deepcopy((dict(model.state_dict()), state))
    yield
    for kept, now, name in zip(before, (dict(model.state_dict()), state), ("the model", "ctx.state"), strict=True):
        if not _same(kept, now):
            raise ContractError(
                "evaluation_edit", f"{method.__name__}.{hook} edits {name}; work on clones, and return those."
            )


def _modules(model: nn.Module) -> dict[str, list[object]]:
    """Return every attribute of every module by its place, as the things that it consists of."""
    found: dict[str, list[object]] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        found[f"{prefix}__class__"] = [type(module)]
        for key, value in vars(module).items():
            if key == "_buffers":
                found[prefix + key] = list(value)
            elif key == "_parameters":
                found[prefix + key] = [part for item in value.items() for part in _parameter(*item)]
            elif key not in PASSING:
                found[prefix + key] = list(_leaves(value))
    return found


def _parameter(name: str, parameter: nn.Parameter | None) -> Iterator[object]:
    yield from (name, parameter)
    if parameter is not None:
        yield parameter.requires_grad
        for hooks in (parameter._backward_hooks, getattr(parameter, "_post_accumulate_grad_hooks", None)):
            yield from (hooks or {}).values()


def _leaves(value: object, depth: int = 0) -> Iterator[object]:
    if isinstance(value, dict | list | tuple | set) and depth < DEEPEST:
        yield type(value)
        for inner in value.items() if isinstance(value, dict) else value:
            yield from _leaves(inner, depth + 1)
    else:
        yield value


def _alike(one: list[object], other: list[object]) -> bool:
    """Return whether two lists hold the same objects, or equal numbers and texts of one type."""
    return len(one) == len(other) and all(
        a is b or (type(a) is type(b) and isinstance(a, SCALARS) and a == b) for a, b in zip(one, other, strict=True)
    )


def _same(one: Any, other: Any) -> bool:
    """Return whether two states hold the same values; NaN equals itself, and an empty dict none (see `state_of`)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype
        return alike and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
    if isinstance(one, dict):
        return all(_same(one.get(key, {}), other.get(key, {})) for key in {**one, **other})
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other or (one != one and other != other))

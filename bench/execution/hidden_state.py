"""What a method may remember where the harness cannot see it: in its classes, modules and functions' defaults."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from pickle import PicklingError
from types import CellType, FunctionType, ModuleType

import numpy as np
import torch
from torch import Tensor, nn

DEEPEST = 8


def hidden_state(kind: type) -> dict[str, bytes]:
    """Return a digest of everything by place, for the files of `kind` and of the classes that it derives from.

    Looked at are the attributes of classes, the globals of modules and what functions keep: tensors, arrays, numbers,
    texts, containers of them and whatever else pickle could take apart. Of the suite these are the classes that `kind`
    derives from.
    """
    modules = _modules(kind)
    own = frozenset(module.__name__ for module in modules)
    found = {f"{base.__name__}.{name}": _digest(held, own) for base in kind.__mro__[:-1] for name, held in _named(base)}
    for module in modules:
        for name, value in _named(module):
            if not inspect.isclass(value):
                found[f"the global {name}"] = _digest(value, own)
            elif value.__module__ in own:
                found |= {f"{value.__name__}.{inner}": _digest(held, own) for inner, held in _named(value)}
    return found


def _modules(kind: type) -> list[ModuleType]:
    """Return the modules of a class and of its bases outside the suite, and those beside them that they import from."""
    suite = __name__.partition(".")[0]
    outside = [base.__module__ for base in kind.__mro__ if base.__module__.partition(".")[0] not in (suite, "builtins")]
    own = [sys.modules[name] for name in dict.fromkeys(outside)]
    folders = {Path(module.__file__).parent for module in own if module.__file__}
    sources = (_source(value) for module in own for value in vars(module).values())
    beside = [
        source for source in sources if source and Path(getattr(source, "__file__", None) or "/").parent in folders
    ]
    return list({module.__name__: module for module in (*own, *beside)}.values())


def _source(value: object) -> ModuleType | None:
    return value if isinstance(value, ModuleType) else sys.modules.get(str(getattr(value, "__module__", None)))


def _named(holder: type | ModuleType) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in list(vars(holder).items()) if not name.startswith("__"))


def _digest(value: object, own: frozenset[str]) -> bytes:
    digest = hashlib.sha256()
    for part in _parts(value, own, frozenset()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def _parts(value: object, own: frozenset[str], above: frozenset[int]) -> Iterator[bytes]:
    if len(above) > DEEPEST or id(value) in above:
        return
    yield type(value).__name__.encode()
    inner: list[object] = []
    if isinstance(value, Tensor):
        yield repr((value.dtype, value.shape)).encode()
        if not value.is_meta:
            yield value.detach().cpu().to_dense().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif value is None or isinstance(value, str | bytes | int | float | complex):
        yield repr(value).encode()
    elif isinstance(value, dict):
        inner = [part for item in value.items() for part in item]
    elif isinstance(value, list | tuple | deque):
        inner = list(value)
    elif isinstance(value, set | frozenset):
        inner = sorted(value, key=repr)
    elif isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
        inner = [value.__defaults__, value.__kwdefaults__, vars(value), cells]
    elif isinstance(value, classmethod | staticmethod):
        inner = [value.__func__]
    elif isinstance(value, nn.Module) or (type(value).__module__ in own and hasattr(value, "__dict__")):
        inner = [vars(value)]
    elif isinstance(value, torch.Generator):
        inner = [value.get_state()]
    elif not isinstance(value, type | ModuleType):
        inner = [_reduced(value)]
    for part in inner:
        yield from _parts(part, own, above | {id(value)})


def _reduced(value: object) -> object:
    """Return what pickle would keep of an object, or None where it cannot be pickled."""
    try:
        return value.__reduce_ex__(2)
    except (AttributeError, PicklingError, RuntimeError, TypeError, ValueError):
        return None

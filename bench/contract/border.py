"""The border to code of others: what a plug-in raises becomes one sentence, what it changes of the process is undone.

A plug-in may raise anything and change anything; neither may end the work on other methods or reach their numbers.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.nn.modules import module as torch_module

from fedfore.errors import ContractError, FedForeError, PluginError, Skip, printable

LONGEST = 1_000
"""Characters of an exception's text that a sentence repeats."""


def words(error: BaseException) -> str:
    """Return `Type: text` of any exception in one printable line, also where its own text cannot be made."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001
        text = "its text cannot be made"
    line = " ".join(text.split())
    kept = line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
    return printable(f"{type(error).__name__}: {kept}" if kept else type(error).__name__)


def _line_in(file: Path, error: BaseException) -> int | None:
    """Return the last line of `file` that an exception came through, or None."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return frames[-1].lineno if frames else None


@contextmanager
def plugin_border(owner: str, file: Path) -> Iterator[None]:
    """Raise PluginError, in one sentence with its line in `file`, for whatever the code of `owner` raises inside.

    The suite's own errors, `Skip` and Ctrl-C pass. Raises ContractError as `unchanged_process` does.
    """
    with unchanged_process(owner):
        try:
            yield
        except (FedForeError, Skip, KeyboardInterrupt):
            raise
        except BaseException as error:
            line = _line_in(file, error)
            raise PluginError(f"{words(error)}{f' ({file}, line {line})' if line else ''}") from error


@dataclass(frozen=True)
class _Part:
    """A part of the process's state that all methods share."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _write_autocast(state: tuple[bool, torch.dtype, bool]) -> None:
    torch.set_autocast_enabled("cpu", state[0])
    torch.set_autocast_dtype("cpu", state[1])
    torch.set_autocast_cache_enabled(state[2])


_HOOKS = tuple(
    name for name, value in vars(torch_module).items() if name.startswith("_global_") and isinstance(value, dict)
)


def _read_hooks() -> tuple[dict[int, Any], ...]:
    return tuple(dict(getattr(torch_module, name)) for name in _HOOKS)


def _write_hooks(hooks: tuple[dict[int, Any], ...]) -> None:
    for name, kept in zip(_HOOKS, hooks, strict=True):
        present = getattr(torch_module, name)
        present.clear()
        present.update(kept)


def _read_functional() -> dict[str, Any]:
    """Return the module's names without the list of the warnings that it has issued, which Python keeps there."""
    functions = dict(vars(functional))
    functions.pop("__warningregistry__", None)
    return functions


def _write_functional(functions: Mapping[str, Any]) -> None:
    for name in _read_functional().keys() - functions.keys():
        delattr(functional, name)
    vars(functional).update(functions)


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


_SHARED: Mapping[str, _Part] = {
    "torch's default dtype": _Part(torch.get_default_dtype, torch.set_default_dtype),
    "whether gradients are recorded": _Part(torch.is_grad_enabled, lambda enabled: torch._C._set_grad_enabled(enabled)),
    "autocast": _Part(
        lambda: (
            torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()
        ),
        _write_autocast,
    ),
    "torch's number of threads": _Part(torch.get_num_threads, torch.set_num_threads),
    "the working folder": _Part(_working_folder, lambda folder: os.chdir(folder) if folder else None),
    "the permissions of new files": _Part(_read_umask, os.umask),
    "the hooks of all modules": _Part(_read_hooks, _write_hooks),
    "torch.nn.functional": _Part(_read_functional, _write_functional),
}  # fmt: skip


@contextmanager
def unchanged_process(owner: str) -> Iterator[None]:
    """Undo what happens inside to the state that all methods of a process share.

    Raises ContractError (`global_state`) where there was something to undo; it may be why something else was raised.
    """
    before = {name: part.read() for name, part in _SHARED.items()}
    raised: BaseException | None = None
    try:
        yield
    except BaseException as error:  # noqa: BLE001
        raised = error
    changed = [name for name, part in _SHARED.items() if part.read() != before[name]]
    for name in changed:
        _SHARED[name].write(before[name])
    if raised is not None and not (changed and isinstance(raised, Exception)):
        raise raised
    if changed:
        said = str(raised) if isinstance(raised, FedForeError) else words(raised) if raised else ""
        then = f"; then {said}" if said else ""
        raise ContractError(
            "global_state", f"{owner} changes {' and '.join(changed)}, which other methods share{then}."
        ) from raised

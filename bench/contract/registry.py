"""Find method files by their place, and explain the ones that cannot be used.

A method is a file in `methods/`, `baselines/` or a folder given with --plugins (its name is the file's), or an entry
point of the group `fedfore.methods` of an installed package. A broken file is kept with its reason: it hides no other
method, and asking for it says what is wrong.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from fedfore.contract.border import plugin_border
from fedfore.contract.declarations import check_declarations
from fedfore.contract.method import Method
from fedfore.contract.plugin_files import NAME, MethodFile, import_file, method_files
from fedfore.contract.plugins import NAME_RULE, know_plugins
from fedfore.errors import ConfigError, FedForeError, PluginError, printable, suggestion
from fedfore.records.sources import package_folder

ENTRY_POINT_GROUP = "fedfore.methods"
Role = Literal["method", "baseline", "plugin"]


@dataclass(frozen=True)
class MethodEntry:
    """A discovered method: `method` is its class, or None where `problem` says why it cannot be used."""

    name: str
    role: Role
    file: Path
    method: type[Method] | None
    problem: str | None = None

    @property
    def summary(self) -> str:
        """The first line of the method's docstring."""
        return (inspect.getdoc(self.method) or "").partition("\n")[0] if self.method else ""


def discover(plugins: Sequence[Path] = (), *, only: str | None = None) -> dict[str, MethodEntry]:
    """Return every method by name, or that called `only`; no file of another one is imported then.

    Plug-ins of the other kinds become known to this process (see `know_plugins`). Raises PluginError for a missing
    folder and for two files of one name.

    An entry point gives way to a file of its name: it is kept as broken, under the name of what it points at.
    """
    found: dict[str, MethodEntry] = {}
    for entry in _file_entries(plugins, only):
        if entry.name in found:
            raise PluginError(
                f'Two methods are called "{entry.name}": {found[entry.name].file} and {entry.file}; rename one file.'
            )
        found[entry.name] = entry
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if only not in (None, point.name):
            continue
        entry = _from_point(point, found)
        found[entry.name] = entry
    know_plugins(plugins)
    return found


def lookup(methods: Mapping[str, MethodEntry], name: str) -> type[Method]:
    """Return a method's class. Raises ConfigError for an unknown name and PluginError for a broken file."""
    entry = methods.get(name)
    if entry is None:
        raise ConfigError(f'There is no method "{name}".{suggestion(name, methods)}')
    if entry.method is None:
        raise PluginError(entry.problem or f'The method "{name}" cannot be used.')
    return entry.method


def _file_entries(plugins: Sequence[Path], only: str | None) -> Iterator[MethodEntry]:
    def wanted(folder: Path) -> Iterator[MethodFile]:
        return (file for file in method_files(folder) if only in (None, file.path.stem))

    shipped: tuple[tuple[str, Role], ...] = (("methods", "method"), ("baselines", "baseline"))
    for package, role in shipped:
        for file in wanted(package_folder(package)):
            yield from _from_file(file, role, partial(importlib.import_module, f"fedfore.{package}.{file.path.stem}"))
    for folder in plugins:
        for file in wanted(folder):
            yield from _from_file(file, "plugin", partial(import_file, file.path))


def _from_file(file: MethodFile, role: Role, load: Callable[[], ModuleType]) -> Iterator[MethodEntry]:
    """Yield the entry of a method file, or nothing where it turns out to be a helper of another one."""

    def method() -> type[Method] | None:
        defined = _leaves(load())
        if file.helps and not defined:
            return None
        if len(defined) != 1:
            raise PluginError(
                f"it defines {len(defined)} subclasses of fedfore.api.Method from which no other class of the file "
                "derives, and a method file defines exactly one"
            )
        return defined[0]

    entry = _entry(file.path.stem, role, file.path, method)
    if entry is not None:
        yield entry


def _leaves(module: ModuleType) -> list[type[Method]]:
    """Return the methods that a module defines, without those from which another class of the module derives."""
    own = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]
    methods = [kind for kind in dict.fromkeys(own) if issubclass(kind, Method)]
    return [kind for kind in methods if not any(kind in other.__bases__ for other in methods)]


def _from_point(point: EntryPoint, found: Mapping[str, MethodEntry]) -> MethodEntry:
    target = Path(point.value.partition(":")[0])
    if point.name in found:
        name, where = printable(point.value), found[point.name].file
        problem = (
            f'The entry point "{point.name}" of {name} is not used: {where} has that name; rename the entry point.'
        )
        return MethodEntry(name, "plugin", target, None, problem)
    entry = _entry(point.name, "plugin", target, point.load)
    assert entry is not None, "what an entry point loads is an object"
    return entry


def _entry(name: str, role: Role, file: Path, load: Callable[[], type[Method] | None]) -> MethodEntry | None:
    """Return the method that `load` returns as an entry, or why it cannot be used; None where it returns None."""
    shown = printable(name)
    try:
        if not NAME.fullmatch(name):
            raise PluginError(NAME_RULE)
        with plugin_border(shown, file):
            method = load()
            if method is None:
                return None
            check_declarations(method, name)
            return MethodEntry(name, role, Path(inspect.getfile(method)), method)
    except FedForeError as error:
        reason = str(error)
        place = "" if str(file) in reason else f" ({printable(str(file))})"
        return MethodEntry(shown, role, file, None, f'The method "{shown}" cannot be used{place}: {reason}.')

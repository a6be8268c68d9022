"""Find method files by their place, and explain the ones that cannot be used.

A method is a file in `methods/`, `baselines/` or a folder given with --plugins (its name is the file's), or an entry
point of the group `fedfore.methods` of an installed package. A broken file is kept with its reason: it hides no other
method, and asking for it says what is wrong.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal

from bench.code_hash import ROOT
from bench.contract import AXES, Method, make_config
from bench.errors import ConfigError, PluginError, suggestion

ENTRY_POINT_GROUP = "fedfore.methods"
UNUSABLE = (
    PluginError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
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


def discover(plugins: Sequence[Path] = ()) -> dict[str, MethodEntry]:
    """Return every method by name. Raises PluginError for a missing folder and for a name that is used twice."""
    found: dict[str, MethodEntry] = {}
    for entry in _entries(plugins):
        if entry.name in found:
            raise PluginError(
                f'Two methods are called "{entry.name}": {found[entry.name].file} and {entry.file}; rename one file.'
            )
        found[entry.name] = entry
    return found


def lookup(methods: Mapping[str, MethodEntry], name: str) -> type[Method]:
    """Return a method's class. Raises ConfigError for an unknown name and PluginError for a broken file."""
    entry = methods.get(name)
    if entry is None:
        raise ConfigError(f'There is no method "{name}".{suggestion(name, methods)}')
    if entry.method is None:
        raise PluginError(entry.problem or f'The method "{name}" cannot be used.')
    return entry.method


def _entries(plugins: Sequence[Path]) -> Iterator[MethodEntry]:
    for package, role in (("methods", "method"), ("baselines", "baseline")):
        for file in _method_files(ROOT / package):
            yield _from_file(file, role, f"{package}.{file.stem}")  # type: ignore[arg-type]
    for folder in plugins:
        if not folder.is_dir():
            raise PluginError(f"--plugins {folder} is no folder.")
        for file in _method_files(folder.resolve()):
            yield _from_file(file, "plugin", f"fedfore_plugin_{file.stem}")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        yield _entry(point.name, "plugin", Path(point.value.partition(":")[0]), point.load)


def _method_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def _from_file(file: Path, role: Role, module_name: str) -> MethodEntry:
    def load() -> type[Method]:
        module = importlib.import_module(module_name) if role != "plugin" else _import_file(file, module_name)
        return _only_method(module)

    return _entry(file.stem, role, file, load)


def _import_file(file: Path, module_name: str) -> ModuleType:
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _only_method(module: ModuleType) -> type[Method]:
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise PluginError(
            f"it defines {len(own)} subclasses of bench.api.Method, and a method file defines exactly one"
        )
    return own[0]


def _entry(name: str, role: Role, file: Path, load: object) -> MethodEntry:
    try:
        method = load()  # type: ignore[operator]
        odd = sorted(set(method.uses) - set(AXES))
        if odd:
            raise PluginError(f'its `uses` names "{odd[0]}", and the axes are {" and ".join(AXES)}')
        if not dataclasses.is_dataclass(method.Config):
            raise PluginError("its Config is no dataclass")
        make_config(method, {}, name)  # every key has a default
        return MethodEntry(name, role, Path(inspect.getfile(method)), method)
    except UNUSABLE as error:
        line = _line_in(file, error)
        where = f"{file}{f', line {line}' if line else ''}"
        return MethodEntry(
            name, role, file, None, f'The method "{name}" cannot be used ({where}): {type(error).__name__}: {error}.'
        )


def _line_in(file: Path, error: BaseException) -> int | None:
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return frames[-1].lineno if frames else None

"""Files in a folder of plug-ins: which of them are methods, seen without running any, and how one is imported.

A method file imports the suite, or a file beside it that does, and defines a class with a base. Other files are
helpers and scripts: a helper is importable by its name from the files beside it, a script is never run.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fedfore.contract.border import unchanged_process
from fedfore.errors import PluginError, printable
from fedfore.records.code_hash import SUITE

PREFIX = "fedfore_plugin_"
_folders: list[str] = []
"""The folders of plug-ins on `sys.path`, the one imported from last before the others."""


@dataclass(frozen=True)
class MethodFile:
    """A file that is to be imported as a method; another file may import it as a helper (`helps`)."""

    path: Path
    helps: bool


@dataclass(frozen=True)
class _Source:
    """What the syntax of a file says: whether it defines a class with a base, and what it imports."""

    derives: bool
    uses_suite: bool
    beside: frozenset[Path]
    """The files beside it that it imports."""


def method_files(folder: Path) -> list[MethodFile]:
    """Return the method files of `folder`, sorted; such as cannot be read or parsed are among them.

    Names that begin with `_` are helpers. Raises PluginError for a folder that cannot be read.
    """
    try:
        beside = sorted(folder.iterdir())
    except OSError as error:
        raise PluginError(f"--plugins {printable(str(folder))} cannot be read: {error.strerror}.") from None
    files = [file for file in beside if file.suffix == ".py" and not file.name.startswith(".")]
    sources = {file: _source(file) for file in files}
    imported = {other for source in sources.values() if source for other in source.beside}
    return [
        MethodFile(file, file in imported)
        for file, source in sources.items()
        if not file.name.startswith("_") and (source is None or (source.derives and _uses_suite(file, sources)))
    ]


def _source(file: Path) -> _Source | None:
    """Return what a file's syntax says, or None where it cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    imported = {name.partition(".")[0] for node in ast.walk(tree) for name in _imports(node)}
    places = {file.parent / f"{name}.py" for name in imported - {SUITE}}
    return _Source(
        derives=any(isinstance(node, ast.ClassDef) and node.bases for node in tree.body),
        uses_suite=SUITE in imported,
        beside=frozenset(place for place in places - {file} if place.is_file()),
    )


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []


def _uses_suite(file: Path, sources: Mapping[Path, _Source | None], seen: frozenset[Path] = frozenset()) -> bool:
    """Return whether a file imports the suite, itself or through files beside it."""
    source = sources.get(file)
    return source is not None and (
        source.uses_suite or any(_uses_suite(other, sources, seen | {file}) for other in source.beside - seen)
    )


def import_file(file: Path) -> ModuleType:
    """Import a file under a name of its own; the files beside it are importable by theirs, installed ones first.

    Raises ContractError (`global_state`) as `unchanged_process` does.
    """
    module_name = PREFIX + file.stem
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(file):
        return loaded
    _make_importable(file.parent)
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        with unchanged_process(module_name.removeprefix(PREFIX)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _make_importable(folder: Path) -> None:
    """Put `folder` on the path, before other folders of plug-ins, of whose helpers those with a name of its own go."""
    others = [place for place in _folders if place != str(folder)]
    for file in folder.glob("*.py"):
        loaded = sys.modules.get(file.stem)
        if loaded is not None and str(Path(getattr(loaded, "__file__", None) or "").parent) in others:
            del sys.modules[file.stem]
    _folders[:] = [str(folder), *others]
    sys.path[:] = [place for place in sys.path if place not in _folders] + _folders

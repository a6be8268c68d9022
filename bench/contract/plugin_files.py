"""Files in a folder of plug-ins: which of them are methods, seen without running any, and how one is imported.

A method file imports the suite, or a file beside it that does, defines a class with a base and declares no plug-in of
another kind. Other files are those that do (see `fedfore.records.declared`), helpers and scripts: a helper is
importable by its name from the files beside it, a script is never run.

One rule for names, that of bare keys in TOML, since a name is a key of the matrix and a part of a folder's name.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fedfore.contract.border import unchanged_process
from fedfore.errors import PluginError, printable
from fedfore.records.declared import declarations
from fedfore.records.sources import SUITE, imports, own_files, tree, version

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
PREFIX = "fedfore_plugin_"
FOLDER = "bench"
"""The folder of a checkout that the suite lies in; it is imported by no such name."""
_versions: dict[Path, tuple[int, int]] = {}
"""What each method file, and each file beside it that it imports, was when it was imported."""
_folders: list[str] = []
"""The folders of plug-ins on `sys.path`, the one imported from last before the others."""


@dataclass(frozen=True)
class MethodFile:
    """A file that is to be imported as a method; another file may import it as a helper (`helps`)."""

    path: Path
    helps: bool


def python_files(folder: Path) -> list[Path]:
    """Return the Python files of a folder that may be plug-ins, sorted: names that begin with `_` are helpers.

    Raises PluginError for a folder that is none, or cannot be read.
    """
    return [file for file in _beside(folder) if not file.name.startswith("_")]


def _beside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PluginError(f"--plugins {folder} is no folder.")
    try:
        beside = sorted(folder.resolve().iterdir())
    except OSError as error:
        raise PluginError(f"--plugins {printable(str(folder))} cannot be read: {error.strerror}.") from None
    return [file for file in beside if file.suffix == ".py" and not file.name.startswith(".")]


def method_files(folder: Path) -> list[MethodFile]:
    """Return the method files of `folder`, sorted; such as cannot be read or parsed are among them.

    Raises PluginError as `python_files` does.
    """
    imported = {other for file in _beside(folder) for other in own_files(file) if other != file}
    return [MethodFile(file, file in imported) for file in python_files(folder) if _is_method(file)]


def _is_method(file: Path) -> bool:
    """Return whether a file defines a class with a base and imports the suite, itself or through files beside it."""
    try:
        statements = tree(file, version(file)).body
        if any(declarations(file)):
            return False
    except PluginError:
        return True
    derives = any(isinstance(node, ast.ClassDef) and node.bases for node in statements)
    return derives and any({SUITE, FOLDER} & names for names in _foreign_names(file).values())


def _foreign_names(file: Path) -> dict[Path, set[str]]:
    """Return for a file and each one beside it that it imports the names that it imports and that lie not beside it."""
    own = own_files(file)
    beside = {one.stem for one in own} | {one.parent.name for one in own if one.stem == "__init__"}
    found: dict[Path, set[str]] = {}
    for one in own:
        try:
            found[one] = {module.partition(".")[0] for module, _ in imports(one)} - beside
        except PluginError:
            found[one] = set()
    return found


def import_file(file: Path) -> ModuleType:
    """Import a file under a name of its own; the files beside it are importable by theirs, installed ones first.

    Imported before, it is imported again where it or one of those has changed, as between two runs of a notebook.

    Raises PluginError where one of them imports the suite's folder by its name, ContractError (`global_state`) as
    `unchanged_process` does.
    """
    module_name = PREFIX + file.stem
    loaded = sys.modules.get(module_name)
    versions = {one: version(one) for one in own_files(file)}
    changed = [one for one, now in versions.items() if _versions.get(one, now) != now]
    if loaded is not None and loaded.__file__ == str(file) and not changed:
        _make_importable(file.parent)
        return loaded
    for one in changed:
        helper = sys.modules.get(one.stem)
        if helper is not None and getattr(helper, "__file__", None) == str(one):
            del sys.modules[one.stem]
    old = next((one for one, names in _foreign_names(file).items() if FOLDER in names), None)
    if old is not None:
        whose = "it" if old == file else f"its helper {old.name}"
        raise PluginError(f"{whose} imports {FOLDER}; write `from {SUITE}.api import Method`, and so for all names")
    _make_importable(file.parent)
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    _versions.update(versions)
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

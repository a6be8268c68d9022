"""The hash of the code that a method's cells are computed with: what it says, not how it is laid out. No torch.

Scheme 2 hashes syntax trees without comments, docstrings and layout, in a form that does not depend on Python's
version; scheme 1, of older records, hashed the bytes of the same files. Both cover the method's file, the modules of
the suite that it and the harness compute with, and, in scheme 2, the modules of its own folder or package.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fedfore.records.sources import imports, module_file, own_files, package_folder, tree, version

HASH_SCHEME = 2
HARNESS = ("fedfore.federation.assembly", "fedfore.execution.metering")
"""Where a cell's numbers come from, beside its method's file: these modules and all that they import."""
FACADE = "fedfore.api"
ARCHITECTURES = "fedfore.tasks.architectures"
"""The package of the models, which are found by their place: no import names its modules."""
WORDLESS = frozenset(
    {
        "fedfore",
        FACADE,
        "fedfore.contract.border",
        "fedfore.records.declared",
        "fedfore.records.sources",
        "fedfore.records.look",
        "fedfore.errors",
        "fedfore.records.lines",
        "fedfore.records.metrics",
        "fedfore.primitives",
        "fedfore.tasks.torchvision_compat",
    }
)
"""Modules that change no number: packages, labels and looks, the sentences of errors, and the facade, which is looked
through."""


def computing_modules(method_file: Path) -> tuple[str, ...]:
    """Return the suite's modules that the cells of a method compute with, beside its own files, sorted.

    Raises PluginError for a file that cannot be read.
    """
    todo = [*HARNESS, *_architectures()]
    todo += (module for file in own_files(method_file) for module in _suite_imports(file, version(file)))
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        file = module_file(module)
        if module not in seen and file is not None:
            seen.add(module)
            todo += _suite_imports(file, version(file))
    return tuple(sorted(seen - WORDLESS))


def _architectures() -> Iterator[str]:
    folder = package_folder("tasks") / "architectures"
    return (f"{ARCHITECTURES}.{file.stem}" for file in sorted(folder.glob("[!_]*.py")))


def code_sha256(method_file: Path, scheme: int = HASH_SCHEME) -> str:
    """Return the hash of everything that the cells of the method in this file compute with.

    Raises PluginError for a file that cannot be read.
    """
    digest = hashlib.sha256()
    suite = [file for file in map(module_file, computing_modules(method_file)) if file is not None]
    if scheme == 1:
        for path in (method_file, *suite):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()
    own = own_files(method_file)
    for path in (method_file, *(file for file in own if file != method_file), *suite):
        digest.update(path.name.encode() + b"\0" + _tree_sha256(path, version(path)).encode() + b"\0")
    return digest.hexdigest()


@cache
def _suite_imports(file: Path, version: tuple[int, int]) -> frozenset[str]:
    """Return the suite's modules that `file` imports, at the top or inside a function."""
    found: set[str] = set()
    for module, name in imports(file):
        inside = f"{module}.{name}" if name else module
        found.add(inside if name is None or module_file(inside) else _defining(module, name))
    return frozenset(module for module in found if module_file(module))


def _defining(module: str, name: str) -> str:
    """Return the module that the facade takes `name` from, or `module` itself where it is not the facade."""
    file = module_file(FACADE)
    of_facade = imports(file) if module == FACADE and file else ()
    return next((source for source, taken in of_facade if taken == name), module)


@cache
def _tree_sha256(file: Path, version: tuple[int, int]) -> str:
    words: list[str] = []
    _say(tree(file, version), words)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _say(node: object, words: list[str]) -> None:
    """Append a syntax tree in words, without positions, absent fields and statements that are nothing but a text."""
    if isinstance(node, ast.AST):
        words.append(f"({type(node).__name__}")
        for name, value in ast.iter_fields(node):
            said = [item for item in value if not _is_text(item)] if isinstance(value, list) else value
            if said is not None and said != []:
                words.append(name)
                _say(said, words)
        words.append(")")
    elif isinstance(node, list):
        for item in node:
            _say(item, words)
    else:
        words.append(repr(node))


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

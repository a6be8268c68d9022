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

from fedfore.errors import PluginError

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
"""The checkout's root, in which `bench/` is the package `fedfore`; where the suite is installed, `site-packages`."""
HASH_SCHEME = 2
SUITE = "fedfore"
SHIPPED = ("methods", "baselines")
BESIDE = (*SHIPPED, "plots")
"""Parts of the package that lie beside it in a checkout, and inside where it is installed."""
HARNESS = ("fedfore.federation.loop", "fedfore.execution.metering", "fedfore.execution.record_fields")
"""Where a cell's numbers come from, beside its method's file: these modules and all that they import."""
FACADE = "fedfore.api"
ARCHITECTURES = "fedfore.tasks.architectures"
"""The package of the models, which are found by their place: no import names its modules."""
WORDLESS = frozenset(
    {
        "fedfore",
        FACADE,
        "fedfore.errors",
        "fedfore.records.metrics",
        "fedfore.primitives",
        "fedfore.tasks.torchvision_compat",
    }
)
"""Modules that change no number: packages, labels, the sentences of errors, and the facade, which is looked through."""


def shipped_method_file(name: str) -> Path | None:
    """Return the file of a method that ships with the suite, without importing it, or None."""
    files = (package_folder(package) / f"{name}.py" for package in SHIPPED)
    return next((path for path in files if path.exists()), None)


def package_folder(name: str) -> Path:
    """Return the folder of a part of the package, such as `methods` or `records`."""
    inside = PACKAGE / name
    return ROOT / name if name in BESIDE and not inside.is_dir() else inside


def module_file(module: str) -> Path | None:
    """Return the file of a module of the suite, or None for a module of somebody else's."""
    suite, _, inside = module.partition(".")
    if suite != SUITE:
        return None
    part, _, rest = inside.partition(".")
    return _file_below(package_folder(part) if rest else PACKAGE, rest or part) if inside else PACKAGE / "__init__.py"


def _file_below(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def computing_modules(method_file: Path) -> tuple[str, ...]:
    """Return the suite's modules that the cells of a method compute with, beside its own files, sorted.

    Raises PluginError for a file that cannot be read.
    """
    todo = [*HARNESS, *_architectures()]
    todo += (module for file in own_files(method_file) for module in _suite_imports(file, _version(file)))
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        file = module_file(module)
        if module not in seen and file is not None:
            seen.add(module)
            todo += _suite_imports(file, _version(file))
    return tuple(sorted(seen - WORDLESS))


def _architectures() -> Iterator[str]:
    folder = package_folder("tasks") / "architectures"
    return (f"{ARCHITECTURES}.{file.stem}" for file in sorted(folder.glob("[!_]*.py")))


def own_files(method_file: Path) -> tuple[Path, ...]:
    """Return a method's file and the files of its own folder or package that it imports, directly or not, sorted."""
    seen: set[Path] = set()
    todo = [method_file]
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += _imports_beside(file, method_file)
    return tuple(sorted(seen))


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
        digest.update(path.name.encode() + b"\0" + _tree_sha256(path, _version(path)).encode() + b"\0")
    return digest.hexdigest()


@cache
def _suite_imports(file: Path, version: tuple[int, int]) -> frozenset[str]:
    """Return the suite's modules that `file` imports, at the top or inside a function."""
    found: set[str] = set()
    for module, name in _imported(file):
        inside = f"{module}.{name}" if name else module
        found.add(inside if name is None or module_file(inside) else _defining(module, name))
    return frozenset(module for module in found if module_file(module))


def _imports_beside(file: Path, method_file: Path) -> Iterator[Path]:
    """Yield the files that `file` imports from its own folder, or from the package that the method's file is in."""
    package = _package_root(method_file)
    for module, name in _imported(file):
        if module_file(module):
            continue
        for wanted in filter(None, (module, f"{module}.{name}" if name else None)):
            folders = [file.parent]
            if package is not None and wanted.partition(".")[0] == package.name:
                folders.append(package.parent)
            yield from filter(None, (_file_below(folder, wanted) for folder in folders))


def _package_root(file: Path) -> Path | None:
    """Return the folder of the outermost package that a file is in, or None where it is in none."""
    folder, found = file.parent, None
    while (folder / "__init__.py").is_file():
        folder, found = folder.parent, folder
    return found


def _imported(file: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (module, None) for `import module` and (module, name) for `from module import name`, as absolute names."""
    package = _package_root(file)
    parts = [] if package is None else list(file.parent.relative_to(package.parent).parts)
    for node in _imports(file, _version(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        else:
            base = parts[: len(parts) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names if module)


def _defining(module: str, name: str) -> str:
    """Return the module that the facade takes `name` from, or `module` itself where it is not the facade."""
    file = module_file(FACADE)
    for node in _imports(file, _version(file)) if module == FACADE and file else ():
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return node.module
    return module


def _version(file: Path) -> tuple[int, int]:
    """Return what tells a changed file from the one that was read before."""
    try:
        status = file.stat()
    except OSError as error:
        raise PluginError(f"{file} cannot be read: {error.strerror}.") from None
    return status.st_mtime_ns, status.st_size


@cache
def _imports(file: Path, version: tuple[int, int]) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in ast.walk(_tree(file, version)) if isinstance(node, ast.Import | ast.ImportFrom))


@cache
def _tree_sha256(file: Path, version: tuple[int, int]) -> str:
    return hashlib.sha256("\n".join(_meaning(_tree(file, version))).encode()).hexdigest()


@cache
def _tree(file: Path, version: tuple[int, int]) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise PluginError(f"{file} cannot be read: {error}.") from None


def _meaning(node: object) -> Iterator[str]:
    """Yield a syntax tree in words, without positions, absent fields and statements that are nothing but a text."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            said = [item for item in value if not _is_text(item)] if isinstance(value, list) else value
            if said is not None and said != []:
                yield name
                yield from _meaning(said)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _meaning(item)
    else:
        yield repr(node)


def _is_text(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)

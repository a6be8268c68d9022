"""Source files as their syntax has them: where the suite's modules lie, and what a file imports. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from fedfore.errors import PluginError

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
"""The checkout's root, in which `bench/` is the package `fedfore`; where the suite is installed, `site-packages`."""
SUITE = "fedfore"
SHIPPED = ("methods", "baselines")
BESIDE = (*SHIPPED, "plots")
"""Parts of the package that lie beside it in a checkout, and inside where it is installed."""


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


def shipped_method_file(name: str) -> Path | None:
    """Return the file of a method that ships with the suite, without importing it, or None."""
    files = (package_folder(package) / f"{name}.py" for package in SHIPPED)
    return next((path for path in files if path.exists()), None)


def own_files(file: Path) -> tuple[Path, ...]:
    """Return a file and those of its own folder or package that it imports, directly or not, sorted.

    What a file that cannot be read imports is not known; it is among them.
    """
    seen: set[Path] = set()
    todo = [file]
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            try:
                todo += _imports_beside(one, file)
            except PluginError:
                continue
    return tuple(sorted(seen))


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (module, None) for `import module` and (module, name) for `from module import name`, as absolute names.

    Imports inside functions are among them. Raises PluginError for a file that cannot be read.
    """
    package = _package_root(file)
    parts = [] if package is None else list(file.parent.relative_to(package.parent).parts)
    for node in _import_statements(file, version(file)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        else:
            base = parts[: len(parts) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names if module)


def version(file: Path) -> tuple[int, int]:
    """Return what tells a changed file from the one that was read before."""
    try:
        status = file.stat()
    except OSError as error:
        raise PluginError(f"{file} cannot be read: {error.strerror}.") from None
    return status.st_mtime_ns, status.st_size


@cache
def tree(file: Path, version: tuple[int, int]) -> ast.Module:
    """Return a file's syntax tree. Raises PluginError where there is none."""
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise PluginError(f"{file} cannot be read: {error}.") from None


@cache
def _import_statements(file: Path, version: tuple[int, int]) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in ast.walk(tree(file, version)) if isinstance(node, ast.Import | ast.ImportFrom))


def _imports_beside(file: Path, start: Path) -> Iterator[Path]:
    """Yield the files that `file` imports from its own folder, or from the package that `start` is in."""
    package = _package_root(start)
    for module, name in imports(file):
        if module_file(module):
            continue
        for wanted in filter(None, (module, f"{module}.{name}" if name else None)):
            top = package.parent if package and wanted.partition(".")[0] == package.name else start.parent
            yield from filter(None, (_file_below(folder, wanted) for folder in (file.parent, top)))


def _package_root(file: Path) -> Path | None:
    """Return the folder of the outermost package that a file is in, or None where it is in none."""
    folder, found = file.parent, None
    while (folder / "__init__.py").is_file():
        folder, found = folder.parent, folder
    return found


def _file_below(folder: Path, module: str) -> Path | None:
    place = folder.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)

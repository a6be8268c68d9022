"""Where a record comes from: the hash of the code it was computed with, the environment, the git commit. No torch."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("methods", "baselines")
PACKAGES = ("fedfore", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "fvcore")
HARNESS = ("bench.federated", "bench.metering", "bench.record")
"""Where a cell's numbers come from, beside its method's file: these modules and all that they import."""
FACADE = "bench.api"
WORDLESS = frozenset({"bench", FACADE, "bench.errors", "bench.metrics", "bench.primitives", "bench.torchvision_compat"})
"""Modules that change no number: packages, labels, the sentences of errors, and the facade, which is looked through."""


def module_file(module: str) -> Path | None:
    """Return the file of a module of the suite, or None for a module of somebody else's."""
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def project_imports(file: Path) -> frozenset[str]:
    """Return the suite's modules that `file` imports, at the top or inside a function; imports are absolute."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                found.add(inside if module_file(inside) else _defining(node.module, alias.name))
    return frozenset(module for module in found if module_file(module))


def _defining(module: str, name: str) -> str:
    """Return the module that the facade takes `name` from, or `module` itself where it is not the facade."""
    for node in ast.walk(_facade()) if module == FACADE else ():
        if isinstance(node, ast.ImportFrom) and node.module and name in (alias.name for alias in node.names):
            return node.module
    return module


@cache
def _facade() -> ast.Module:
    file = module_file(FACADE)
    assert file is not None
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def computing_modules(method_file: Path) -> tuple[str, ...]:
    """Return the modules that the cells of a method compute with, beside the method's own file, sorted."""
    seen: set[str] = set()
    todo = [*HARNESS, *project_imports(method_file)]
    while todo:
        module = todo.pop()
        file = module_file(module)
        if module not in seen and file is not None:
            seen.add(module)
            todo += project_imports(file)
    return tuple(sorted(seen - WORDLESS))


@cache
def code_sha256(method_file: Path) -> str:
    """Return the hash of a method's file and of everything in the suite that its cells compute with."""
    files = (module_file(module) for module in computing_modules(method_file))
    digest = hashlib.sha256()
    for path in (method_file, *(file for file in files if file is not None)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def shipped_method_file(name: str) -> Path | None:
    """Return the file of a method that ships with the suite, without importing it, or None."""
    files = (ROOT / package / f"{name}.py" for package in SHIPPED)
    return next((path for path in files if path.exists()), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, object]:
    """Return versions, platform and processor; no host name, user or path."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "implementation": sys.implementation.name,
    }


def environment_hash(values: Mapping[str, object]) -> str:
    """Return a short name for an environment."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


@cache
def git_commit() -> str | None:
    """Return the commit of the suite's checkout, or None outside one; `-dirty` where files beside results differ."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    return f"{commit}-dirty" if commit and changed else commit


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None

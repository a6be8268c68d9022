"""What is declared as a dependency, what is imported, and what is pinned are the same things."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from fedfore.records.sources import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = ("bench", "methods", "baselines", "plots")
DISTRIBUTIONS = {"pydantic_core": "pydantic"}
"""Modules that come with a dependency of another name."""
OPTIONAL = {"pyarrow", "ray", "tensorboard"}
"""What is imported only where somebody asks for it."""
TOOLS = {"pytest-benchmark", "pytest-xdist", "ruff", "mypy", "pandas-stubs", "setuptools", *OPTIONAL}
"""What the development set runs, and no file imports."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(one.name): one for one in found}


RUNTIME = requirements(PROJECT["dependencies"])
EVERY = {
    **RUNTIME,
    **{name: one for lines in PROJECT["optional-dependencies"].values() for name, one in requirements(lines).items()},
}
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
}


def imported(folders: tuple[str, ...]) -> set[str]:
    """Return the distributions that the files below these folders import, at the top or inside a function."""

    def names(file: Path) -> Iterator[str]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module

    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    tops = {name.partition(".")[0] for file in files for name in names(file)}
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in tops - sys.stdlib_module_names}


def test_every_dependency_is_imported_and_every_import_is_a_dependency() -> None:
    assert imported(SHIPPED) - {"fedfore", "tests"} == RUNTIME.keys() | OPTIONAL


def test_every_package_of_the_development_set_is_imported_by_a_test_or_is_a_tool() -> None:
    names = {"pyyaml": "yaml"}
    only = {names.get(name, name) for name in EVERY.keys() - RUNTIME.keys() - TOOLS}
    assert only <= imported(("tests",))


def test_every_dependency_is_pinned_at_a_version_that_it_allows() -> None:
    assert EVERY.keys() <= PINS.keys(), sorted(EVERY.keys() - PINS.keys())
    refused = {name: str(PINS[name]) for name, one in EVERY.items() if not one.specifier.contains(PINS[name])}
    assert refused == {}

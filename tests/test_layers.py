"""The import table: who may know whom, one way, read from the syntax trees of every shipped file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bench.code_hash import ROOT, WORDLESS, computing_modules

PACKAGES = ("bench", "methods", "baselines", "plots")

# Module (or pattern) -> the project modules it may import. Everything absent is forbidden, also inside a function.
LEAVES = tuple(f"bench.{name}" for name in ("errors", "streams", "cell", "probes", "torchvision_compat"))
PRIMITIVE = ("bench.primitives.*", "bench.masks", "bench.cell", "bench.errors", "bench.streams")
READING = ("bench.store", "bench.metrics", "bench.errors", "bench.cell", "bench.probes")
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(LEAVES, ()),
    **dict.fromkeys(("bench", "bench.primitives", "bench.matrices", "methods", "baselines", "plots"), ()),
    "bench.metrics": ("bench.probes",),
    "bench.masks": ("bench.errors",),
    "bench.mask_changes": ("bench.masks",),
    "bench.primitives.*": PRIMITIVE,
    "bench.contract": (*PRIMITIVE, "bench.border"),
    "bench.bp_free": (*PRIMITIVE, "bench.contract"),
    "bench.foresight": (*PRIMITIVE, "bench.contract"),
    "bench.dynamic_pruning": (*PRIMITIVE, "bench.contract"),
    "bench.api": (*PRIMITIVE, "bench.contract", "bench.bp_free", "bench.dynamic_pruning", "bench.foresight"),
    "bench.augmentation": (),
    "bench.data_readers": ("bench.torchvision_compat",),
    "bench.data": ("bench.cell", "bench.data_readers", "bench.errors", "bench.torchvision_compat"),
    "bench.validation": ("bench.data", "bench.errors"),
    "bench.partition": ("bench.errors",),
    "bench.models": (
        "bench.cell", "bench.errors", "bench.primitives.sequences", "bench.primitives.sparse_normalisation",
        "bench.torchvision_compat",
    ),
    "bench.evaluation": ("bench.data",),
    "bench.wire": PRIMITIVE,
    "bench.seed_trick": (*PRIMITIVE, "bench.wire"),
    "bench.flops": PRIMITIVE,
    "bench.step_formulas": (*PRIMITIVE, "bench.flops"),
    "bench.memory": PRIMITIVE,
    "bench.meters": (*PRIMITIVE, "bench.contract", "bench.flops", "bench.memory", "bench.metrics"),
    "bench.diagnostics": (*PRIMITIVE, "bench.contract", "bench.probes"),
    "bench.devices": (*PRIMITIVE, "bench.augmentation", "bench.contract", "bench.data"),
    "bench.rules": (*PRIMITIVE, "bench.contract", "bench.wire"),
    "bench.ntk": PRIMITIVE,
    "bench.ntk_errors": (*PRIMITIVE, "bench.ntk", "bench.probes"),
    "bench.approximation": (*PRIMITIVE, "bench.devices", "bench.ntk", "bench.ntk_errors", "bench.probes"),
    "bench.result": (
        "bench.data", "bench.diagnostics", "bench.evaluation", "bench.mask_changes", "bench.masks", "bench.meters",
    ),
    "bench.federated": (
        *PRIMITIVE, "bench.approximation", "bench.border", "bench.contract", "bench.data", "bench.devices",
        "bench.diagnostics", "bench.evaluation", "bench.mask_changes", "bench.memory", "bench.meters", "bench.models",
        "bench.partition", "bench.probes", "bench.result", "bench.rules", "bench.validation", "bench.wire",
    ),
    "bench.border": ("bench.errors",),
    "bench.plugin_files": ("bench.border", "bench.errors"),
    "bench.code_hash": ("bench.errors",),
    "bench.provenance": ("bench.code_hash",),
    "bench.files": ("bench.errors",),
    "bench.schema": ("bench.cell", "bench.metrics"),
    "bench.migration": ("bench.cell",),
    "bench.run_folder": (
        "bench.cell", "bench.errors", "bench.files", "bench.migration", "bench.provenance", "bench.schema",
    ),
    "bench.attempts": ("bench.errors", "bench.files", "bench.run_folder", "bench.schema"),
    "bench.table": (
        "bench.cell", "bench.code_hash", "bench.errors", "bench.metrics", "bench.migration", "bench.run_folder",
        "bench.schema",
    ),
    "bench.store": ("bench.attempts", "bench.files", "bench.run_folder", "bench.schema", "bench.table"),
    "bench.registry": ("bench.border", "bench.code_hash", "bench.contract", "bench.errors", "bench.plugin_files"),
    "bench.matrix_file": ("bench.errors", "bench.cell"),
    "bench.feasibility": (
        "bench.cell", "bench.contract", "bench.data", "bench.errors", "bench.models", "bench.partition",
        "bench.streams", "bench.validation",
    ),
    "bench.matrix": (
        "bench.border", "bench.cell", "bench.contract", "bench.data", "bench.errors", "bench.feasibility",
        "bench.masks", "bench.matrix_file",
        "bench.models", "bench.partition", "bench.registry",
    ),
    "bench.record": (
        "bench.cell", "bench.diagnostics", "bench.evaluation", "bench.masks", "bench.meters", "bench.partition",
        "bench.primitives.offset", "bench.result", "bench.rules",
    ),
    "bench.metering": (
        *PRIMITIVE, "bench.contract", "bench.data", "bench.federated", "bench.record",
    ),
    "bench.hidden_state": (),
    "bench.dead_keys": ("bench.contract", "bench.errors", "bench.primitives.local_sgd"),
    "bench.cost": (
        "bench.cell", "bench.errors", "bench.matrix", "bench.metering", "bench.registry", "bench.store",
    ),
    "bench.conformance": (
        *PRIMITIVE, "bench.border", "bench.contract", "bench.data", "bench.dead_keys", "bench.federated",
        "bench.hidden_state", "bench.metrics", "bench.registry", "bench.result",
    ),
    "bench.worker": (
        "bench.attempts", "bench.border", "bench.cell", "bench.code_hash", "bench.data", "bench.errors",
        "bench.federated", "bench.files", "bench.metering", "bench.record", "bench.registry", "bench.run_folder",
        "bench.schema",
    ),
    "bench.runner": (
        "bench.attempts", "bench.cell", "bench.code_hash", "bench.data", "bench.errors", "bench.matrix",
        "bench.provenance", "bench.registry", "bench.run_folder", "bench.schema", "bench.table", "bench.worker",
    ),
    "bench.arguments": ("bench.cell",),
    "bench.outcomes": ("bench.errors", "bench.runner", "bench.store"),
    "bench.listings": (
        "bench.cell", "bench.data", "bench.matrix", "bench.matrix_file", "bench.metrics", "bench.models",
        "bench.registry",
    ),
    "bench.messages": ("bench.cell", "bench.data", "bench.errors", "bench.models", "bench.seed_trick"),
    "bench.cli": ("bench.*", "plots.*"),
    "methods.*": ("bench.api", "bench.primitives.*"),
    "baselines.*": ("bench.api", "bench.primitives.*"),
    "plots.*": (*READING, "plots.*"),
}  # fmt: skip


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


@cache
def project_imports(module: str) -> frozenset[str]:
    """Return every project module that `module` imports, at the top or inside a function."""
    found: set[str] = set()
    package = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            inside = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else source for name in inside}
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES)


def rule_of(module: str) -> tuple[str, ...] | None:
    """Return what `module` may import: by its own row of the table, else by the longest pattern that fits."""
    fitting = [key for key in ALLOWED if key == module or ("*" in key and fnmatchcase(module, key))]
    return ALLOWED[max(fitting, key=lambda key: (key == module, len(key)))] if fitting else None


def reachable(start: str) -> set[str]:
    """Return `start` and everything of the project that it imports, directly or not."""
    seen, todo = set[str](), [start]
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += project_imports(module)
    return seen


def functions(module: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of a file with the name of the innermost function around it."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else name
            yield inner, child
            yield from walk(child, inner)

    return walk(tree(module), "")


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    allowed = rule_of(module)
    assert allowed is not None, f"{module} is not in the import table; give it a row that says what it may import."
    odd = sorted(
        name for name in project_imports(module) - {module} if not any(fnmatchcase(name, key) for key in allowed)
    )
    assert not odd, f"{module} imports {odd[0]}, and the import table does not allow that."


def test_every_row_of_the_table_names_a_module_that_exists() -> None:
    gone = [key for key in ALLOWED if not any(fnmatchcase(module, key) for module in FILES) and key != "methods.*"]
    assert not gone, f"The import table has a row for {gone[0]}, which does not exist."


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({module: project_imports(module) - {module} for module in FILES}).prepare()


def test_nobody_imports_the_command_line() -> None:
    assert [module for module in FILES if "bench.cli" in project_imports(module)] == []


def leaves_by_printing_or_exiting(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("print", "exit", "quit", "SystemExit")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return (node.value.id, node.attr) in {("sys", "exit"), ("os", "_exit"), ("sys", "stdout"), ("sys", "stderr")}
    return False


def test_only_the_command_line_prints_or_exits() -> None:
    found = {module for module in FILES for _, node in functions(module) if leaves_by_printing_or_exiting(node)}
    assert found == {"bench.cli"}


def swallows_everything(node: ast.AST) -> bool:
    """Return whether `node` catches every exception and does not end by raising it again."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    every = ("Exception", "BaseException")
    broad = any(kind is None or (isinstance(kind, ast.Name) and kind.id in every) for kind in kinds)
    last = node.body[-1]
    return broad and not (isinstance(last, ast.Raise) and last.exc is None)


BORDERS = {
    ("bench.worker", "run_job"): "one cell may fail, and the matrix goes on",
    ("bench.border", "plugin_border"): "a plug-in may raise anything, and other methods are looked at all the same",
    ("bench.border", "unchanged_process"): "what was changed is undone first, and what was raised goes on",
    ("bench.border", "words"): "an exception of others may be unable to say what it is",
    ("bench.contract", "validated"): "the Config of a plug-in may raise anything of a value",
    ("bench.federated", "_approximation"): "the kernel observes the cell, and must not end it",
}
"""The functions that catch every exception, and why they may; nobody else does."""


def test_only_functions_at_a_border_catch_every_exception() -> None:
    found = {(module, name) for module in FILES for name, node in functions(module) if swallows_everything(node)}
    assert found == set(BORDERS)


TEXT_FILES = ("open", "read_text", "write_text")


def leaves_the_encoding_to_the_machine(node: ast.AST) -> bool:
    """Return whether `node` opens, reads or writes a text file, and does not say how it is encoded."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    is_binary = any(isinstance(one, ast.Constant) and str(one.value) in ("rb", "wb", "ab") for one in node.args)
    by_system_call = isinstance(node.func, ast.Attribute) and ast.unparse(node.func) == "os.open"
    named = any(one.arg == "encoding" for one in node.keywords)
    return name in TEXT_FILES and not (named or is_binary or by_system_call)


def test_every_text_file_is_utf_8_whatever_the_machines_encoding() -> None:
    found = {
        f"{module}, line {node.lineno}"
        for module in FILES
        for _, node in functions(module)
        if leaves_the_encoding_to_the_machine(node) and isinstance(node, ast.Call)
    }
    assert not found, f'Say encoding="utf-8" in {sorted(found)}.'


def test_reading_records_and_drawing_them_never_imports_torch() -> None:
    modules = [module for module in FILES if module.startswith("plots")]
    modules += ["bench.store", "bench.cli", "bench.outcomes"]
    code = f"import sys, {', '.join(modules)}; "
    code += "bench.cli.main(['ls', 'metrics']); bench.cli.main(['ls', 'matrices']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


@pytest.mark.parametrize("name", ["fedavg", "baffle"])
def test_the_code_hash_covers_every_module_a_cell_computes_with(name: str) -> None:
    starts = {"bench.federated", "bench.metering", "bench.record", f"baselines.{name}"}
    reached = set[str]().union(*map(reachable, starts)) - WORDLESS - {f"baselines.{name}"}
    through_the_facade = reachable("bench.api") - set[str]().union(*map(reachable, starts - {f"baselines.{name}"}))
    assert reached - through_the_facade <= set(computing_modules(FILES[f"baselines.{name}"]))


def test_the_code_hash_follows_a_name_through_the_facade_and_nothing_else() -> None:
    modules = {name: computing_modules(FILES[f"baselines.{name}"]) for name in ("fedavg", "baffle")}
    assert "bench.bp_free" in modules["baffle"]
    assert "bench.bp_free" not in modules["fedavg"]

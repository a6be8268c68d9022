"""The import table: who may know whom, one way, read from the syntax trees of every shipped file."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from fedfore.cli.listings import LISTS
from fedfore.records.code_hash import WORDLESS, code_sha256, computing_modules
from fedfore.records.sources import BESIDE, ROOT, SUITE
from tests.synthetic import cells, write_run

PACKAGES = {"bench": "fedfore", **{name: f"fedfore.{name}" for name in BESIDE}}

VOCABULARY = ("fedfore.errors", "fedfore.cell", "fedfore.streams", "fedfore.masks")
BELOW_CONTRACT = (*VOCABULARY, "fedfore.records.*", "fedfore.primitives.*")
BELOW_FEDERATION = (*BELOW_CONTRACT, "fedfore.contract.*", "fedfore.tasks.*", "fedfore.measure.*")

# Room (a pattern of modules) -> what it may import beside itself, also inside a function. Everything else is forbidden.
ROOMS: dict[str, tuple[str, ...]] = {
    "fedfore": ("fedfore.python.*", "fedfore.errors"),
    "fedfore.matrices": (),
    "fedfore.errors": (),
    "fedfore.cell": ("fedfore.errors",),
    "fedfore.streams": (),
    "fedfore.masks": ("fedfore.errors",),
    "fedfore.records*": ("fedfore.errors", "fedfore.cell"),
    "fedfore.judgement*": ("fedfore.records.*", "fedfore.errors", "fedfore.cell"),
    "fedfore.primitives*": VOCABULARY,
    "fedfore.contract*": BELOW_CONTRACT,
    "fedfore.api": (*BELOW_FEDERATION, "fedfore.federation.*"),
    "fedfore.tasks*": BELOW_CONTRACT,
    "fedfore.measure*": (*BELOW_CONTRACT, "fedfore.contract.*", "fedfore.tasks.*"),
    "fedfore.federation*": BELOW_FEDERATION,
    "fedfore.execution*": (*BELOW_FEDERATION, "fedfore.federation.*", "fedfore.judgement.*", "fedfore.matrices"),
    "fedfore.display*": ("fedfore.execution.*", "fedfore.records.*", "fedfore.cell", "fedfore.errors"),
    "fedfore.python*": (
        "fedfore.display.*",
        "fedfore.contract.*",
        "fedfore.execution.*",
        "fedfore.plots.*",
        "fedfore.records.*",
        "fedfore.errors",
    ),
    "fedfore.cli*": ("fedfore.*",),
    "fedfore.docs*": ("fedfore.*",),
    "fedfore.methods*": ("fedfore.api", "fedfore.primitives.*"),
    "fedfore.baselines*": ("fedfore.api", "fedfore.primitives.*"),
    "fedfore.templates*": ("fedfore.api", "fedfore.primitives.*"),
    "fedfore.plots*": ("fedfore.judgement.*", "fedfore.records.*", "fedfore.errors", "fedfore.cell"),
}
MOST_IN_ONE_FOLDER = 10


def module_name(file: Path) -> str:
    folder, *rest = file.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *rest]).removesuffix(".__init__")


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
    return frozenset(name for name in found if name.split(".")[0] == SUITE)


def room_of(module: str) -> str | None:
    """Return the pattern of the room that `module` is in, the longest that fits."""
    return max((key for key in ROOMS if fnmatchcase(module, key)), key=len, default=None)


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
def test_a_room_imports_only_what_stands_below_it(module: str) -> None:
    room = room_of(module)
    assert room is not None, f"{module} is in no room; put it into one, or say in ROOMS what a new one may import."
    allowed = (room, *ROOMS[room])
    odd = sorted(name for name in project_imports(module) if not any(fnmatchcase(name, key) for key in allowed))
    assert not odd, f"{module} imports {odd[0]}, which {room} may not."


def test_every_room_has_a_module() -> None:
    assert [key for key in ROOMS if not any(fnmatchcase(module, key) for module in FILES)] == []


def test_few_modules_stand_outside_of_the_rooms() -> None:
    assert len(list((ROOT / "bench").glob("*.py"))) <= MOST_IN_ONE_FOLDER


def test_what_installs_is_one_package_with_every_folder() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(module for module, file in FILES.items() if file.name == "__init__.py")


@pytest.mark.parametrize("folder", PACKAGES)
def test_a_folder_imported_by_its_bare_name_ends_in_a_sentence(folder: str) -> None:
    command = [sys.executable, "-c", f"import {folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert PACKAGES[folder] in done.stderr.splitlines()[-1]
    with pytest.raises(ImportError, match=PACKAGES[folder]):
        importlib.import_module(folder)


def test_imports_have_no_cycle() -> None:
    TopologicalSorter({module: project_imports(module) - {module} for module in FILES}).prepare()


@pytest.mark.parametrize(("door", "open_to"), [("fedfore.cli*", "fedfore.docs*"), ("fedfore.docs*", "")])
def test_nobody_imports_the_command_line_but_the_pages_that_describe_it(door: str, open_to: str) -> None:
    outside = [module for module in FILES if not (fnmatchcase(module, door) or fnmatchcase(module, open_to))]
    assert [m for m in outside if any(fnmatchcase(name, door) for name in project_imports(m))] == []


def leaves_by_printing_or_exiting(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in ("print", "exit", "quit", "SystemExit")
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return (node.value.id, node.attr) in {("sys", "exit"), ("os", "_exit"), ("sys", "stdout"), ("sys", "stderr")}
    return False


def test_only_the_command_line_and_what_it_shows_print_or_exit() -> None:
    found = {module for module in FILES for _, node in functions(module) if leaves_by_printing_or_exiting(node)}
    assert found and {module.rpartition(".")[0] for module in found} <= {
        "fedfore.cli",
        "fedfore.cli.verbs",
        "fedfore.display",
    }


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
    ("fedfore.execution.worker", "run_job"): "one cell may fail, and the matrix goes on",
    (
        "fedfore.contract.border",
        "plugin_border",
    ): "a plug-in may raise anything, and other methods are looked at all the same",
    ("fedfore.contract.border", "unchanged_process"): "what was changed is undone first, and what was raised goes on",
    ("fedfore.contract.border", "words"): "an exception of others may be unable to say what it is",
    ("fedfore.contract.config", "validated"): "the Config of a plug-in may raise anything of a value",
    ("fedfore.federation.observers.kernels", "_observed"): "the kernel observes the cell, and must not end it",
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


@pytest.mark.thorough
def test_reading_records_and_drawing_them_never_imports_torch() -> None:
    modules = [module for module in FILES if module.startswith("fedfore.plots")]
    modules += ["fedfore.records.store", "fedfore.cli.main", "fedfore.display.outcomes"]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.thorough
def test_listing_and_watching_never_import_torch_or_pandas_and_showing_never_torch(tmp_path: Path) -> None:
    write_run(tmp_path, cells(seeds=[0]))
    lists = [*(["ls", what] for what in LISTS if what != "methods"), ["status", str(tmp_path)]]
    code = f"""
import contextlib, sys
from fedfore.cli.main import main
with contextlib.suppress(SystemExit):
    main(["--help"])
print([main(words) for words in {lists}], {{"torch", "pandas"}} & set(sys.modules))
print([main(words) for words in (["show", {str(tmp_path)!r}], ["data", "get", "digits"])], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"\n{[0] * len(lists)} set()\n" in done.stdout and done.stdout.endswith("\n[0, 0] False\n")


@pytest.mark.thorough
def test_what_a_worker_imports_is_torch_and_no_other_heavy_library() -> None:
    code = "import sys, fedfore.execution.worker; print({'pandas', 'scipy', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.thorough
def test_the_server_of_cells_has_imported_what_torch_imports_at_the_first_step_of_training() -> None:
    code = """
import sys, torch, fedfore.execution.executors.warm_server
from importlib import import_module
from multiprocessing import forkserver
for name in forkserver._forkserver._preload_modules:
    import_module(name)
before = set(sys.modules)
weights = torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([weights], 0.1, momentum=0.9)
weights.sum().backward()
optimizer.step()
torch.autograd.grad((weights * weights).sum(), weights)
print(len(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10


@pytest.mark.parametrize("name", ["fedavg", "baffle"])
def test_the_code_hash_covers_every_module_a_cell_computes_with(name: str) -> None:
    starts = {
        "fedfore.federation.assembly",
        "fedfore.execution.metering",
        f"fedfore.baselines.{name}",
        *(module for module in FILES if fnmatchcase(module, "fedfore.tasks.architectures.*")),
    }
    reached = set[str]().union(*map(reachable, starts)) - WORDLESS - {f"fedfore.baselines.{name}"}
    through_the_facade = reachable("fedfore.api") - set[str]().union(
        *map(reachable, starts - {f"fedfore.baselines.{name}"})
    )
    assert reached - through_the_facade <= set(computing_modules(FILES[f"fedfore.baselines.{name}"]))


def test_the_code_hash_follows_a_name_through_the_facade_and_nothing_else() -> None:
    modules = {name: computing_modules(FILES[f"fedfore.baselines.{name}"]) for name in ("fedavg", "baffle")}
    assert "fedfore.contract.bp_free" in modules["baffle"]
    assert "fedfore.contract.bp_free" not in modules["fedavg"]


COMPUTES = ("fedfore.federation.*", "fedfore.measure.*", "fedfore.tasks.*")
WORDS = ("fedfore.cli*", "fedfore.docs*", "fedfore.plots*", "fedfore.records*")
FETCHES = {"fedfore.tasks.download", "fedfore.tasks.partition_file", "fedfore.tasks.torchvision_compat"}
"""What brings files and libraries, and changes no number of theirs."""


def matching(patterns: Iterable[str]) -> set[str]:
    modules = (module for module, file in FILES.items() if file.stem != "__init__")
    return {module for module in modules if any(fnmatchcase(module, pattern) for pattern in patterns)}


def test_the_code_hash_covers_the_rooms_that_compute_and_none_that_word_or_draw() -> None:
    computing = set(computing_modules(FILES["fedfore.baselines.fedavg"]))
    assert matching(COMPUTES) - FETCHES <= computing
    assert "fedfore.execution.metering" in computing
    said_and_measured = {"fedfore.records.probes", "fedfore.records.headline"}
    assert computing & matching(WORDS) == said_and_measured, "how much is measured, and when"


CHANGES = {
    "a docstring of what computes": ("bench/federation/loop.py", '\n"""A word more."""\n', False),
    "a comment and a blank line in what computes": ("bench/measure/flops.py", "\n\n# A remark.\n", False),
    "a figure": ("plots/drawing/style.py", "\nEXTRA = 1\n", False),
    "a row of the metric table": ("bench/records/measured.py", "\nEXTRA = 1\n", False),
    "a sentence of an error": ("bench/errors.py", "\nEXTRA = 1\n", False),
    "the pool of workers": ("bench/execution/runner.py", "\nEXTRA = 1\n", False),
    "another method": ("baselines/baffle.py", "\nEXTRA = 1\n", False),
    "the loop": ("bench/federation/loop.py", "\nEXTRA = 1\n", True),
    "an observer": ("bench/federation/observers/evaluator.py", "\nEXTRA = 1\n", True),
    "the size of a probe": ("bench/records/probes.py", "\nEXTRA = 1\n", True),
    "a model": ("bench/tasks/architectures/lenet.py", "\nEXTRA = 1\n", True),
    "the method itself": ("baselines/fedavg.py", "\nEXTRA = 1\n", True),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the shipped files."""
    root = tmp_path_factory.mktemp("copy")
    for folder in PACKAGES:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_cells_stale_if_it_can_change_a_number(
    change: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedfore.records.sources.ROOT", copied)
    monkeypatch.setattr("fedfore.records.sources.PACKAGE", copied / "bench")
    name, text, is_stale = CHANGES[change]
    method, file = copied / "baselines" / "fedavg.py", copied / name
    before, kept = code_sha256(method), file.read_text()
    file.write_text(kept + text)
    assert (code_sha256(method) != before) is is_stale
    file.write_text(kept)
    assert code_sha256(method) == before


MOST_LINES, MOST_LINES_OF_A_CLASS, MOST_ARGUMENTS = 300, 170, 7


def test_modules_classes_and_argument_lists_stay_small() -> None:
    odd = [module for module, file in FILES.items() if len(file.read_text(encoding="utf-8").splitlines()) > MOST_LINES]
    for module in FILES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= MOST_LINES_OF_A_CLASS:
                odd.append(f"{module}.{node.name}")
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
                if len([name for name in names if name not in ("self", "cls")]) > MOST_ARGUMENTS:
                    odd.append(f"{module}.{node.name}")
    assert odd == []

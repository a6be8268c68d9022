"""Data sets, models, metrics and figures in folders of plug-ins and installed packages: found by syntax, imported late.

Files lie in a folder given with --plugins; an installed package has entry points of the groups `fedfore.datasets`,
`fedfore.models`, `fedfore.metrics` and `fedfore.figures`, each of a decorated function or class.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from fedfore.contract.border import plugin_border
from fedfore.contract.plugin_files import NAME, import_file, python_files
from fedfore.errors import FedForeError, PluginError, printable
from fedfore.records.declared import KINDS, WORDS, Declaration, Kind, Plugin, declarations, know, mark_of, plugin_name
from fedfore.records.derived import DERIVED
from fedfore.records.metrics import FIELDS
from fedfore.records.sources import package_folder

NAME_RULE = "a name is made of letters, digits, _ and -, and begins with no mark"


def know_plugins(folders: Sequence[Path] = ()) -> None:
    """Make known to this process what is declared in these folders and by installed packages; nothing is imported.

    What it knew before is forgotten. Raises PluginError for a missing folder, and for a name that is taken.
    """
    found: dict[tuple[Kind, str], Plugin] = {}
    shipped = {(one.kind, one.name): one.file for one in _shipped()}
    for one in (declared for folder in folders for file in python_files(folder) for declared in _declared(file)):
        plugin = Plugin(**vars(one), load=cache(partial(_load, one, partial(import_file, one.file))))
        before = found.get((one.kind, one.name))
        taken = before.file if before else shipped.get((one.kind, one.name))
        if taken is not None:
            raise PluginError(
                f'Two {WORDS[one.kind]}s are called "{one.name}": {taken} and {one.file}; rename one function.'
            )
        found[one.kind, one.name] = plugin
    for kind in KINDS:
        for point in entry_points(group=f"fedfore.{kind}s"):
            plugin = _from_point(kind, point, {**shipped, **{key: own.file for key, own in found.items()}})
            found[kind, plugin.name] = plugin
    know(found.values())


def _shipped() -> Iterator[Declaration]:
    folder = package_folder("tasks")
    for file in (folder / "datasets.py", *sorted((folder / "architectures").glob("*.py"))):
        yield from declarations(file)
    file = package_folder("records") / "metrics.py"
    yield from (Declaration("metric", name, file, "") for name in (*FIELDS, *DERIVED))


def _declared(file: Path) -> Iterator[Declaration]:
    """Yield what a file declares; nothing of one that cannot be read, which is told of as a method."""
    try:
        yield from declarations(file)
    except PluginError:
        return


def _from_point(kind: Kind, point: EntryPoint, taken: Mapping[tuple[Kind, str], Path]) -> Plugin:
    module, _, inside = point.value.partition(":")
    target = printable(point.value)
    file = _module_file(module)
    if (kind, point.name) in taken:
        problem = (
            f'The entry point "{printable(point.name)}" of {target} is not used: {taken[kind, point.name]} has that '
            "name; rename the entry point."
        )
        return Plugin(kind, target, file, problem, load=partial(_refuse, problem))
    summary = next((one.summary for one in _declared(file) if (one.kind, one.name) == (kind, inside)), target)
    declared = Declaration(kind, printable(point.name), file, summary)
    return Plugin(
        **vars(declared), load=cache(partial(_load, declared, lambda: importlib.import_module(module), inside))
    )


def _refuse(problem: str) -> Any:
    raise PluginError(problem)


def _module_file(module: str) -> Path:
    """Return the file of an installed module without importing anything, or its name where there is none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    folders = [Path(place).joinpath(*rest) for place in (spec.submodule_search_locations or ())] if spec else []
    files = [Path(spec.origin)] if spec and spec.origin and not rest else []
    files += [file for place in folders for file in (place.with_suffix(".py"), place / "__init__.py")]
    return next((file for file in files if file.is_file()), Path(module))


def _load(declared: Declaration, imported: Callable[[], Any], inside: str | None = None) -> Any:
    """Return what the decorator of a declaration describes. Raises PluginError in one sentence where it cannot."""
    kind, name = declared.kind, declared.name
    try:
        if not NAME.fullmatch(name):
            raise PluginError(NAME_RULE)
        with plugin_border(name, declared.file):
            thing = _thing(imported(), kind, inside or name)
            mark = mark_of(thing)
            if mark is None or mark.kind != kind:
                raise PluginError(f"{inside or name} is not under the decorator of fedfore {WORDS[kind]}s")
            return mark.describe(name, _bordered(thing, kind, name, declared.file))
    except FedForeError as error:
        reason = str(error).removesuffix(".")
        place = "" if str(declared.file) in reason else f" ({printable(str(declared.file))})"
        end = "" if reason.endswith("?") else "."
        raise PluginError(f'The {WORDS[kind]} "{name}" cannot be used{place}: {reason}{end}') from None


def _thing(module: Any, kind: Kind, name: str) -> Any:
    """Return what a module declares under the name of a plug-in, or has under the name that an entry point gives."""
    for own, thing in vars(module).items():
        mark = mark_of(thing)
        if mark is not None and mark.kind == kind and name in (own, plugin_name(own)):
            return thing
    return getattr(module, name)


def _bordered(thing: Any, kind: Kind, name: str, file: Path) -> Any:
    """Return a function whose exceptions are PluginErrors in one sentence; a class is as it is."""
    if inspect.isclass(thing):
        return thing

    @functools.wraps(thing)
    def called(*arguments: Any, **options: Any) -> Any:
        try:
            with plugin_border(name, file):
                return thing(*arguments, **options)
        except PluginError as error:
            raise PluginError(f'The {WORDS[kind]} "{name}" fails: {str(error).removesuffix(".")}.') from error

    return called

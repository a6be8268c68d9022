"""What a plug-in file declares, beside methods: data sets, models, metrics and figures. No torch.

One idea for all kinds: a function or class stands under the decorator of its kind, which says what the suite has to
know of it before it is used; its name is the plug-in's. What ships with the suite is declared in the same way.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from fedfore.records.sources import SUITE, tree, version

Kind = Literal["dataset", "model", "metric", "figure"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: Mapping[Kind, str] = {"dataset": "data set", "model": "model", "metric": "metric", "figure": "figure"}
Thing = TypeVar("Thing", bound=Callable[..., Any])
_MARK = "__fedfore__"


@dataclass(frozen=True)
class Mark:
    """What a decorator leaves on a function or class: its kind, and what describes it under a name."""

    kind: Kind
    describe: Callable[[str, Any], Any]


@dataclass(frozen=True)
class Declaration:
    """What the syntax of a file says of a function or class under one of the decorators; `summary` is one line."""

    kind: Kind
    name: str
    file: Path
    summary: str


@dataclass(frozen=True)
class Plugin(Declaration):
    """A declaration outside of the suite.

    `load` imports its file and returns what its decorator describes; it raises PluginError, in one sentence, where that
    cannot be used.
    """

    load: Callable[[], Any]

    @property
    def key(self) -> str:
        """Its name among plug-ins of all kinds, of which no method has one: `dataset NAME`."""
        return f"{self.kind} {self.name}"


def marked(kind: Kind, thing: Thing, describe: Callable[[str, Any], Any]) -> Thing:
    """Return a function or class as it is, now declared as one of this kind."""
    setattr(thing, _MARK, Mark(kind, describe))
    return thing


def described(thing: Callable[..., Any]) -> Any:
    """Return what the decorator of a function or class describes."""
    mark = mark_of(thing)
    assert mark is not None, "it is under a decorator"
    return mark.describe(plugin_name(thing.__name__), thing)


def mark_of(thing: object) -> Mark | None:
    """Return the mark that a decorator left on this very object, or None."""
    found = getattr(thing, "__dict__", {}).get(_MARK)
    return found if isinstance(found, Mark) else None


def declarations(file: Path) -> Iterator[Declaration]:
    """Yield what a file declares, by its syntax alone. Raises PluginError for a file that cannot be read."""
    statements = tree(file, version(file)).body
    names = {name: kind for node in statements for name, kind in _imported(node)}
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                kind = _kind(called, names)
                if kind is not None:
                    yield Declaration(kind, plugin_name(node.name), file, _summary(node))


def plugin_name(own: str) -> str:
    """Return the name of a plug-in by that of its function or class: `WeightNorm` is `weight_norm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", own).lower() if own[:1].isupper() else own


def _summary(node: ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _imported(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield each name that a statement imports from the suite, and what it is called there; "" is a module."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == SUITE:
        yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
        own = (alias for alias in node.names if alias.name.partition(".")[0] == SUITE)
        yield from ((alias.asname or SUITE, "") for alias in own)


def _kind(called: ast.expr, names: Mapping[str, str]) -> Kind | None:
    parts = ast.unparse(called).split(".")
    word = parts[-1] if len(parts) > 1 and parts[0] in names else names.get(parts[0])
    return next((kind for kind in KINDS if kind == word), None)


_known: dict[Kind, dict[str, Plugin]] = {kind: {} for kind in KINDS}


def know(plugins: Iterable[Plugin]) -> None:
    """Make these the plug-ins that this process knows by name, in place of those of before."""
    for found in _known.values():
        found.clear()
    for plugin in plugins:
        _known[plugin.kind][plugin.name] = plugin


def known(kind: Kind) -> Mapping[str, Plugin]:
    """Return the plug-ins of a kind that this process knows, by name."""
    return _known[kind]

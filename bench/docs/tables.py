"""The generated parts of the reference pages, by the name that stands in a page's marker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from fedfore.cell import Cell, Protocol
from fedfore.cli.keys import KeyDoc, documented, shown
from fedfore.cli.listings import listing
from fedfore.cli.verbs import VERBS
from fedfore.contract.method import Method
from fedfore.contract.registry import MethodEntry, discover
from fedfore.docs import error_rates
from fedfore.execution.document import AXES, REQUIRED_AXES
from fedfore.execution.matrix import DEFAULT_ESTIMATOR
from fedfore.execution.tune_table import Tune
from fedfore.judgement.contrasts import Contrast
from fedfore.records.markup import markdown
from fedfore.records.metrics import FIELDS, SHIPPED

_SIDES = {"Cell": "planning", "ServerContext": "server", "ClientContext": "device", "Context": "device"}
"""For whom a hook is called, by the argument that tells it; the others are asked by the harness itself."""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown(pd.DataFrame(rows, columns=list(titles)))


def _axes() -> str:
    """Return the axes of a matrix."""
    said = {key.name: key for key in documented(Cell)}
    plain = {"estimator": shown(DEFAULT_ESTIMATOR), **dict.fromkeys(REQUIRED_AXES, "required")}
    return _keys(KeyDoc(**{**vars(said[axis]), "default": plain.get(axis, said[axis].default)}) for axis in AXES)


def _keys(keys: Iterable[KeyDoc]) -> str:
    return _table(
        ["key", "values", "default", "what it is"],
        [[f"`{key.name}`", key.values, key.default, key.text] for key in keys],
    )


def _methods() -> str:
    """Return the methods that ship, with the keys that each has."""
    rows = []
    for entry in _shipped():
        axes = ", ".join(sorted(entry.method.uses)) if entry.method else ""
        owners = dict.fromkeys(key.owner for key in _keys_of(entry))
        links = ", ".join(f"[{_title(kind)}](#{_title(kind).lower()})" for kind in owners)
        changed = ", ".join(f"`{name} = {value}`" for name, value in _changed(entry))
        rows.append([f"`{entry.name}`", entry.summary, axes or "-", links, changed or "-"])
    return _table(["method", "what it is", "axes", "keys", "other defaults"], rows)


def _method_keys() -> str:
    """Return a section for every class of keys: what it is, and its keys."""
    sections: dict[type, dict[str, KeyDoc]] = {}
    for entry in _shipped():
        for key in _keys_of(entry):
            own = next(found for found in documented(key.owner) if found.name == key.name)
            sections.setdefault(key.owner, {})[key.name] = own
    return "\n\n".join(
        f"### {_title(kind)}\n\n{(inspect.getdoc(kind) or '').strip()}\n\n{_keys(keys.values())}"
        for kind, keys in sections.items()
    )


def _shipped() -> Iterator[MethodEntry]:
    return (entry for entry in discover().values() if entry.role != "plugin")


def _keys_of(entry: MethodEntry) -> Iterator[KeyDoc]:
    return documented(entry.method.Config) if entry.method else iter(())


def _changed(entry: MethodEntry) -> Iterator[tuple[str, Any]]:
    """Yield the keys to which a method gives another default than the class that defines them."""
    for key in _keys_of(entry):
        plain = asdict(key.owner())[key.name]
        assert entry.method is not None
        own = asdict(entry.method.Config())[key.name]
        if own != plain:
            yield key.name, shown(own).strip("`")


def _title(kind: type) -> str:
    return kind.__name__ if kind.__name__ != "Config" else kind.__module__.rpartition(".")[2]


def _hooks() -> str:
    """Return the members of a method: what a subclass may say, for whom it is called, and what it is for."""
    rows = []
    for name, member in vars(Method).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            signature = inspect.signature(member)
            arguments = ", ".join(list(signature.parameters)[1:])
            kinds = [str(parameter.annotation) for parameter in signature.parameters.values()]
            side = next((_SIDES[kind] for kind in kinds if kind in _SIDES), "harness")
            rows.append([f"`{name}({arguments})`", side, _first_paragraph(member)])
    return _table(["hook", "called for", "what it does"], rows)


def _first_paragraph(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _metrics() -> str:
    """Return the metrics of a record."""
    return _table(
        ["field", "unit", "better", "what it is"],
        [[f"`{one.name}`", one.unit, one.direction, one.description] for one in SHIPPED.values()],
    )


def _fields() -> str:
    """Return the fields of a record that are no metrics."""
    own = [row for name, row in FIELDS.items() if name not in SHIPPED]
    return _table(["field", "type", "what it is"], [[f"`{row.name}`", row.type, row.description] for row in own])


def _verbs() -> str:
    """Return the verbs of the command."""
    return _table(["verb", "what it does"], [[f"`fedfore {name}`", verb.HELP] for name, verb in VERBS.items()])


def _listed(what: str) -> str:
    return _table(["name", "what it is"], [[f"`{name}`", text] for name, text in listing(what, ())])


TABLES: Mapping[str, Callable[[], str]] = {
    "axes": _axes,
    "protocol": lambda: _keys(documented(Protocol)),
    "tune": lambda: _keys(documented(Tune)),
    "contrast": lambda: _keys(documented(Contrast)),
    "words": error_rates.words_table,
    "equivalent": error_rates.equivalent_table,
    "leader": error_rates.leader_table,
    "intervals": error_rates.intervals_table,
    "datasets": lambda: _listed("datasets"),
    "models": lambda: _listed("models"),
    "matrices": lambda: _listed("matrices"),
    "methods": _methods,
    "method_keys": _method_keys,
    "hooks": _hooks,
    "metrics": _metrics,
    "fields": _fields,
    "verbs": _verbs,
}

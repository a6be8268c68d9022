"""What keys say of themselves: name, values in words, default, and what they mean.

Those of a dataclass have their text under each field; the options of a model are the arguments of its function.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from fedfore.cell import MOST
from fedfore.errors import ConfigError, suggestion

_KINDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}

_OPTIONS = {
    "activation": "Function after each layer.",
    "norm": "Layers of normalisation; none and standardised have none, of which the latter standardises weights.",
    "width": "Factor, above 0, of channels and hidden units.",
}
"""What the options of the models that ship mean."""


@dataclass(frozen=True)
class KeyDoc:
    """One key as a page shows it. `owner` is the class that defines it; `text` is empty where nothing is said."""

    name: str
    owner: type
    values: str
    default: str
    text: str


def documented(kind: type) -> Iterator[KeyDoc]:
    """Yield the keys of a dataclass, in its order. A key that a subclass gives another default keeps its text."""
    hints = get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        owners = [base for base in kind.__mro__ if item.name in inspect.get_annotations(base)]
        text = next((said[item.name] for said in map(_texts, owners) if item.name in said), "")
        yield KeyDoc(item.name, owners[-1], in_words(hints[item.name]), _default(item), text)


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default_factory is not dataclasses.MISSING:
        return shown(item.default_factory())
    return "required" if item.default is dataclasses.MISSING else shown(item.default)


def shown(value: object) -> str:
    """Return a default as a matrix would give it; TOML has no null, so None is an absent key."""
    return "unset" if value is None else f"`{json.dumps(value)}`"


def in_words(hint: Any) -> str:
    """Return the values that a type admits: `a`, `b`; or whole number >= 1; or number > 0 and <= 1."""
    return _words(TypeAdapter(hint).json_schema())


def _words(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_words(part) for part in schema["anyOf"] if part.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_words(schema['items'])}"
    marks = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = [f"{mark} {schema[name]:g}" for name, mark in marks if name in schema and schema[name] != MOST]
    return " ".join([_KINDS.get(schema.get("type", ""), "table"), " and ".join(bounds)]).strip()


@cache
def _texts(kind: type) -> Mapping[str, str]:
    """Return the text under each field of a class."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            text = ast.literal_eval(after.value)
            found[field.target.id] = " ".join(inspect.cleandoc(text).split())
    return found


def key_listing(name: str, plugins: Sequence[Path]) -> list[tuple[str, str]]:
    """Return each key of a method, or each option of a model, with its values, its default and what it means.

    Raises ConfigError for a name of neither, PluginError for a broken method.
    """
    from fedfore.contract.registry import discover, lookup
    from fedfore.records.declared import known
    from fedfore.tasks.model_registry import MODELS

    methods = discover(plugins)
    models = [*MODELS, *known("model")]
    if name in methods:
        keys = documented(lookup(methods, name).Config)
    elif (model := name.partition(":")[0]) in models:
        keys = _options(model)
    else:
        raise ConfigError(f'There is no method or model "{name}".{suggestion(name, [*methods, *models])}')
    return [(key.name, f"[{key.values}; {key.default}] {key.text}".replace("`", "")) for key in keys]


def _options(model: str) -> Iterator[KeyDoc]:
    from fedfore.tasks.model_registry import architecture_of

    architecture = architecture_of(model)
    for option, default in architecture.defaults.items():
        choices = architecture.choices.get(option, ())
        values = ", ".join(map(str, choices)) if choices else in_words(type(default))
        yield KeyDoc(option, type(default), values, shown(default), _OPTIONS.get(option, ""))

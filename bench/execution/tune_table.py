"""The `[tune]` table of a matrix: which keys of methods are tuned, over which values, by which trials.

    [tune]
    grid    = { lr = [1e-3, 3e-3, 1e-2], init_scale = [0.5, 1.0, 2.0] }
    grid.fedavg = { lr = [0.03, 0.1, 0.3] }   # instead, for one method
    seed    = [100, 101]
    horizon = 0.33
    keep    = 3
    at      = { alpha = "iid" }

Or `from = "study"`, which takes the choices of a published study (see `choice_files`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, Field, NonNegativeInt

from fedfore.cell import Count, Fraction
from fedfore.contract.config import validated
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.document import AXES, CHOICE, FROM, TRAIN_KEYS, axis_owner, grid_blocks, names_of
from fedfore.execution.shared_params import keys_of, spelt_out
from fedfore.judgement.choices import Grid, is_ordered
from fedfore.records.choices import Choice

FIXED = tuple(axis for axis in AXES if axis not in ("method", "seed"))
"""The axes that `at` can fix, beside those of `[train]`."""
SWITCH_OFF = "`--set tune=` leaves tuning out"


@dataclass(frozen=True)
class Tune:
    """How the series of a matrix are tuned before they are reported: the `[tune]` table."""

    grid: Mapping[str, Any]
    """The values to try, a list a key; each method tries the keys that it has. A table `grid.<method>` takes the place
    of the whole grid for that method; an empty one leaves it as it is.
    """
    seed: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
    """Seeds of the trials, none of which is reported."""
    horizon: Fraction = 0.33
    """Share of the budget for which the whole grid is tried; 1 leaves no second step."""
    keep: Count = 3
    """Points of each series that are tried again at the whole budget."""
    at: Mapping[str, Any] = field(default_factory=dict)
    """Values that axes have while tuning; the choice holds for their other values too."""

    __pydantic_config__ = ConfigDict(extra="forbid")


def parsed_tune(table: Any, methods: Mapping[str, MethodEntry]) -> Tune:
    """Return a `[tune]` table with its grids and with `at` as axes. Raises ConfigError for one that cannot be used."""
    if not isinstance(table, Mapping):
        raise ConfigError("[tune] must be a table.")
    for key in ("grid", "seed"):
        if key not in table:
            raise ConfigError(f"[tune] needs {key}: {_NEEDED[key]}; or {SWITCH_OFF}.")
    tune: Tune = validated(Tune, table, "tune")
    if not tune.grid:
        raise ConfigError(f"tune.grid is empty; give a list of values for each key that is tuned ({SWITCH_OFF}).")
    for seed in tune.seed:
        if tune.seed.count(seed) > 1:
            raise ConfigError(f"tune.seed holds {seed} twice; a repeated seed adds nothing, so give it once.")
    known = {key for entry in methods.values() for key in keys_of(entry.method)}
    for key, given in tune.grid.items():
        if isinstance(given, Mapping):
            own = keys_of(lookup(methods, key))
            for name, values in given.items():
                _require_key(f"tune.grid.{key}", name, own)
                _require_values(f"tune.grid.{key}.{name}", values)
        else:
            _require_key("tune.grid", key, known)
            _require_values(f"tune.grid.{key}", given)
    return Tune(tune.grid, tune.seed, tune.horizon, tune.keep, dict(_fixed(tune.at)))


_NEEDED = {"grid": "a list of values for each key that is tuned", "seed": "a list of seeds that are not reported"}


def _require_key(where: str, key: str, known: Any) -> None:
    if key not in known:
        raise ConfigError(f'{where}: there is no key "{key}" to tune.{suggestion(key, sorted(known))}')


def _require_values(where: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where} = {values!r}: give a list of the values to try.")
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{where} holds {value!r} twice; give each value once.")


def _fixed(at: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    """Return the axes that tuning fixes, those of [train] by their dotted names."""
    found = []
    for key, value in at.items():
        inner = {f"train.{name}": one for name, one in value.items()} if key == "train" else {key: value}
        found += [("estimator" if name == "train.estimator" else name, one) for name, one in inner.items()]
    for key, _ in found:
        own = key.removeprefix("train.")
        if key not in FIXED and not (key.startswith("train.") and own in TRAIN_KEYS):
            known = (*FIXED, *(f"train.{name}" for name in TRAIN_KEYS))
            raise ConfigError(f'tune.at has no axis "{key}".{suggestion(key, known)}')
    return found


def grid_of(tune: Tune, method: str, keys: Any) -> Grid:
    """Return the values that a method's keys try, those with edges in their order."""
    own = tune.grid.get(method)
    if not isinstance(own, Mapping):
        own = {key: values for key, values in tune.grid.items() if not isinstance(values, Mapping) and key in keys}
    return {key: tuple(sorted(values) if is_ordered(values) else values) for key, values in own.items()}


def lacks_keys(tune: Tune, method: str, keys: Any) -> bool:
    """Return whether a method lacks a key of the shared grid, and has no grid of its own."""
    shared = [key for key, values in tune.grid.items() if not isinstance(values, Mapping)]
    return method not in tune.grid and any(key not in keys for key in shared)


def require_free(document: Mapping[str, Any], methods: Mapping[str, MethodEntry], tuned: Mapping[str, Any]) -> None:
    """Raise ConfigError where `[params]` or an axis sets a key that is tuned; `tuned` are the keys by method."""
    spelt = spelt_out(document, methods)
    for name, keys in tuned.items():
        axes = {axis for block in grid_blocks(spelt) if name in names_of(block) for axis in block}
        for key in keys:
            set_by = "[params]" if key in spelt["params"].get(name, {}) else "an axis of [grid]"
            if set_by == "[params]" or any(axis_owner(axis) == name and axis.endswith(f".{key}") for axis in axes):
                raise ConfigError(
                    f"{set_by} sets {key} of {name}, which [tune] chooses; leave one of them out ({SWITCH_OFF})."
                )


def choices_in(table: Mapping[str, Any]) -> tuple[Choice, ...]:
    """Return the choices that stand in a `[tune]` table. Raises ConfigError for one that is none."""
    for key in table:
        if key not in (FROM, CHOICE):
            raise ConfigError(f'[tune] takes its choices {FROM} "{table[FROM]}"; leave {key} out, or {FROM}.')
    given = table.get(CHOICE, [])
    if not isinstance(given, list):
        raise ConfigError("tune.choice is a list of tables; write [[tune.choice]].")
    return tuple(_choice(number, one) for number, one in enumerate(given, 1))


def _choice(number: int, given: Any) -> Choice:
    where = f"[[tune.choice]] {number}"
    if not isinstance(given, Mapping) or not {"where", "values"} <= given.keys() <= {"where", "values", "at_edge"}:
        raise ConfigError(f"{where} needs where and values, and may have at_edge; `fedfore refresh` writes it.")
    named, values, at_edge = given["where"], given["values"], given.get("at_edge", False)
    tables = isinstance(named, Mapping) and isinstance(values, Mapping) and isinstance(at_edge, bool)
    if not tables or not isinstance(named.get("method"), str):
        raise ConfigError(f"{where}: where and values are tables, where names a method, at_edge is true or false.")
    return Choice(dict(named), dict(values), at_edge)

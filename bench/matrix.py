"""Matrix files: TOML in, validated frozen cells out.

Lists in `[grid]` are crossed and several `[[grid]]` blocks are united. A dotted key such as
"params.baffle.num_perturbations" or "train.clients" is an axis too; a method's own key multiplies only its cells.
Every error is one ConfigError sentence that names the key.
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from bench import data, models
from bench.border import plugin_border
from bench.cell import Cell, Estimator, Protocol, cell_id
from bench.contract import instantiate, make_config, validated
from bench.errors import ConfigError, FedForeError, Skip, suggestion
from bench.masks import prunable_weights
from bench.partition import parse_alpha
from bench.registry import MethodEntry, lookup

REQUIRED_AXES = ("method", "dataset", "model")
AXES = (*REQUIRED_AXES, "sparsity", "alpha", "seed", "estimator")
DEFAULT_ESTIMATOR = "directional"


@dataclass(frozen=True)
class PlannedCell:
    """A resolved cell, and the reason why its method does not apply to it, if it does not."""

    cell: Cell
    skip: str | None = None


def named_matrices() -> dict[str, Path]:
    """Return the matrices that ship with the suite, by name."""
    folder = Path(str(resources.files("bench.matrices")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_matrix(matrix: str) -> Path:
    """Return the file of a named matrix or of a path. Raises ConfigError where there is none."""
    named = named_matrices()
    if matrix in named:
        return named[matrix]
    path = Path(matrix)
    if path.is_file():
        return path
    raise ConfigError(
        f'There is no matrix file "{matrix}" and no shipped matrix of that name.{suggestion(matrix, named)}'
    )


def read_matrix(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a matrix file and apply `key=value` overrides (`--set`), the values in TOML syntax.

    An axis, or any dotted key with a list, replaces what the grid has; other keys are dotted paths into the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None
    for override in overrides:
        apply_override(document, override)
    return document


def apply_override(document: dict[str, Any], override: str) -> None:
    """Change a matrix document by one `key=value` (see `read_matrix`). Raises ConfigError for a key it cannot have."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f'--set takes key=value, got "{override}".')
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    blocks = _grid_blocks(document)
    if key in AXES or any(key in block for block in blocks) or (isinstance(value, list) and "." in key):
        for block in blocks:
            block[key] = value if isinstance(value, list) else [value]
        return
    *tables, last = key.split(".")
    if not tables:
        raise ConfigError(f'--set {override}: there is no key "{key}".{suggestion(key, (*AXES, "train.clients"))}')
    place = document
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise ConfigError(f'--set {override}: "{table}" is no table.')
    place[last] = value


def _grid_blocks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    grid = document.get("grid")
    blocks = [block for block in (grid if isinstance(grid, list) else [grid]) if isinstance(block, dict) and block]
    if not blocks:
        raise ConfigError("A matrix needs a [grid] table with lists for method, dataset and model.")
    return blocks


def resolve(document: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> list[PlannedCell]:
    """Return every distinct cell of a matrix, in the order of the file."""
    for table in document:
        if table not in ("grid", "train", "params"):
            raise ConfigError(f"A matrix has no table [{table}].{suggestion(table, ('grid', 'train', 'params'))}")
    train = _table(document, "train")
    params = _table(document, "params")
    for name, table in params.items():
        if not isinstance(table, dict):
            raise ConfigError(f"params.{name} is no table; write [params.{name}] with the method's keys.")
        make_config(lookup(methods, name), table, f"params.{name}")
    planned: dict[str, PlannedCell] = {}
    prepared: dict[tuple[str, ...], str | None] = {}
    for block in _grid_blocks(document):
        axes = {key: _axis(key, values) for key, values in block.items()}
        for axis in REQUIRED_AXES:
            if axis not in axes:
                raise ConfigError(f'[grid] has no "{axis}"; give a list of names.')
        for key, given in axes.items():
            _check_absent(key, given, axes["method"], params, methods)
        for method in axes["method"]:
            _text("method", method)
            own = {key: values for key, values in axes.items() if _applies(key, method, methods)}
            for values in itertools.product(*own.values()):
                point = {**dict(zip(own, values, strict=True)), "method": method}
                cell = _cell(point, train, params.get(method, {}), methods)
                if cell.id not in planned:
                    planned[cell.id] = PlannedCell(cell, _skip_reason(cell, methods, prepared))
    return list(planned.values())


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"[{name}] must be a table.")
    return table


def _axis(key: str, values: Any) -> list[Any]:
    if key not in AXES and "." not in key:
        known = (*AXES, "params.<method>.<key>", "train.<key>")
        raise ConfigError(f'[grid] has no axis "{key}".{suggestion(key, known)}')
    if not isinstance(values, list):
        raise ConfigError(f"grid.{key} = {values!r}: give a list of values.")
    if not values:
        raise ConfigError(f"grid.{key} is an empty list; give at least one value or leave the key out.")
    return values


def _check_absent(
    key: str, given: Sequence[Any], names: Sequence[Any], params: Mapping[str, Any], methods: Mapping[str, MethodEntry]
) -> None:
    """Validate the axis of a method that the grid does not have: like any axis it is validated, then dropped."""
    table, _, rest = key.partition(".")
    owner, dot, name = rest.partition(".")
    if table == "params" and dot and owner not in names:
        for value in given:
            make_config(lookup(methods, owner), {**params.get(owner, {}), name: value}, f"params.{owner}")


def _applies(key: str, method: str, methods: Mapping[str, MethodEntry]) -> bool:
    """Return whether an axis of the grid multiplies the cells of `method`; `method` itself is handled by the caller."""
    if key == "method":
        return False
    if key in AXES:
        return True
    table, _, rest = key.partition(".")
    if table == "train":
        return True
    owner = rest.partition(".")[0]
    if table != "params" or "." not in rest:
        raise ConfigError(f'[grid] has no axis "{key}"; dotted axes are "train.<key>" and "params.<method>.<key>".')
    lookup(methods, owner)
    return owner == method


def _cell(
    point: Mapping[str, Any],
    train: Mapping[str, Any],
    params: Mapping[str, Any],
    methods: Mapping[str, MethodEntry],
) -> Cell:
    method = lookup(methods, point["method"])
    train = {**train, **{k.removeprefix("train."): v for k, v in point.items() if k.startswith("train.")}}
    prefix = f"params.{point['method']}."
    params = {**params, **{k.removeprefix(prefix): v for k, v in point.items() if k.startswith(prefix)}}
    estimator = _estimator(point.get("estimator", train.pop("estimator", DEFAULT_ESTIMATOR)))
    sparsity = _sparsity(point.get("sparsity", 0.0))
    config = make_config(method, params, prefix.removesuffix("."))
    plain = Cell(
        method=point["method"],
        dataset=data.spec(_text("dataset", point["dataset"])).name,
        model=models.canonical(_text("model", point["model"])),
        train=_protocol(train, point["dataset"]),
        sparsity=sparsity if "sparsity" in method.uses else 0.0,
        alpha=parse_alpha(point.get("alpha", "iid")),
        seed=_seed(point.get("seed", 0)),
        estimator=estimator if "estimator" in method.uses else None,
        params=asdict(config),
    )
    return replace(plain, id=cell_id(plain, asdict(method.Config())))


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"grid.{key} holds {value!r}; give names as strings.")
    return value


def _estimator(value: Any) -> Any:
    known = get_args(Estimator)
    if value not in known:
        raise ConfigError(f'There is no estimator "{value}".{suggestion(str(value), known)}')
    return value


def _sparsity(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise ConfigError(f"grid.sparsity holds {value!r}; a sparsity is the fraction of zeros, in [0, 1).")
    return float(value)


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"grid.seed holds {value!r}; a seed is a whole number >= 0.")
    return value


def _protocol(train: Mapping[str, Any], dataset: str) -> Protocol:
    protocol: Protocol = validated(Protocol, train, "train")
    budgets = (protocol.data_passes is not None) + (protocol.rounds is not None)
    untrained = [name for name in ("setup_only", "meter_only") if getattr(protocol, name)]
    if len(untrained) > 1:
        raise ConfigError("[train] setup_only and meter_only exclude each other: meter_only runs no setup.")
    if untrained and budgets:
        raise ConfigError(f"[train] {untrained[0]} = true trains nothing; leave data_passes and rounds out.")
    if not untrained and budgets != 1:
        raise ConfigError("[train] needs exactly one of data_passes and rounds: the budget of every cell.")
    if protocol.augment and not data.spec(dataset).augmentable:
        raise ConfigError(f"train.augment = true does not apply to {dataset}; it is for CIFAR images.")
    return protocol


def _skip_reason(
    cell: Cell, methods: Mapping[str, MethodEntry], prepared: dict[tuple[str, ...], str | None]
) -> str | None:
    """Ask `check`, and `prepare` once for every configuration, model and sparsity, whether the method applies."""
    key = (cell.method, cell.dataset, cell.model, repr(cell.params), str(cell.sparsity > 0))
    border = partial(plugin_border, cell.method, methods[cell.method].file)
    try:
        with border():
            method = instantiate(lookup(methods, cell.method), cell.params)
            method.check(cell)
        if key not in prepared:
            spec = data.spec(cell.dataset)
            model = models.build(cell.model, spec.input_shape, spec.num_classes)
            try:
                if cell.sparsity > 0 and not prunable_weights(model):
                    raise Skip("the model has no convolution or linear layer, so there is nothing to prune")
                with border():
                    method.prepare(model)
                prepared[key] = None
            except Skip as skip:
                prepared[key] = str(skip)
    except Skip as skip:
        return str(skip)
    except FedForeError as error:
        raise ConfigError(f"{cell.id}: {error}") from None
    return prepared[key]

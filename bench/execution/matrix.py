"""What a matrix means: a document of lists in, validated frozen cells out.

Lists in `[grid]` are crossed and several `[[grid]]` blocks are united. A dotted key such as
"params.baffle.num_perturbations" or "train.clients" is an axis too; a method's own key multiplies only its cells.
Every error is one ConfigError sentence that names the key.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fedfore.cell import Cell, Estimator, Protocol, cell_id
from fedfore.contract.config import validated
from fedfore.contract.instance import default_params, make_config
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.data_names import know_data
from fedfore.execution.document import AXES, BUDGETS, REQUIRED_AXES, axis_owner, check_document, grid_blocks
from fedfore.execution.planning import Planning
from fedfore.execution.shared_params import spelt_out
from fedfore.judgement.contrasts import contrasts, controls
from fedfore.tasks import models
from fedfore.tasks.datasets import spec
from fedfore.tasks.heterogeneity import parse_alpha

DEFAULT_ESTIMATOR = "directional"


@dataclass(frozen=True)
class PlannedCell:
    """A resolved cell, and the reason why its method does not apply to it, if it does not."""

    cell: Cell
    skip: str | None = None


def resolve(document: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> list[PlannedCell]:
    """Return every distinct cell that a matrix asks to report, in the order of the file.

    Keys that it tunes have their defaults: `tuning.Staging` plans its trials, and what is reported by their choices.
    """
    check_document(document)
    contrasts(document)
    controls(document)
    know_data(document)
    document = spelt_out(document, methods)
    train, params = _table(document, "train"), document["params"]
    for name, table in params.items():
        make_config(lookup(methods, name), table, f"params.{name}")
    planned: dict[str, PlannedCell] = {}
    planning = Planning(methods)
    for block in grid_blocks(document):
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
                    planned[cell.id] = PlannedCell(cell, planning.skip_reason(cell))
    return list(planned.values())


def changed(cell: Cell, point: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> Cell:
    """Return a cell with other values of axes, of "train.<key>", of "params.<method>.<key>" or of its stage.

    A budget takes the place of the other one. Raises ConfigError for a value that the cell could not have.
    """
    own = {name: getattr(cell, name) for name in (*AXES, "stage")}
    budgets = dict.fromkeys(BUDGETS) if BUDGETS & point.keys() else {}
    estimator = cell.estimator or DEFAULT_ESTIMATOR
    return _cell({**own, "estimator": estimator, **budgets, **point}, asdict(cell.train), cell.params, methods)


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"[{name}] must be a table.")
    return table


def _axis(key: str, values: Any) -> list[Any]:
    if key not in AXES and "." not in key:
        known = (*AXES, "params.<key>", "params.<method>.<key>", "train.<key>")
        raise ConfigError(f'[grid] has no axis "{key}".{suggestion(key, known)}')
    if not isinstance(values, list):
        raise ConfigError(f"grid.{key} = {values!r}: give a list of values.")
    if not values:
        raise ConfigError(f"grid.{key} is an empty list; give at least one value or leave the key out.")
    if key == "seed":
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(f"grid.seed holds {value!r} twice; a repeated seed adds nothing, so give it once.")
    return values


def merged_entries(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every entry of a list, in a document that resolves, that means what an earlier one means."""
    spelling = {"alpha": parse_alpha, "model": models.canonical}
    for block in grid_blocks(document):
        for key, values in block.items():
            first: dict[str, Any] = {}
            for value in values:
                meant = repr(spelling.get(key, lambda same: same)(value))
                if meant in first:
                    yield f"grid.{key}: {value!r} is the same as {first[meant]!r} and was dropped."
                first.setdefault(meant, value)


def _check_absent(
    key: str, given: Sequence[Any], names: Sequence[Any], params: Mapping[str, Any], methods: Mapping[str, MethodEntry]
) -> None:
    """Raise ConfigError for the axis of a method that the grid does not have: a wrong key or value of it, or itself."""
    owner = axis_owner(key)
    if owner and owner not in names:
        for value in given:
            make_config(
                lookup(methods, owner), {**params.get(owner, {}), key.split(".", 2)[2]: value}, f"params.{owner}"
            )
        raise ConfigError(f'grid."{key}" is of no method of its grid; add "{owner}" to method, or leave the axis out.')


def _applies(key: str, method: str, methods: Mapping[str, MethodEntry]) -> bool:
    """Return whether an axis of the grid multiplies the cells of `method`; `method` itself is handled by the caller."""
    if key == "method":
        return False
    if key in AXES or key.startswith("train."):
        return True
    owner = axis_owner(key)
    if not owner:
        raise ConfigError(
            f'[grid] has no axis "{key}"; dotted axes are "train.<key>", "params.<key>" and "params.<method>.<key>".'
        )
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
        dataset=spec(_text("dataset", point["dataset"])).name,
        model=models.canonical(_text("model", point["model"])),
        train=_protocol(train, point["dataset"]),
        sparsity=sparsity if "sparsity" in method.uses else 0.0,
        alpha=parse_alpha(point.get("alpha", "iid")),
        seed=_seed(point.get("seed", 0)),
        estimator=estimator if "estimator" in method.uses else None,
        params=asdict(config),
        stage=point.get("stage", "report"),
    )
    return replace(plain, id=cell_id(plain, default_params(method.Config)))


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


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _seed(value: Any) -> int:
    if not _is_seed(value):
        raise ConfigError(f"grid.seed holds {value!r}; a seed is a whole number >= 0, of at most 63 bits.")
    return value


def _protocol(train: Mapping[str, Any], dataset: str) -> Protocol:
    split_seed = train.get("split_seed")
    if split_seed is not None and not _is_seed(split_seed):
        raise ConfigError(
            f"train.split_seed = {split_seed!r}; give a whole number >= 0, or `train.split_seed=` to unset it."
        )
    protocol: Protocol = validated(Protocol, train, "train")
    budgets = (protocol.data_passes is not None) + (protocol.rounds is not None)
    untrained = [name for name in ("setup_only", "meter_only") if getattr(protocol, name)]
    if len(untrained) > 1:
        raise ConfigError("[train] setup_only and meter_only exclude each other: meter_only runs no setup.")
    if untrained and budgets:
        raise ConfigError(f"[train] {untrained[0]} = true trains nothing; leave data_passes and rounds out.")
    if not untrained and budgets != 1:
        raise ConfigError("[train] needs exactly one of data_passes and rounds: the budget of every cell.")
    if protocol.augment and not spec(dataset).augmentable:
        raise ConfigError(f"train.augment = true does not apply to {dataset}; it is for CIFAR images.")
    return protocol

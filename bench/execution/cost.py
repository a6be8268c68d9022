"""What cells would cost a device: at ERK layer densities, or one at those that a stored cell ended with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedfore.cell import Cell, cell_to_json
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, FedForeError, Skip, StoreError
from fedfore.execution.data_names import with_data
from fedfore.execution.document import grid_blocks
from fedfore.execution.executors.machine import within_free_memory
from fedfore.execution.matrix import resolve
from fedfore.execution.metering import metered_fields
from fedfore.execution.overrides import apply_override
from fedfore.execution.shared_params import spelt_out
from fedfore.records.store import LAYERS, Run, identity, is_volatile, open_run
from fedfore.tasks.files import data_root

UNSTORED = ("train.meter_only", "train.batch_size")
"""Settings of the metered cell that say nothing of the stored one."""
OPTIONS = {"alpha": "--alpha", "seed": "--seed"}


@dataclass(frozen=True)
class Point:
    """The setting whose cost is asked for: axes of a matrix, and `batch`, the examples of a batch.

    `alpha`, where it is not None, and `seed` are those of a stored mask.
    """

    dataset: str = "cifar10"
    methods: tuple[str, ...] = ("fedavg",)
    sparsity: float = 0.0
    batch: int = 32
    alpha: str | float | None = None
    seed: int = 0


def cost_document(
    model: str, point: Point, overrides: Sequence[str] = (), data_dir: Path | None = None
) -> dict[str, Any]:
    """Return the matrix of cells that are metered alone, one a method.

    Of arrays of one's own the shape is read in the data folder. Raises ConfigError as `apply_override` and `with_data`
    do.
    """
    grid = {
        "model": [model], "dataset": [point.dataset], "method": [*point.methods], "sparsity": [point.sparsity],
        "seed": [point.seed], **({} if point.alpha is None else {"alpha": [point.alpha]}),
    }  # fmt: skip
    document: dict[str, Any] = {"grid": grid, "train": {"meter_only": True, "batch_size": point.batch}}
    for override in overrides:
        apply_override(document, override)
    return with_data(document, data_root(data_dir))


def cost_record(
    document: Mapping[str, Any], methods: Mapping[str, MethodEntry], run: Path | None = None
) -> dict[str, Any]:
    """Return the fields of a record that need no training, of the one cell of a matrix; `run` holds its mask.

    Raises ConfigError unless the document makes one cell to which its method applies and whose step this machine can
    hold, StoreError as `layer_densities` does.
    """
    planned = resolve(document, methods)
    if len(planned) != 1:
        raise ConfigError(f"fedfore cost is of one cell and these settings make {len(planned)}; give one value each.")
    cell = planned[0].cell
    if planned[0].skip:
        raise ConfigError(f"{cell.method} does not apply: {planned[0].skip}.")
    given = _given(spelt_out(document, methods), cell.method)
    densities = layer_densities(open_run(run), cell, given) if run else None
    return _metered(cell, methods, densities)


def cost_records(
    document: Mapping[str, Any],
    methods: Mapping[str, MethodEntry],
    begun: Callable[[str], object] = lambda _: None,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the fields of a record that need no training, of each cell of a matrix, and why others have none.

    The reasons are by method, in one clause each; `begun` is told which method is metered. Raises ConfigError as
    `resolve` does.
    """
    found: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    for item in resolve(document, methods):
        begun(item.cell.method)
        try:
            if item.skip:
                reasons[item.cell.method] = item.skip
            else:
                found.append(_metered(item.cell, methods))
        except (FedForeError, Skip) as error:
            reasons[item.cell.method] = str(error)
    return found, reasons


def _metered(
    cell: Cell, methods: Mapping[str, MethodEntry], densities: Mapping[str, float] | None = None
) -> dict[str, Any]:
    try:
        with within_free_memory():
            metered = metered_fields(cell, lookup(methods, cell.method), torch.device("cpu"), densities)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ConfigError(
            f"This machine has too little memory for a step of {cell.method} on {cell.model} at batch "
            f"{cell.train.batch_size}, which the meters run; give a smaller --batch."
        ) from None
    return {**identity(cell), **{name: value for name, value in metered.items() if not is_volatile(name)}}


def _given(document: Mapping[str, Any], method: str) -> list[str]:
    """Return the fields of a cell that a document states, `train.*` and `params.*` among them."""
    train = [f"train.{key}" for key in document.get("train", {})]
    params = [f"params.{key}" for key in document.get("params", {}).get(method, {})]
    (block,) = grid_blocks(document)
    axes = [key.replace(f"params.{method}.", "params.") for key in block]
    return [key for key in (*axes, *train, *params) if key not in UNSTORED]


def layer_densities(run: Run, like: Cell, given: Iterable[str]) -> dict[str, float]:
    """Return the density of every prunable layer at the end of the finished cells of a run that are like this one.

    `given` names the fields in which they are like it: those of a cell, `train.<key>` and `params.<key>`. Raises
    StoreError where no cell is like it, or some are whose densities differ.
    """
    wanted = _fields(like)
    found = {cell.id: _fields(cell) for cell in run.plan() if (record := run.found(cell.id)) and record.status == "ok"}
    for key in given:
        alike = {name: fields for name, fields in found.items() if fields.get(key) == wanted[key]}
        if not alike:
            has = _listed(fields.get(key) for fields in found.values())
            raise StoreError(
                f"{run.path} holds no finished cell of {key} {wanted[key]}"
                + (f" like this one; it has {has}." if found else "; see `fedfore show`.")
            )
        found = alike
    stored: dict[str, dict[str, float]] = {}
    for name in found:
        lines = run.table_of_lines(name, LAYERS)
        if len(lines):
            stored[name] = dict(zip(lines["layer"], lines["kept"] / lines["size"], strict=True))
    if not stored:
        raise StoreError(f"{run.path} holds cells like this one and no layer densities of theirs: they had no mask.")
    if len({json.dumps(densities) for densities in stored.values()}) > 1:
        raise StoreError(_ambiguous(run.path, like, [found[name] for name in stored]))
    return next(iter(stored.values()))


def _ambiguous(run: Path, like: Cell, cells: list[dict[str, Any]]) -> str:
    differing = {key: _listed(cell.get(key) for cell in cells) for key in cells[0]}
    choices = [f"{key} ({values})" for key, values in differing.items() if ", " in values]
    options = [
        OPTIONS.get(key, f"--set {key.replace('params.', f'params.{like.method}.')}=")
        for key, values in differing.items()
        if ", " in values
    ]
    return (
        f"{run} holds {len(cells)} cells like this one whose layer densities differ; they differ in "
        f"{', '.join(choices)}: choose with {' or '.join(options)}."
    )


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _fields(cell: Cell) -> dict[str, Any]:
    """Return the identity of a cell as one flat dict of JSON values."""
    plain = json.loads(json.dumps(cell_to_json(cell)))
    nested = {f"{group}.{key}": value for group in ("train", "params") for key, value in plain.pop(group).items()}
    del plain["id"]
    return {**plain, **nested}

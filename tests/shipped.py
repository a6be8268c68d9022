"""Runs of the matrices that ship, with the cells that they plan and made-up numbers in all that figures read."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fedfore.cell import Cell
from fedfore.contract.registry import discover
from fedfore.execution.matrix_file import find_matrix, read_matrix
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.masks import prunable_weights
from fedfore.records.lines import CLIENTS, DIAGNOSTICS
from fedfore.records.metrics import MEASURED
from fedfore.records.migration import CLASSES
from fedfore.records.plan_file import write_plan
from fedfore.records.store import LAYERS
from fedfore.tasks import models
from fedfore.tasks.datasets import spec
from tests.synthetic import accuracy, write_lines, write_run

MOMENTS = (0.0, 0.1, 1.0)
DISTANCES = ("layer_density_l1", "target_layer_density_l1", "mask_iou")
NULLS = ("", "_null")
METHODS = discover()
CLIENTS_SHOWN = 10
FAILING = 37
"""Of so many cells one diverges."""


def write_shipped(run: Path, matrix: str) -> None:
    """Write a run of a matrix that ships: its plan, tuned where it tunes, and a record of each cell to be reported."""
    file = find_matrix(matrix)
    plan = _tuned(read_matrix(file))
    cells = [item.cell for item in plan.cells if item.cell.stage == "report"]
    write_run(run, cells, _outcome, change=_measured)
    (run / "plan.json").unlink()
    write_plan(run, cells, f"fedfore run {matrix}", extend=False, tuning=plan.tuning)
    (run / "matrix.toml").write_bytes(file.read_bytes())
    for cell in cells:
        for name, lines in _lines(cell) if _outcome(cell) == "ok" else ():
            write_lines(run, cell, name, list(lines))


def _tuned(document: Mapping[str, Any]) -> StagedPlan:
    """Return the plan of a matrix once its trials have ended, the better the nearer a rate is to 0.02."""
    ended: dict[str, Mapping[str, Any]] = {}
    while True:
        plan = staged_plan(document, METHODS, ended)
        left = [item.cell for item in plan.cells if item.cell.stage != "report" and item.cell.id not in ended]
        if not left:
            return plan
        for cell in left:
            far = abs(np.log10(cell.params.get("lr", 0.02) / 0.02)) + abs(np.log(cell.params.get("init_scale", 1.0)))
            ended[cell.id] = {"status": "ok", "validation_accuracy": 0.8 - 0.1 * far, "chance_accuracy": 0.1}


def _chance(cell: Cell, what: str) -> float:
    """Return a number from 0 to 1 that a cell and a word determine."""
    return zlib.crc32(f"{what} {cell.id}".encode()) / 2**32


def _outcome(cell: Cell) -> str:
    return "diverged" if _chance(cell, "outcome") < 1 / FAILING else "ok"


@cache
def _sizes(dataset: str, model: str) -> Mapping[str, int]:
    """Return the number of weights of each prunable layer."""
    described = spec(dataset)
    outline = models.outline(model, described.input_shape, described.num_classes)
    return {name: weight.numel() for name, weight in prunable_weights(outline).items()}


def _measured(cell: Cell) -> dict[str, Any]:
    """Return the numbers of a record beside those of `record`, none of training where the cell does not train."""
    method = METHODS[cell.method].method
    uses = {"uses": sorted(method.uses) if method else []}
    size = 0.5 + zlib.crc32(cell.method.encode()) / 2**32
    costs = {
        "peak_device_bytes": int(2e6 * size * cell.train.batch_size), "device_step_flops": int(1e9 * size),
        "peak_device_bytes_setup": int(1e6 * cell.train.batch_size), "forward_macs_dense": 1_000_000,
        "forward_macs_masked": int(1e6 * (1 - cell.sparsity) * (0.9 + 0.2 * _chance(cell, "macs"))),
    }  # fmt: skip
    if cell.train.meter_only:
        return dict.fromkeys(MEASURED) | uses | costs
    kept = (1 - cell.sparsity) * (0.8 + 0.2 * _chance(cell, "kept"))
    masks = uses | {"grad_energy_kept": kept, "grad_energy_masked_point": kept, "num_prunable": 61_000}
    if cell.train.compare_masks:
        masks |= {f"{name}{null}": 0.2 + 0.3 * _chance(cell, name + null) for name in DISTANCES for null in NULLS}
        masks["mask_iou_shuffled"] = 0.1
    if cell.train.setup_only:
        return dict.fromkeys(MEASURED) | masks | costs | (_kernels(cell) if cell.train.ntk else {})
    return masks | ({} if _outcome(cell) == "diverged" else {"validation_accuracy": accuracy(cell) - 0.01})


def _kernels(cell: Cell) -> dict[str, float]:
    errors = ("ntk_mmd2", "ntk_spectrum_error", "ntk_rel_frobenius_error")
    probes = ("", "_iid", "_gaussian", "_gaussian_iid")
    return {f"{error}{probe}": 0.01 * _chance(cell, error + probe) for error in errors for probe in probes}


def _lines(cell: Cell) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """Yield the files of lines of a cell that ended well."""
    if cell.sparsity > 0 and not cell.train.meter_only:
        yield LAYERS, _layers(cell)
    if cell.train.setup_only or cell.train.meter_only:
        return
    yield CLIENTS, _clients(cell)
    if cell.estimator is not None:
        yield DIAGNOSTICS, _diagnoses(cell)


def _layers(cell: Cell) -> Iterator[dict[str, Any]]:
    sizes = _sizes(cell.dataset, cell.model)
    for place, (layer, size) in enumerate(sizes.items()):
        uneven = cell.method not in ("fedavg_erk",) and 1.5 * _chance(cell, "layers") * (place / len(sizes) - 0.5)
        kept = max(1, round(size * (1 - cell.sparsity) * (1 + float(uneven))))
        yield {"layer": layer, "size": size, "kept": kept, "forward_macs_dense": 1}


def _clients(cell: Cell) -> Iterator[dict[str, Any]]:
    classes = CLASSES[cell.dataset]
    for client in range(CLIENTS_SHOWN):
        counts = [int(100 * _chance(cell, f"{client} {label}")) for label in range(classes)]
        found = accuracy(cell) - 0.2 * _chance(cell, f"client {client}")
        yield {"client": client, "examples": sum(counts), "class_counts": counts, "test_accuracy": max(found, 0.0)}


def _diagnoses(cell: Cell) -> Iterator[dict[str, Any]]:
    """Yield diagnoses of which an error grows with sigma, and a cosine with the number of perturbations."""
    perturbed = 706 + 61_000 * (1 - cell.sparsity)
    cosine = np.sqrt(cell.params.get("num_perturbations", 1) / perturbed)
    for moment in MOMENTS:
        jitter = 0.8 + 0.4 * _chance(cell, f"{moment}")
        exact = cell.estimator == "exact"
        yield {
            "moment": moment,
            "round": 0,
            "variance_ratio": 4 * jitter,
            "fd_scalar_error": None if exact else min(1.0, 300 * cell.params.get("sigma", 1e-4) * jitter),
            "grad_cosine": None if exact else min(1.0, float(cosine) * jitter),
        }

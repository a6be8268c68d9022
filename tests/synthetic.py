"""A run directory with made-up numbers, written through the store: for tests of what reads records. No torch."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.records.code_hash import HASH_SCHEME
from fedfore.records.lines import DIAGNOSTICS, ROUNDS
from fedfore.records.metrics import PEAK_PARTS
from fedfore.records.migration import CLASSES
from fedfore.records.plan_file import write_plan
from fedfore.records.provenance import environment_hash
from fedfore.records.record import Moment, Origin, Record, Status, identity, new_record
from fedfore.records.run_folder import lines_writer, write_environment, write_record

BACKPROPAGATION = ("fedtiny", "fedmef", "fedavg", "fedavg_erk")
SPARSE = ("fed_ntk_zo", "fedtiny", "fedmef", "fedavg_erk", "my_method")
METHODS = ("fed_ntk_zo", "baffle", "fedtiny", "fedmef", "fedavg")
ENVIRONMENT = {"python": "3.12.0", "packages": {"torch": "2.13.0"}, "processor": "Some CPU", "cpus": 2}
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FINISHED = "2026-01-02T03:05:05+00:00"
LAYERS = 61_706
EVALUATIONS = 20


def cells(
    methods: Sequence[str] = METHODS,
    *,
    dataset: str = "digits",
    model: str = "lenet5",
    sparsities: Sequence[float] = (0.0, 0.5, 0.8, 0.9),
    alphas: Sequence[str | float] = ("iid", 1.0, 0.1),
    seeds: Sequence[int] = (0, 1, 2),
    num_perturbations: Sequence[int] = (100,),
) -> list[Cell]:
    """Return the cells of a small matrix; a method without the sparsity axis runs once a level of the other axes."""
    found = []
    for method, alpha, seed in itertools.product(methods, alphas, seeds):
        for sparsity, count in itertools.product(sparsities if method in SPARSE else (0.0,), num_perturbations):
            zeroth_order = method not in BACKPROPAGATION
            cell = Cell(
                method,
                dataset,
                model,
                Protocol(data_passes=30.0),
                sparsity=sparsity,
                alpha=alpha,
                seed=seed,
                estimator="directional" if zeroth_order else None,
                params={"lr": 0.05, "num_perturbations": count} if zeroth_order else {"lr": 0.1},
            )
            found.append(replace(cell, id=cell_id(cell, {})))
    return list({cell.id: cell for cell in found}.values())


def accuracy(cell: Cell) -> float:
    """Return a plausible final accuracy: worse with sparsity and skew; a seed moves all methods together."""
    own = np.random.default_rng(zlib.crc32(cell.id.encode()))
    shared = np.random.default_rng(cell.seed).normal(0.0, 0.012)
    level = {"fedavg": 0.95, "fedtiny": 0.935, "fedmef": 0.94, "fedavg_erk": 0.93, "fed_ntk_zo": 0.86}.get(
        cell.method, 0.83
    )
    skew = 0.0 if isinstance(cell.alpha, str) else 0.03 / (cell.alpha + 0.15)
    few = 0.6 / np.sqrt(cell.params.get("num_perturbations", 1e9))
    sparse = 0.12 * cell.sparsity**4 - (0.04 * cell.sparsity if cell.method == "fed_ntk_zo" else 0.0)
    return float(np.clip(level - skew - few - sparse + shared + own.normal(0.0, 0.008), 0.05, 0.99))


def bare_record(cell: Cell, **fields: Any) -> Record:
    """Return a record that says no more than it must, and these fields."""
    least = {"status": "ok", "uses": [], "files": [], "hash_scheme": HASH_SCHEME}
    return Record(**{**identity(cell), **least, **fields})


def record(cell: Cell, status: Status = "ok") -> Record:
    """Return a record with every field that a run writes; metrics are null unless the status is ok.

    A diverged cell knows its costs, and nothing of what it learnt.
    """
    zeroth_order = cell.method not in BACKPROPAGATION
    values: dict[str, Any] = {"chance_accuracy": 1 / CLASSES[cell.dataset]}
    if status in ("ok", "diverged"):
        kept = LAYERS * (1 - cell.sparsity)
        count = cell.params.get("num_perturbations", 0)
        parts = [4 * LAYERS, 0 if zeroth_order else 4 * LAYERS, 180_000 if zeroth_order else 1_450_000,
                 4 * kept if zeroth_order else 0, 0, 4 * kept + (0 if cell.sparsity == 0 else LAYERS / 8)]  # fmt: skip
        values |= dict(zip(PEAK_PARTS, map(int, parts), strict=True))
        flops = 2 * 651_720 * 32 * (0.3 + 0.7 * (1 - cell.sparsity))
        up = 600 * count * 4 * 10 if zeroth_order else 150 * kept * 4 * 10
        values |= {
            "test_accuracy": accuracy(cell),
            "test_loss": 0.3,
            "data_passes": 30.0,
            "peak_device_bytes": sum(map(int, parts)),
            "device_step_flops": int(flops * (count + 1 if zeroth_order else 2.5)),
            "train_flops_total": int(flops * (count + 1 if zeroth_order else 2.5)) * 1500,
            "setup_flops_total": 0,
            "uplink_bytes": int(up),
            "downlink_bytes": int((600 if zeroth_order else 150) * kept * 4 * 10),
            "num_parameters": LAYERS,
            "sparsity_measured": cell.sparsity,
        }
    if status == "diverged":
        values |= dict.fromkeys(("test_accuracy", "test_loss", "data_passes"))
    uses = [axis for axis, meant in (("sparsity", cell.method in SPARSE), ("estimator", zeroth_order)) if meant]
    role = "method" if cell.method.startswith("fed_ntk") else "plugin" if cell.method == "my_method" else "baseline"
    origin = Origin(
        role=role,
        uses=tuple(uses),
        code_sha256=None,
        hash_scheme=HASH_SCHEME,
        git_commit="0123456789abcdef0123456789abcdef01234567",
        environment=environment_hash(ENVIRONMENT),
        attempt=1,
    )
    reason = None if status == "ok" else f"made up to be {status}"
    values |= {"method_variant": None, "uncounted_ops": "hardtanh", "evaluates_other_weights": False}
    made = new_record(cell, origin, status, reason, values, Moment(STARTED, time.monotonic()))
    return replace(made, finished_utc=FINISHED, wall_seconds=60.0)


def made_to_fail(cell: Cell) -> str:
    """Return how a cell ends, for `write_run`: of 84 cells one fails, two diverge, and three do not run."""
    point = (cell.method, cell.alpha, cell.sparsity)
    if point == ("fedmef", 0.1, 0.9):
        return "failed" if cell.seed == 0 else "diverged"
    return "missing" if point == ("fedtiny", "iid", 0.5) else "ok"


def rounds(cell: Cell) -> list[dict[str, float]]:
    """Return the evaluations of an ok cell: cumulative totals that end at the record's, accuracy that ends near it."""
    final, end = record(cell), accuracy(cell)
    noise = np.random.default_rng(cell.seed + 7).normal(0.0, 0.01, EVALUATIONS + 1)
    lines = []
    for step in range(EVALUATIONS + 1):
        share = step / EVALUATIONS
        lines.append(
            {
                "round": 30 * step,
                "data_passes": 30.0 * share,
                "uplink_bytes": int(final.uplink_bytes * share),
                "downlink_bytes": int(final.downlink_bytes * share),
                "device_flops": int(final.train_flops_total * share),
                "test_accuracy": float(np.clip(end - (end - 0.1) * np.exp(-6 * share) + noise[step], 0.0, 1.0)),
                "test_loss": 2.3 - 2 * share,
            }
        )
    return lines


def write_run(
    run: Path,
    planned: Sequence[Cell],
    outcome: Callable[[Cell], str] = lambda cell: "ok",
    *,
    change: Callable[[Cell], dict[str, Any]] = lambda cell: {},
    scalar_errors: Callable[[Cell], Sequence[float | None]] = lambda cell: (0.01, 0.01),
) -> None:
    """Write a run: `outcome` gives each cell's status ("missing" writes no record), `change` fields to overwrite.

    `scalar_errors` gives a zeroth-order cell's `fd_scalar_error` at the first and at the last milestone.
    """
    write_plan(run, planned, "fedfore run synthetic.toml --workers 2", extend=False)
    write_environment(run, ENVIRONMENT)
    for cell in planned:
        status = outcome(cell)
        if status == "missing":
            continue
        write_record(run, replace(record(cell, status), **change(cell)))
        if status == "ok":
            write_lines(run, cell, ROUNDS, rounds(cell))
        if status == "ok" and cell.estimator is not None:
            errors = zip((0.0, 1.0), scalar_errors(cell), strict=False)
            write_lines(run, cell, DIAGNOSTICS, [{"moment": at, "round": 0, "fd_scalar_error": e} for at, e in errors])


def write_lines(run: Path, cell: Cell, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the lines of a cell's file."""
    with lines_writer(run, cell.id, name) as write:
        for line in lines:
            write(line)

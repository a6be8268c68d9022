"""What a study says twice, and whether both agree: numbers that follow from a cell's lines, names that are hashes.

No torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fedfore.cell import SIMULATED, Protocol
from fedfore.records.headline import window_span, window_start
from fedfore.records.lines import ADJUSTMENTS, DIAGNOSTICS, LAYERS, LINES, ROUNDS
from fedfore.records.packed import CELLS, ENVIRONMENTS, NOTES, PackedRun
from fedfore.records.probes import HEADLINE_EVALUATIONS
from fedfore.records.provenance import environment_hash
from fedfore.records.record import Record, cell_of
from fedfore.records.run import Run

Lines = Sequence[Mapping[str, Any]]
Value = Callable[[Lines, Record], float | None]
TOLERANCE = 1e-9
"""The largest relative difference of a number that was summed in another order."""


@dataclass(frozen=True)
class Rule:
    """A field of a record, and how it follows from the lines of one file of its cell."""

    field: str
    file: str
    value: Value


def _last(name: str) -> Value:
    return lambda lines, _: lines[-1].get(name)


def _mean(name: str) -> Value:
    return lambda lines, _: _mean_of(lines, name)


def _mean_of(lines: Lines, name: str) -> float | None:
    values = [line[name] for line in lines if line.get(name) is not None]
    return float(np.mean(values)) if values else None


def _trained(lines: Lines) -> Lines:
    """Return the evaluations of a model that was trained, all where there is none."""
    return [line for line in lines if line["round"] > 0] or lines


def _spent(lines: Lines, train: Protocol) -> list[float]:
    unit = "round" if train.data_passes is None else "data_passes"
    return [line[unit] for line in lines]


def _headline(name: str) -> Value:
    """Return what gives a mean over the headline's evaluations, which in older records were the last ones."""

    def headline(lines: Lines, record: Record) -> float | None:
        trained, train = _trained(lines), cell_of(record).train
        is_old = record.test_accuracy_last5 is not None
        start = -HEADLINE_EVALUATIONS if is_old else window_start(_spent(trained, train), train.budget)
        return _mean_of(trained[start:], name)

    return headline


def _span(lines: Lines, record: Record) -> float:
    train = cell_of(record).train
    return window_span(_spent(_trained(lines), train), train.budget)


def _total(name: str) -> Value:
    return lambda lines, _: sum(line[name] for line in lines)


OVER_EVALUATIONS = (
    Rule("test_accuracy", ROUNDS, _headline("test_accuracy")),
    Rule("test_accuracy_last5", ROUNDS, _headline("test_accuracy")),
    Rule("test_accuracy_span", ROUNDS, _span),
    Rule("test_accuracy_recalibrated", ROUNDS, _headline("test_accuracy_recalibrated")),
    Rule("validation_accuracy", ROUNDS, _headline("validation_accuracy")),
    Rule("best_test_accuracy", ROUNDS, lambda lines, _: max(line["test_accuracy"] for line in _trained(lines))),
)
RULES = (
    *OVER_EVALUATIONS,
    Rule("final_test_accuracy", ROUNDS, _last("test_accuracy")),
    Rule("test_loss", ROUNDS, _last("test_loss")),
    Rule("data_passes", ROUNDS, _last("data_passes")),
    Rule("uplink_bytes", ROUNDS, _last("uplink_bytes")),
    Rule("downlink_bytes", ROUNDS, _last("downlink_bytes")),
    Rule("grad_cosine", DIAGNOSTICS, _mean("grad_cosine")),
    Rule("grad_rel_error", DIAGNOSTICS, _mean("grad_rel_error")),
    Rule("num_prunable", LAYERS, _total("size")),
    Rule("forward_macs_dense", LAYERS, _total("forward_macs_dense")),
    Rule("layer_density_min", LAYERS, lambda lines, _: min(line["kept"] / line["size"] for line in lines)),
    Rule(
        "sparsity_measured",
        LAYERS,
        lambda lines, _: 1 - sum(line["kept"] for line in lines) / sum(line["size"] for line in lines),
    ),
)


PEAK = "peak_device_bytes"
KINDS = ("parameters", "gradients", "activations", "perturbation", "optimizer", "messages")
RELATIONS: tuple[tuple[str, tuple[str, ...], Callable[[list[float]], float]], ...] = (
    ("uplink_bytes", ("uplink_bytes_setup", "uplink_bytes_train"), sum),
    ("downlink_bytes", ("downlink_bytes_setup", "downlink_bytes_train"), sum),
    (PEAK, (f"{PEAK}_setup", f"{PEAK}_train"), max),
    (PEAK, tuple(f"{PEAK}_{kind}" for kind in KINDS), sum),
)
"""Fields of a record that others of it give: the field, those others, and how."""


def line_problems(run: Run) -> Iterator[str]:
    """Yield a sentence on each number of a record that ended ok which its cell's lines do not give.

    Raises StoreError for what cannot be read.
    """
    for cell_id in run.recorded():
        record = run.found(cell_id)
        if record is None or record.status != "ok":
            continue
        for rule in RULES:
            lines, stored = run.lines(cell_id, rule.file), getattr(record, rule.field)
            given = rule.value(lines, record) if lines and stored is not None else None
            if given is not None and not _close(stored, given):
                yield (
                    f"{CELLS}: {cell_id}: {rule.field} is {stored!r}, but {rule.file} gives {given!r}; restore both."
                )


def means_given(record: Record, lines: Lines) -> dict[str, Any]:
    """Return what a record has that is taken over several evaluations, as these lines of rounds.jsonl give it.

    Over which evaluations is as in the record: an older one's means are those of the last ones.
    """
    known = (rule for rule in OVER_EVALUATIONS if getattr(record, rule.field) is not None)
    return {rule.field: rule.value(lines, record) for rule in known}


def relation_problems(run: Run) -> Iterator[str]:
    """Yield a sentence on each record that contradicts itself, and on lines that are of no cell or out of order.

    Raises StoreError for what cannot be read.
    """
    recorded = run.recorded()
    for cell_id in recorded:
        record = run.stored(cell_id) or {}
        for field, right in _related(record):
            if record.get(field) != right:
                yield f"{CELLS}: {cell_id}: {field} is {record.get(field)!r}, but its parts give {right!r}; restore it."
        for name in (ROUNDS, ADJUSTMENTS):
            rounds = [line["round"] for line in run.lines(cell_id, name)]
            for one, other in pairwise(rounds):
                if one >= other:
                    yield f"{name}: {cell_id}: round {other!r} comes after round {one!r}; restore it."
    if isinstance(run, PackedRun):
        for name in (*LINES, NOTES):
            for cell_id in sorted(set(run.cells_with_lines(name)) - set(recorded)):
                yield f"{name}: {cell_id} is no cell of {CELLS}; remove its lines, or restore both."


def _related(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a record that follow from its others, with what they give."""
    yield "simulated", record.get("estimator") in SIMULATED
    for total, parts, combined in RELATIONS:
        values = [record[name] for name in parts if record.get(name) is not None]
        if len(values) == len(parts):
            yield total, combined(values)


def environment_problems(run: Run) -> Iterator[str]:
    """Yield a sentence on each environment whose name is not its hash, and on each record that names none of them.

    Raises StoreError for what cannot be read.
    """
    environments = run.environments()
    for name, values in environments.items():
        if environment_hash(values) != name:
            yield f"{ENVIRONMENTS}: {name} is not the hash of what it says; restore the file."
    for cell_id in run.recorded():
        named = (run.stored(cell_id) or {}).get("environment")
        if named is not None and named not in environments:
            yield f"{CELLS}: {cell_id}: {ENVIRONMENTS} has no environment {named}; restore both."


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)

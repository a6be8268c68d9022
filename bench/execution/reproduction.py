"""Published cells computed again with the present code, and their numbers beside the published ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from fedfore.cell import Cell, cell_id
from fedfore.contract.instance import default_params
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError
from fedfore.judgement.repetition import planned_records
from fedfore.records.agreement import means_given
from fedfore.records.lines import ROUNDS
from fedfore.records.record import Record, cell_of
from fedfore.records.run import Run


def drawn(run: Run, count: int, seed: int) -> list[Record]:
    """Return `count` of a study's records that ended ok, drawn with this seed, each as likely as any other.

    Raises ConfigError where there are fewer, StoreError for a study that cannot be read.
    """
    ended = [record for record in planned_records(run) if record.status == "ok"]
    if count > len(ended):
        raise ConfigError(f"{run.path} has {len(ended)} cells that ended ok; --cells {count} is more than that.")
    return random.Random(seed).sample(ended, count)


def present_cell(record: Record, methods: Mapping[str, MethodEntry]) -> Cell:
    """Return the cell of a record as the present code plans it.

    Raises ConfigError where the present code has no such cell, or another one under its id.
    """
    cell = cell_of(record)
    method = lookup(methods, cell.method)
    defaults = default_params(method.Config)
    unknown = sorted(cell.params.keys() - defaults.keys())
    if unknown:
        raise ConfigError(f"{cell.id}: {cell.method} has no {', '.join(unknown)} any more; name the study's commit.")
    if cell_id(cell, defaults) != cell.id:
        raise ConfigError(f"{cell.id}: the same settings have another id now; check out the study's commit.")
    return replace(cell, params={**defaults, **cell.params})


def over_the_same_evaluations(record: Record, study: Run, again: Record, run: Run) -> Record:
    """Return the repetition of a record of an older schema with the means that it has, over the same evaluations.

    The harness evaluates more often than it did, and its means were those of the last evaluations. Raises StoreError
    for lines that cannot be read.
    """
    if record.test_accuracy_last5 is None:
        return again
    evaluated = {line["round"] for line in study.lines(record.cell_id, ROUNDS)}
    lines = [line for line in run.lines(record.cell_id, ROUNDS) if line["round"] in evaluated]
    return replace(again, **means_given(record, lines)) if lines else again

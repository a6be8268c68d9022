"""From the arguments of a command to the planned cells of its matrix."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedfore.cli.output import complain
from fedfore.errors import ConfigError, printable

if TYPE_CHECKING:
    from fedfore.contract.registry import MethodEntry
    from fedfore.execution.tuning import StagedPlan
    from fedfore.tasks.partition_file import PartitionFile


@dataclass(frozen=True)
class Matrix:
    """A matrix of a command: its file, what is in it with what the command changed, and every method by name.

    `plan` is its first: what is known before any trial has ended. `partitions` are the partition files that it names.
    """

    path: Path
    document: Mapping[str, Any]
    methods: Mapping[str, MethodEntry]
    plan: StagedPlan
    partitions: Mapping[str, PartitionFile]


def planned_matrix(options: argparse.Namespace) -> Matrix:
    """Return the matrix that a command names; say which entries were merged.

    A contrast that no planned cell answers is an error, but said where the command itself changed the matrix.
    """
    from fedfore.contract.registry import discover
    from fedfore.execution.matrix import merged_entries
    from fedfore.execution.matrix_file import find_matrix, matrix_and_partitions
    from fedfore.execution.partition_names import require_partitions
    from fedfore.execution.tuning import staged_plan
    from fedfore.judgement.contrasts import unanswered
    from fedfore.records.table import settings_table

    methods = discover(options.plugins)
    path = find_matrix(options.matrix)
    document, partitions = matrix_and_partitions(path, options.overrides, methods, options.data_dir)
    plan = staged_plan(document, methods, {})
    require_partitions([item.cell for item in plan.cells], partitions)
    for sentence in merged_entries(document):
        complain(f"fedfore: {printable(sentence)}")
    for sentence in unanswered(document, settings_table([item.cell for item in plan.asked])):
        if not options.overrides:
            raise ConfigError(sentence)
        complain(f"fedfore: not asked: {printable(sentence)}")
    return Matrix(path, document, methods, plan, partitions)

"""From a matrix that a user names or gives to its planned cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from fedfore.contract.registry import MethodEntry
from fedfore.errors import ConfigError
from fedfore.execution.given import as_document
from fedfore.execution.matrix import merged_entries
from fedfore.execution.matrix_file import changed, find_matrix, matrix_and_partitions, matrix_text
from fedfore.execution.partition_names import require_partitions
from fedfore.execution.tuning import StagedPlan, staged_plan
from fedfore.judgement.contrasts import unanswered
from fedfore.records.table import settings_table
from fedfore.tasks.partition_file import PartitionFile


@dataclass(frozen=True)
class Matrix:
    """A matrix that a user asks for: its file, what is in it with what the user changed, and every method by name.

    `path` is None where it was given in Python. `text` is what a run stores of it. `plan` is its first: what is known
    before any trial has ended. `partitions` are the partition files that it names. `remarks` say which entries were
    merged, and which contrasts a change left unanswered.
    """

    path: Path | None
    document: Mapping[str, Any]
    text: str
    methods: Mapping[str, MethodEntry]
    plan: StagedPlan
    partitions: Mapping[str, PartitionFile]
    remarks: tuple[str, ...]


def planned_matrix(
    given: str | Path | Mapping[str, Any],
    overrides: Sequence[str],
    methods: Mapping[str, MethodEntry],
    data_dir: Path | None = None,
) -> Matrix:
    """Return the matrix that is named, lies in a file, or is given as TOML would give it; `overrides` are of `--set`.

    Raises ConfigError for what cannot be planned. A contrast that no planned cell answers is among that, but a remark
    where overrides changed the matrix.
    """
    path = None
    if isinstance(given, Mapping):
        document, partitions = changed(as_document(given), overrides, methods, Path.cwd(), data_dir)
    else:
        path = find_matrix(str(given))
        document, partitions = matrix_and_partitions(path, overrides, methods, data_dir)
    plan = staged_plan(document, methods, {})
    require_partitions([item.cell for item in plan.cells], partitions)
    not_asked = list(unanswered(document, settings_table([item.cell for item in plan.asked])))
    if not_asked and not overrides:
        raise ConfigError(not_asked[0])
    remarks = (*merged_entries(document), *(f"not asked: {sentence}" for sentence in not_asked))
    text = matrix_text(path, document) if path else tomli_w.dumps(document)
    return Matrix(path, document, text, methods, plan, partitions, remarks)

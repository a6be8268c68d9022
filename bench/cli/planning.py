"""From the arguments of a command to the planned cells of its matrix."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedfore.cli.output import complain
from fedfore.errors import ConfigError, printable


def planned_matrix(options: argparse.Namespace) -> tuple[Path, list[Any], Mapping[str, Any]]:
    """Return the file of the matrix, its planned cells, and every method by name; say which entries were merged.

    A contrast that no planned cell answers is an error, but said where the command itself changed the matrix.
    """
    from fedfore.contract.registry import discover
    from fedfore.execution.matrix import merged_entries, resolve
    from fedfore.execution.matrix_file import find_matrix, read_matrix
    from fedfore.judgement.contrasts import unanswered
    from fedfore.records.table import settings_table

    methods = discover(options.plugins)
    path = find_matrix(options.matrix)
    document = read_matrix(path, options.overrides, methods)
    planned = resolve(document, methods)
    for sentence in merged_entries(document):
        complain(f"fedfore: {printable(sentence)}")
    for sentence in unanswered(document, settings_table([item.cell for item in planned])):
        if not options.overrides:
            raise ConfigError(sentence)
        complain(f"fedfore: not asked: {printable(sentence)}")
    return path, planned, methods

"""The plug-ins that cells use beside their methods: their files, and the hashes of their code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedfore.cell import Cell
from fedfore.contract.registry import MethodEntry
from fedfore.records.declared import Plugin, known


def plugins_of(cell: Cell) -> Iterator[Plugin]:
    """Yield the plug-ins known to this process that are the cell's data set and model, and the metrics of the cell."""
    named = (known("dataset").get(cell.dataset), known("model").get(cell.model.partition(":")[0]))
    metrics = () if cell.is_trial or cell.train.meter_only else known("metric").values()
    return (plugin for plugin in (*named, *metrics) if plugin is not None)


def plugin_code(cell: Cell, code: Callable[[Plugin], Any]) -> dict[str, Any] | None:
    """Return what `code` gives of each plug-in of a cell, by its key; None where there is none."""
    return {plugin.key: code(plugin) for plugin in plugins_of(cell)} or None


def code_files(methods: Mapping[str, MethodEntry], cells: Iterable[Cell]) -> dict[str, Path]:
    """Return the files whose code these cells run, by the name of a method or the key of another plug-in."""
    others = {plugin.key: plugin.file for cell in cells for plugin in plugins_of(cell)}
    return {**{name: entry.file for name, entry in methods.items()}, **others}

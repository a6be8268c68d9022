"""What `fedfore ls` lists. No torch, but for lists of what is written in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedfore.cli.plugged import plugged
from fedfore.errors import PluginError
from fedfore.records.declared import Kind
from fedfore.records.metrics import FIELDS, SHIPPED
from fedfore.records.sources import tree, version

LISTS = ("methods", "datasets", "models", "metrics", "figures", "fields", "matrices")


def listing(what: str, plugins: Sequence[Path]) -> list[tuple[str, str]]:
    """Return name and description of everything there is of a kind (see `LISTS`)."""
    if what == "metrics":
        shipped = [(row.name, f"[{row.unit}, {row.direction}] {row.description}") for row in SHIPPED.values()]
        return [*shipped, *_plugged("metric", plugins)]
    if what == "figures":
        return list(_plugged("figure", plugins))
    if what == "fields":
        kinds = {row.name: ", ".join(filter(None, (row.type, row.unit))) for row in FIELDS.values()}
        return [(row.name, f"[{kinds[row.name]}] {row.description}") for row in FIELDS.values()]
    if what == "methods":
        from fedfore.contract.registry import discover

        return [(e.name, f"[{e.role}] {e.problem or e.summary}") for e in discover(plugins).values()]
    if what == "datasets":
        from fedfore.tasks.datasets import DATASETS

        return [*((spec.name, spec.description) for spec in DATASETS.values()), *_plugged("dataset", plugins)]
    if what == "models":
        from fedfore.tasks.model_registry import MODELS

        return [*((name, model.description) for name, model in MODELS.items()), *_plugged("model", plugins)]
    from fedfore.matrices import named_matrices

    return [
        (name, path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "))
        for name, path in named_matrices().items()
    ]


def _plugged(kind: Kind, folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield name and description of the plug-ins of a kind, or why one cannot be used."""
    for plugin in plugged(kind, folders).values():
        try:
            found, text = plugin.load(), plugin.summary
            if kind == "metric":
                text = f"[{found.row.unit}, {found.row.direction}] {text}"
        except PluginError as error:
            text = str(error)
        yield plugin.name, f"[plugin] {text}"
    if not folders:
        return
    from fedfore.contract.plugin_files import python_files

    for file in (file for folder in folders for file in python_files(folder)):
        try:
            tree(file, version(file))
        except PluginError as error:
            yield file.stem, f"[plugin] {error}"

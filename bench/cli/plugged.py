"""Plug-ins that a command lists or draws; torch is imported only where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from fedfore.records.declared import Kind, Plugin, know, known


def plugged(kind: Kind, folders: Sequence[Path]) -> Mapping[str, Plugin]:
    """Return the plug-ins of a kind in these folders and in installed packages; this process knows them from now on."""
    if folders or entry_points(group=f"fedfore.{kind}s"):
        from fedfore.contract.plugins import know_plugins

        know_plugins(folders)
    else:
        know(())
    return known(kind)

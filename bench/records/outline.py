"""What a plan says at a glance: which cells, by which commands, and whether more are to come. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedfore.records.choices import TUNING
from fedfore.records.files import damaged
from fedfore.records.plan_file import read_plan_document


@dataclass(frozen=True)
class Outline:
    """A plan without settings. `has_choices` is False while cells are to come that depend on what tuning chooses."""

    ids: tuple[str, ...]
    commands: tuple[str, ...]
    has_choices: bool


def read_outline(run: Path) -> Outline:
    """Return a plan's outline, which takes a fraction of the time of `read_plan`. Raises StoreError as that does."""
    document = read_plan_document(run)
    try:
        ids = tuple(str(cell["id"]) for cell in document["cells"])
        commands = tuple(map(str, document["commands"]))
        tuning = document.get(TUNING)
        return Outline(ids, commands, tuning is None or tuning.get("choices") is not None)
    except (AttributeError, KeyError, TypeError):
        raise damaged(run / "plan.json") from None

"""Published studies by name, as verbs and the door for Python are given them. No torch, and no pandas to list them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedfore.errors import ConfigError, suggestion

RESULTS = Path("results")


def published_studies() -> dict[str, Path]:
    """Return the folders of the studies that are published in this checkout, by name."""
    return {folder.name: folder for folder in sorted(RESULTS.glob("*")) if _is_study(folder)}


def published_study(name: str) -> Path:
    """Return the folder of a published study, by its name in results/ or its path. Raises ConfigError for neither."""
    known = published_studies()
    if name in known or _is_study(Path(name)):
        return known.get(name) or Path(name)
    raise ConfigError(f'There is no published study "{name}".{suggestion(name, known)}')


def run_folders(names: Sequence[str | Path]) -> list[Path]:
    """Return the folders of runs, live or published, by their paths or studies' names.

    Raises ConfigError for what is neither, and for a run that is named twice.
    """
    folders = [_run_folder(name) for name in names]
    places = [folder.resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise ConfigError(f"{twice} is named twice; name each run once.")
    return folders


def _run_folder(name: str | Path) -> Path:
    known = published_studies()
    if Path(name).is_dir():
        return Path(name)
    if str(name) in known:
        return known[str(name)]
    raise ConfigError(f'There is no run "{name}".{suggestion(str(name), known)}')


def _is_study(folder: Path) -> bool:
    """Return whether a folder holds a packed study, or a card: one of messages has no cells."""
    from fedfore.plots.cards.facts import CARD
    from fedfore.records.packed import is_packed

    return is_packed(folder) or (folder / CARD).is_file()

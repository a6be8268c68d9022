"""Published studies by name, as the verbs are given them. No torch."""

from __future__ import annotations

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


def run_folder(name: str) -> Path:
    """Return the folder of a run, live or published, by its path or a study's name. Raises ConfigError for neither."""
    known = published_studies()
    if Path(name).is_dir() or name in known:
        return Path(name) if Path(name).is_dir() else known[name]
    raise ConfigError(f'There is no run "{name}".{suggestion(name, known)}')


def _is_study(folder: Path) -> bool:
    """Return whether a folder holds a packed study, or a card: one of messages has no cells."""
    from fedfore.plots.cards.facts import CARD
    from fedfore.records.packed import is_packed

    return is_packed(folder) or (folder / CARD).is_file()

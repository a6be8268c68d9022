"""What a study's records say of itself: how many cells ended, what they ran, seeds, commits, the command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive
from fedfore.judgement.claims import CLAIMS, read_claims
from fedfore.plots.cards.specification import read_card
from fedfore.records.choices import TRIALS
from fedfore.records.markup import markdown
from fedfore.records.run import Run

CARD = "card.toml"
_SETTINGS: Mapping[str, str] = {
    "dataset": "data set",
    "model": "model",
    "method": "methods",
    "sparsity_asked": "sparsity",
    "alpha": "labels (alpha)",
    "estimator": "estimator",
    "params.num_perturbations": "perturbations (K)",
    "train.clients": "clients",
    "train.participation": "participation",
    "train.batch_size": "batch size",
    "params.local_steps": "local steps",
    "train.rounds": "budget, rounds",
    "train.data_passes": "budget, data passes",
    "train.validation_fraction": "held out for validation",
    "seed": "seeds",
}
"""The settings that a card names where some cell has them, and in which words."""
_COMMIT_DIGITS = 8


def facts(archive: Archive, study: str) -> str:
    """Return the table of what a study ran, and how to run it again."""
    cells = archive.table(study)
    rows = [["cells", cells_text(cells)]]
    if "cell_id" in cells:
        own = cells[cells["stage"] == "report"] if cells["stage"].eq("report").any() else cells
        rows += [[words, text] for name, words in _SETTINGS.items() if name in own and (text := _values(own[name]))]
        rows.append(["commits", commits_text(cells)])
        rows.append(["ran on", _machines(archive.run(study))])
        rows.append(["minutes of all cells, one after another", f"{cells['wall_seconds'].sum() / 60:,.0f}"])
    rows.append(["run it again", f"`{command(archive.results / study)}`"])
    later = superseded_text(archive, study, "..")
    return markdown(pd.DataFrame(rows, columns=["", ""])) + (f"\n**{later}**\n" if later else "")


def superseded_text(archive: Archive, study: str, to: str = ".") -> str:
    """Return a sentence on the study that supersedes another or is to, with a link from a page that finds it in `to`.

    Raises ConfigError where the card names one that is neither published nor coming.
    """
    card = read_card(archive.results / study / CARD)
    other = card.superseded_by
    if not other:
        return ""
    link, because = f"[{other}]({to}/{other}/README.md)", f"because {card.superseded_because}."
    if (archive.results / other).is_dir():
        if archive.run(other).is_unfinished():
            return f"To be superseded by {link}, which is not finished yet, {because}"
        return f"Superseded by {link}, {because}"
    coming = read_claims(archive.results).coming
    if other not in coming:
        raise ConfigError(
            f'{study}: {CARD}: superseded_by: there is no study "{other}", nor is it among those that '
            f"are coming by {CLAIMS}.{suggestion(other, coming)}"
        )
    return f"To be superseded by {other}, which is not published yet, {because}"


def index(archive: Archive) -> str:
    """Return the table of all studies that have a card, in the order of their names."""
    rows = []
    for name in studies(archive.results):
        cells, folder = archive.table(name), archive.results / name
        asked = " ".join(filter(None, (read_card(folder / CARD).question, superseded_text(archive, name))))
        rows.append([f"[{name}]({name})", asked, cells_text(cells), commits_text(cells), f"`{command(folder)}`"])
    return markdown(pd.DataFrame(rows, columns=["study", "what it asks", "cells", "commits", "run it again"]))


def studies(results: Path) -> list[str]:
    """Return the names of the studies that have a card, sorted."""
    return sorted(path.parent.name for path in results.glob(f"*/{CARD}"))


def command(folder: Path) -> str:
    """Return the command that computes a study again: of its card, else of the matrix of its name."""
    return read_card(folder / CARD).command or f"fedfore run {folder.name}"


def cells_text(cells: pd.DataFrame) -> str:
    """Return how many of the planned cells ended, and how the others stand; an unfinished study says so.

    Trials of tuning are counted apart; before they have chosen, nothing is planned that is reported.
    """
    if "cell_id" not in cells:
        return f"{len(cells)} exchanges"
    is_trial = cells["stage"].isin(TRIALS)
    if not is_trial.any():
        return _ended(cells)
    reported = "none yet, no verdicts" if is_trial.all() else _ended(cells[~is_trial])
    return f"{reported}; trials of tuning: {_ended(cells[is_trial])}"


def _ended(cells: pd.DataFrame) -> str:
    counts = Counter(cells["status"])
    ok, missing = counts.pop("ok", 0), counts.pop("missing", 0)
    others = "".join(f", {count} {status.replace('_', ' ')}" for status, count in counts.items())
    if missing:
        return f"{len(cells) - missing} of {len(cells)} cells{others}, no verdicts"
    return f"{ok}{others}"


def commits_text(cells: pd.DataFrame) -> str:
    """Return the commits that the records name, the one of most cells first."""
    if "git_commit" not in cells:
        return ""
    names = cells["git_commit"].dropna().map(lambda name: name[:_COMMIT_DIGITS] + name[40:])
    return ", ".join(f"`{name}`" for name in names.value_counts(sort=True).index)


def _machines(run: Run) -> str:
    """Return the processors and versions of torch that the records name, each once."""
    known = {
        f"{one.get('processor', 'an unknown processor')}, {one.get('cpus', '?')} CPUs, "
        f"torch {one.get('packages', {}).get('torch', '?')}"
        for one in run.environments().values()
    }
    return "; ".join(sorted(known))


def _values(values: pd.Series[Any]) -> str:
    known = sorted(set(values.dropna()), key=lambda value: (isinstance(value, str), value))
    known = [value for value in known if value != 0] if values.name == "train.validation_fraction" else known
    return ", ".join(value if isinstance(value, str) else f"{value:g}" for value in known)

"""The run itself in a few lines: what its matrix asks, and what was run, when and with what code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from fedfore.errors import StoreError, printable
from fedfore.plots.study import Study
from fedfore.plots.wording import listed
from fedfore.records.packed import MATRIX
from fedfore.records.run import Run

_COMMIT_DIGITS = 10


@dataclass(frozen=True)
class Facts:
    """The name of a study, the question that the first line of its matrix asks, and its headline figures."""

    name: str
    question: str
    figures: tuple[tuple[str, str], ...]


def facts(study: Study, matrix: str) -> Facts:
    """Return the facts of a study with that matrix; there is no question where the matrix begins with no comment."""
    first = matrix.partition("\n")[0]
    question = printable(first.lstrip("# ")) if first.startswith("#") else ""
    return Facts(study.run.path.resolve().name, question, tuple(_figures(study)))


def matrix_of(run: Run) -> str:
    """Return the matrix of a run as text, empty where it keeps none. Raises StoreError where it cannot be read."""
    path = run.path / MATRIX
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from None


def recorded(study: Study, column: str) -> list[str]:
    """Return the distinct values of a column of text that some record has, sorted."""
    return sorted(study.cells[column].dropna().astype(str).unique())


def _figures(study: Study) -> Iterator[tuple[str, str]]:
    cells = study.cells
    yield "Methods", listed([one.label for one in study.looks.values()])
    for title, column in (("Data", "dataset"), ("Model", "model"), ("Clients' labels", "alpha")):
        yield title, listed([str(value) for value in cells[column].unique()])
    yield "Seeds", str(cells["seed"].nunique())
    yield "Cells", _counts(study)
    times = sorted([*recorded(study, "started_utc"), *recorded(study, "finished_utc")])
    if times:
        yield "Computed", _span(datetime.fromisoformat(times[0]), datetime.fromisoformat(times[-1]))
    commits = [commit[:_COMMIT_DIGITS] for commit in recorded(study, "git_commit")]
    if commits:
        yield "Commit", listed(commits)


def _counts(study: Study) -> str:
    counts = study.cells["status"].value_counts()
    others = ", ".join(f"{n} {str(name).replace('_', ' ')}" for name, n in sorted(counts.items()) if name != "ok")
    return f"{counts.get('ok', 0)} of {len(study.cells)} finished" + (f" ({others})" if others else "")


def _span(began: datetime, ended: datetime) -> str:
    """Return when cells were computed: two times of one day, or two days."""
    if began.date() == ended.date():
        return f"{began:%Y-%m-%d, %H:%M} to {ended:%H:%M} UTC"
    return f"{began:%Y-%m-%d} to {ended:%Y-%m-%d}"

"""Whether a published study stands: what supersedes it, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedfore.judgement.archive import Archive
from fedfore.judgement.documents import Document, read_document


class _Card(Document):
    """What is asked of a study's card here."""

    model_config = Document.model_config | {"extra": "ignore"}
    superseded_by: str = ""


def superseding(study: Path) -> str:
    """Return the name of the study that supersedes another, or is to, by the other's card; "" where none does."""
    card = study / "card.toml"
    return read_document(card, _Card).superseded_by if card.is_file() else ""


def withheld_verdicts(archive: Archive, study: str) -> Iterator[str]:
    """Yield why nothing that a published study says is a verdict: it is superseded, or unfinished."""
    other = superseding(archive.results / study)
    if other and (archive.results / other).is_dir() and not archive.run(other).is_unfinished():
        yield f"study {study} is superseded by {other}"
    cells = archive.table(study)
    missing = int(cells["status"].eq("missing").sum())
    if missing:
        yield f"study {study} is unfinished: {len(cells) - missing} of {len(cells)} cells"

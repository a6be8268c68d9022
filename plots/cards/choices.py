"""What the tuning of a study chose, as a table of its card."""

from __future__ import annotations

from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive
from fedfore.plots.tables.choices import choices_frame
from fedfore.records.markup import markdown


def choices_table(archive: Archive, study: str) -> str:
    """Return the choice of every series of a study and what its trials say of it.

    Raises ConfigError where the study has no trials of its own.
    """
    tuning = archive.run(study).tuning()
    if tuning is None or not tuning.is_by_trials:
        raise ConfigError(f"{study}: its matrix tunes nothing by trials of its own; its card has no choices.")
    return markdown(choices_frame(tuning))

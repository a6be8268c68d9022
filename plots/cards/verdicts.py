"""The contrasts of a study's matrix with their verdicts, as a table of its card."""

from __future__ import annotations

from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive
from fedfore.judgement.judging import judged_of
from fedfore.judgement.standing import withheld_verdicts
from fedfore.plots.judged_rows import judged_rows
from fedfore.records.markup import markdown


def verdicts_table(archive: Archive, study: str) -> str:
    """Return every contrast that a study's matrix states, and what its records say of it.

    Nothing of an unfinished or a superseded study is tested. Raises ConfigError where the matrix states no contrast.
    """
    found = judged_of(archive.run(study))
    if not found:
        raise ConfigError(f"{study}: its matrix states no contrast that its cells answer; its card has no verdicts.")
    return markdown(judged_rows(found, next(withheld_verdicts(archive, study), "")))

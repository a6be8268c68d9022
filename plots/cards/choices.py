"""What the tuning of a study chose, as a table of its card."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive
from fedfore.plots.wording import UNKNOWN, percent_text
from fedfore.records.choices import Choice, Trial, values_text
from fedfore.records.markup import markdown


def choices_table(archive: Archive, study: str) -> str:
    """Return the choice of every series of a study and what its trials say of it.

    Raises ConfigError where the study has no trials of its own.
    """
    tuning = archive.run(study).tuning()
    if tuning is None or not tuning.is_by_trials:
        raise ConfigError(f"{study}: its matrix tunes nothing by trials of its own; its card has no choices.")
    return markdown(pd.DataFrame([_row(choice) for choice in tuning.choices or ()]))


def _row(choice: Choice) -> dict[str, str]:
    first = [one for one in choice.trials if one.stage == "tune1"]
    last = [one for one in choice.trials if one.stage == choice.trials[-1].stage] if choice.trials else []
    chosen = [one for one in last if one.values == choice.values]
    return {
        "series": choice.name,
        "chosen": choice.reason or values_text(choice),
        "points tried": str(len(first)),
        "seeds": str(len(choice.seeds)),
        "validation accuracy (%)": percent_text(chosen[0].mean, float("nan")) if chosen else UNKNOWN,
        "next best (%)": percent_text(_next_best(choice, last), float("nan")),
        "failed trials": str(sum(one.failed for one in choice.trials)),
        "at an edge": "yes" if choice.at_edge else "no",
    }


def _next_best(choice: Choice, last: Sequence[Trial]) -> float:
    """Return the mean of the best point that was not chosen, NaN where there is none."""
    return max((one.mean for one in last if one.values != choice.values), default=float("nan"))

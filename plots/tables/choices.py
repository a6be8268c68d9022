"""What the tuning of a study chose, a row a series, as text for people."""

from __future__ import annotations

import pandas as pd

from fedfore.plots.wording import UNKNOWN, percent_text
from fedfore.records.choices import Choice, Tuning, values_text


def choices_frame(tuning: Tuning) -> pd.DataFrame:
    """Return the choice of every series and what its trials say of it; no row before there are choices.

    Choices that were taken from a published study have no trials here, and no columns of them.
    """
    return pd.DataFrame([_row(choice, trials=tuning.is_by_trials) for choice in tuning.choices or ()])


def _row(choice: Choice, *, trials: bool) -> dict[str, str]:
    chosen = {"series": choice.name, "chosen": choice.reason or values_text(choice)}
    return chosen | _of_trials(choice) if trials else chosen


def _of_trials(choice: Choice) -> dict[str, str]:
    return {
        "points tried": str(choice.points),
        "seeds": str(len(choice.seeds)),
        "validation accuracy (%)": percent_text(choice.chosen.mean) if choice.chosen else UNKNOWN,
        "next best (%)": percent_text(_next_best(choice)),
        "failed trials": str(sum(one.failed for one in choice.trials)),
        "at an edge": "yes" if choice.at_edge else "no",
    }


def _next_best(choice: Choice) -> float:
    """Return the mean of the best point that was not chosen, NaN where there is none."""
    return max((one.mean for one in choice.finalists if one.values != choice.values), default=float("nan"))

"""How much training cells really had: their share of the budget, and the data that methods saw at equal rounds."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from fedfore.plots.wording import OVERSPENT, UNKNOWN

TOLERANCE = 1.05
"""More than this, over the budget or between methods, is told: the last round ends where it ends."""


def budget_used(cells: pd.DataFrame) -> pd.Series[float]:
    """Return what training spent of the budget in rounds or data passes, as a fraction; NaN where it is not known.

    Records of before `budget_used` was recorded say it by what they spent and what was planned.
    """
    nothing = pd.Series(float("nan"), cells.index)
    known = {name: pd.to_numeric(cells[name]) if name in cells else nothing for name in (
        "budget_used", "data_passes", "train.data_passes", "server_updates", "train.rounds"
    )}  # fmt: skip
    passes = known["data_passes"] / known["train.data_passes"]
    return known["budget_used"].fillna(passes).fillna(known["server_updates"] / known["train.rounds"])


def budget_notes(cells: pd.DataFrame) -> list[str]:
    """Return the footnote on points that carry the mark of `fedfore.plots.wording.OVERSPENT`, if there are any."""
    over = cells.loc[cells["ok"] & cells["overspent"], "budget_used"]
    return [f"{OVERSPENT} trained past the planned budget, up to {over.max():.3g} times as much."] if len(over) else []


def budget_sentences(cells: pd.DataFrame) -> Iterator[str]:
    """Yield which series trained past their budget, and where equal rounds were not equal data."""
    ok = cells[cells["ok"]]
    over = ok[ok["overspent"]].groupby("series", observed=True)["budget_used"].max()
    if len(over):
        which = ", ".join(f"{label} up to {times:.3g} times" for label, times in over.items())
        yield f"Training went past its budget: {which}. Accuracies of these are at more training than was planned."
    if "train.rounds" not in ok:
        return
    for rounds, own in ok.groupby("train.rounds"):
        seen = own.groupby("series", observed=True)["data_passes"].mean().dropna()
        if len(seen) and seen.max() > TOLERANCE * seen.min():
            yield (
                f"{rounds:g} rounds are not the same amount of data: from {seen.min():.3g} data passes "
                f"({seen.idxmin()}) to {seen.max():.3g} ({seen.idxmax()}). Accuracies are compared at equal rounds."
            )


def data_passes_texts(values: pd.Series[float]) -> list[str]:
    """Return a table's data passes as text, or nothing where the rows do not differ in them."""
    if not values.max() > TOLERANCE * values.min():
        return []
    return [f"{value:.3g}" if value == value else UNKNOWN for value in values]

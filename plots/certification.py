"""The footnotes on points that are withheld: not certified (see `fedfore.judgement.certificates`), or badly tuned."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.plots.wording import DOUBLE_DAGGER


def certificate_notes(shown: pd.DataFrame, point: Sequence[str], mark: str = DOUBLE_DAGGER) -> list[str]:
    """Return the footnotes on the marked points among these cells, maybe none; `mark` is how they call them."""
    points = shown.drop_duplicates(list(point))
    needing = points.loc[points["certificate"] != "", "certificate"]
    counts = needing.value_counts()
    reasons = {
        "uncertified": f"computed scalars differ from real finite differences by more than {MOST_SCALAR_ERROR:.0%}",
        "unknown": "how far computed scalars are from real finite differences is not known",
    }
    said = [f"at {counts[name]} of {len(needing)} points {why}" for name, why in reasons.items() if name in counts]
    notes = [f"{mark} Not certified: {', and '.join(said)}; no comparison uses them."] if said else []
    edges = int((points["choice_at_edge"] | points["lacks_choice"]).sum())
    tuned = f"at {edges} of {len(points)} points the best values lie at an edge of what was tried, or none was chosen"
    return [*notes, *([f"{mark} Not tuned to an end: {tuned}; no comparison uses them."] if edges else [])]

"""The footnote on points whose simulation is not certified (see `fedfore.judgement.certificates`)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.plots.wording import DOUBLE_DAGGER


def certificate_notes(shown: pd.DataFrame, point: Sequence[str], mark: str = DOUBLE_DAGGER) -> list[str]:
    """Return the footnote on the marked points among these cells, if there is one; `mark` is how it calls them."""
    needing = shown[shown["certificate"] != ""].drop_duplicates(list(point))["certificate"]
    counts = needing.value_counts()
    reasons = {
        "uncertified": f"computed scalars differ from real finite differences by more than {MOST_SCALAR_ERROR:.0%}",
        "unknown": "how far computed scalars are from real finite differences is not known",
    }
    said = [f"at {counts[name]} of {len(needing)} points {why}" for name, why in reasons.items() if name in counts]
    return [f"{mark} Not certified: {', and '.join(said)}; no comparison uses them."] if said else []

"""The verdicts of a matrix' contrasts on the accuracy of single points, in few words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedfore.judgement.verdicts import Verdict
from fedfore.plots.points import POINT, records
from fedfore.plots.study import Study
from fedfore.plots.wording import HEADLINES, listed

_WORDS: Mapping[Verdict, str] = {
    "not tested": "not tested against",
    "too few seeds": "too few seeds against",
    "worse": "worse than",
    "inconclusive": "inconclusive against",
    "equivalent": "equivalent to",
    "better": "better than",
}
"""Each verdict with the word before the opponent, from the lowest to the highest."""


@dataclass(frozen=True)
class Told:
    """What a contrast says of a point against others, in words, and the verdict's rank, higher for a better one."""

    text: str
    rank: int


def told(study: Study) -> Mapping[tuple[Any, ...], list[Told]]:
    """Return the verdicts on each point's accuracy, none for a point that no contrast is of."""
    found: dict[tuple[Any, ...], list[Told]] = defaultdict(list)
    for one in study.judged:
        if one.contrast.metric not in HEADLINES:
            continue
        others = study.cells.loc[one.pairing.against, "series"].astype(str).unique().tolist()
        verdict = Told(f"{_WORDS[one.verdict]} {listed(others)}", list(_WORDS).index(one.verdict))
        for point in records(study.cells.loc[one.pairing.of, list(POINT)].drop_duplicates()):
            found[tuple(point.values())].append(verdict)
    return found

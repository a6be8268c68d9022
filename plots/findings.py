"""What a study's numbers support, in sentences: the few that answer, and what is to be known beside them.

Nothing is called better but by a contrast that the matrix fixed, or as the leader of a ranking, which is corrected for
having been chosen (see `fedfore.judgement`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.judgement.estimates import Estimate
from fedfore.judgement.selection import places_of
from fedfore.judgement.sides import Side, difference, needed, side, withheld
from fedfore.plots.budget import budget_sentences
from fedfore.plots.charts.kernel_figures import ntk_sentences
from fedfore.plots.charts.mask_figures import mask_sentences
from fedfore.plots.points import POINT
from fedfore.plots.sentences.costs import cost_sentences
from fedfore.plots.sentences.ranks import Ranked, leading, rank_sentences, rankings, standing_sentence
from fedfore.plots.sentences.verdicts import certainty, verdict_sentences
from fedfore.plots.study import Study
from fedfore.plots.wording import DOUBLE_DAGGER

MOST_RANKINGS = 3
"""Settings of each of which the answer says who leads; of more, who leads on average."""
_ESTIMATORS = {
    "directional": "directional: the limit of small perturbations, computed from one gradient on the host",
    "moment": "moment: the same distribution, drawn without the perturbations",
    "exact": "exact: a control, the gradient itself in place of an estimate",
    "finite_difference": "finite differences: the device's own algorithm",
}


@dataclass(frozen=True)
class Findings:
    """The sentences on one dataset and model."""

    title: str
    sentences: tuple[str, ...]


def answer(study: Study, found: Sequence[Ranked] | None = None) -> tuple[str, ...]:
    """Return the few sentences that answer first: who leads and by how much, the contrasts, what it costs, how sure.

    Before them, where budgets were not kept or not equal. None where no cell ended well. `found` are the study's
    `rankings`, for who has them already.
    """
    if not study.ok.shape[0]:
        return ()
    found = rankings(study) if found is None else found
    trained = study.cells[study.cells["trained"]]
    return (
        *budget_sentences(trained),
        *leader_sentences(study, found),
        *_judged(study, found),
        *cost_sentences(study, found),
    )


def leader_sentences(study: Study, found: Sequence[Ranked]) -> Iterator[str]:
    """Yield who leads in each setting, or on average where there are many."""
    averages = list(standing_sentence(study, found)) if len(found) > MOST_RANKINGS else []
    yield from averages or [leading(study, one) for one in found]


def _judged(study: Study, found: Sequence[Ranked]) -> Iterator[str]:
    yield from verdict_sentences(study.judged, study.looks)
    if study.judged or found:
        yield certainty(study.judged)


def findings(study: Study, ranked: Sequence[Ranked] | None = None) -> list[Findings]:
    """Return what is to be known beside the answer, on each dataset and model with an ok cell.

    `ranked` are the study's `rankings`, for who has them already.
    """
    ranked = rankings(study) if ranked is None else ranked
    found = [Findings("Accuracy", tuple(_of_rankings(study, ranked)))] if ranked else []
    for (dataset, model), cells in study.by_setting():
        if cells["ok"].any():
            sentences = (
                *_origin(cells[cells["trained"]]),
                *_untrained(cells),
                *mask_sentences(study, cells),
                *ntk_sentences(cells),
            )
            found.append(Findings(f"{dataset}, {model}", sentences))
    return [one for one in found if one.sentences]


def _of_rankings(study: Study, ranked: Sequence[Ranked]) -> Iterator[str]:
    """Yield who leads where the answer says it on average, and who is not ranked or failed."""
    for one in ranked:
        if len(ranked) > MOST_RANKINGS:
            yield leading(study, one)
        yield from rank_sentences(study, one)


def against_reference(study: Study, points: Sequence[Mapping[str, Any]]) -> list[Estimate | None]:
    """Return points' accuracy differences to the reference (a fraction), None where nothing is to be said of one.

    Paired by seed, failures as chance; their 95% intervals are those of one comparison alone.
    """
    if study.reference is None:
        return [None] * len(points)
    label, metric, trained = study.reference.label, study.accuracy, study.cells[study.cells["trained"]]
    groups = trained.groupby(list(POINT), observed=True)
    places = dict(zip(groups.size().index, places_of(groups), strict=True))
    own = study.evidence.loc[trained.index].assign(**{name: trained[name] for name in POINT})
    evidence = needed(own, metric, POINT)

    @cache
    def told(*point: object) -> Side | None:
        found = side(evidence.take(places[point]), metric) if point in places else None
        return None if found is None or any(withheld(found)) else found

    def minus(point: Mapping[str, Any]) -> Estimate | None:
        reference = {**point, "series": label, "sparsity": 0.0}
        of, against = (told(*(one[name] for name in POINT)) for one in (point, reference))
        if point["series"] == label or of is None or against is None:
            return None
        found = difference(of, against)
        return Estimate(found.mean, *found.interval(), found.n)

    return [minus(one) for one in points]


def _origin(cells: pd.DataFrame) -> Iterator[str]:
    ok = cells[cells["ok"]]
    estimated = ok[ok["estimator"].notna()]
    if estimated.empty:
        return
    names = "; ".join(_ESTIMATORS.get(name, name) for name in sorted(estimated["estimator"].unique()))
    simulated = int(estimated["simulated"].sum())
    yield (
        f"{len(estimated)} of {len(ok)} finished cells train with zeroth-order estimates ({names}). "
        + (f"{simulated} of them are simulated: their updates carry what no device could send. " if simulated else "")
        + "Device memory and FLOPs are metered on the device's own algorithm in every cell."
    )
    needing = estimated[estimated["certificate"] != ""].drop_duplicates(list(POINT))["certificate"]
    if len(needing):
        counts = needing.value_counts()
        parts = [
            f"{counts[name]} {meaning}"
            for name, meaning in (("uncertified", "differ by more"), ("unknown", "have never been compared"))
            if name in counts
        ]
        marked = f"; {', '.join(parts)}: marked {DOUBLE_DAGGER}, and part of no comparison above" if parts else ""
        yield (
            f"{counts.get('certified', 0)} of {len(needing)} points with directional or moment estimates are "
            f"certified: in the geometric mean over seeds their scalars are within {MOST_SCALAR_ERROR:.0%} of real "
            f"finite differences at every milestone of training{marked}."
        )


def _untrained(cells: pd.DataFrame) -> Iterator[str]:
    ok = cells[cells["ok"]]
    ended, metered = int((~ok["trained"] & ~ok["metered"]).sum()), int(ok["metered"].sum())
    if ended:
        yield (
            f"{ended} of {len(ok)} finished cells end before training: they say what masks and kernels "
            "are, and nothing of accuracy."
        )
    if metered:
        yield (
            f"{metered} of {len(ok)} finished cells run nothing but the meters: they say what a device would pay, and "
            "nothing of accuracy. Where a setup would have to run to know its mask, layer densities are ERK's."
        )

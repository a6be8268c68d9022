"""Who leads in accuracy, by how much, and who may be as good: a sentence a data set, model and label distribution."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.estimates import LEVEL
from fedfore.judgement.ranking import Key, Place, Ranking, Standing, ranking, standings
from fedfore.judgement.verdicts import LEAST_PAIRS
from fedfore.plots.fields import value_label
from fedfore.plots.sentences.effects import number_text, unit_text
from fedfore.plots.study import Study
from fedfore.records.metrics import METRICS

MOST_NAMED = 3
CANDIDATE = ("series", "sparsity", "options")
"""What is ranked: a series at a sparsity, on a model of its own options where series differ in them."""


@dataclass(frozen=True)
class Ranked:
    """A ranking of a study's series and sparsities, and where: what tells it from the study's others, in words."""

    where: str
    dataset: str
    family: str
    ranking: Ranking


def rankings(study: Study) -> list[Ranked]:
    """Return the ranking of each data set, model and label distribution in which a study trained a cell to its end.

    Models that differ in their options alone, such as their norm, are ranked together.
    """
    cells = with_options(study.cells[study.cells["trained"]])
    evidence = study.evidence.loc[cells.index].assign(options=cells["options"])
    keys = ["dataset", "family", "alpha"]
    telling = [name for name in keys if cells[name].nunique() > 1] or ["alpha"]
    found = []
    for (dataset, family, alpha), own in cells.groupby(keys, observed=True, sort=True):
        if not own["ok"].any():
            continue
        names = {"dataset": str(dataset), "family": str(family), "alpha": str(alpha)}
        where = ", ".join(names[name] for name in telling)
        ranked = ranking(evidence.loc[own.index], CANDIDATE, study.accuracy)
        found.append(Ranked(where, names["dataset"], names["family"], ranked))
    return found


def with_options(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with their model's name as `family`, and its `options` where a family differs in them."""
    family, options = (cells["model"].map(lambda model, place=place: model.partition(":")[place]) for place in (0, 2))
    differ = options.groupby([cells["dataset"], family]).transform("nunique") > 1
    return cells.assign(family=family, options=options.where(differ, ""))


def leading(study: Study, found: Ranked) -> str:
    """Return who leads in a setting, by how much, and who may be as good."""
    if not found.ranking.places:
        return f"{found.where}: no point is complete, so that nobody leads in {_label(study)}."
    return f"{found.where}: {_leading(study, found.ranking)}."


def rank_sentences(study: Study, found: Ranked) -> Iterator[str]:
    """Yield what is to be known of a ranking beside its leader: failures, who is not ranked and why, controls."""
    yield from _failing(study, found)
    yield from _left_out(study, found)
    if found.ranking.controls:
        named = ", ".join(f"{name_of(study, one.key)} {_percent(one)}" for one in found.ranking.controls)
        yield f"{found.where}, controls, which compete with nobody: {named}."


def _label(study: Study) -> str:
    text = METRICS[study.accuracy].label
    return text[0].lower() + text[1:]


def _percent(one: Place) -> str:
    mean = one.mean
    return f"{100 * mean.mean:.1f} %" + (f" ({100 * mean.low:.1f} to {100 * mean.high:.1f})" if mean.n > 1 else "")


def _leading(study: Study, own: Ranking) -> str:
    leader, seeds = own.places[0], len(own.seeds)
    tied = [one for one in own.places if one.mean.mean == leader.mean.mean]
    after = own.places[len(tied) :]
    failed = f" ({leader.failures})" if leader.failures else ""
    verb = "has the" if len(tied) == 1 else "have the same"
    over = f"over {seeds} seeds" if seeds > 1 else "at one seed"
    who = f"{names(study, [one.key for one in tied])}{failed}"
    text = f"{who} {verb} highest mean {_label(study)}, {_percent(leader)} {over}"
    if after:
        text += f", {_ahead(own, after[0])} than the next, {name_of(study, after[0].key)}"
    return "; ".join([text, *_told(study, own, tied), *_not_ranked(own)])


def _told(study: Study, own: Ranking, tied: Sequence[Place]) -> Iterator[str]:
    """Yield from whom the leaders are told, by how many seeds."""
    others = [one for one in own.contenders if one not in tied]
    if len(own.places) == 1:
        return
    if len(own.seeds) < LEAST_PAIRS:
        yield f"fewer than {LEAST_PAIRS} seeds do not tell who is better"
    elif others:
        yield f"{names(study, [one.key for one in others])} may be as good"
    elif len(tied) == 1:
        yield "it is better than each other one"


def _not_ranked(own: Ranking) -> Iterator[str]:
    if own.withheld:
        yield f"{len(own.withheld)} of {len(own.withheld) + len(own.places)} points are not ranked"


def _ahead(own: Ranking, after: Place) -> str:
    """Return by how much the leader is above another, with the interval by which it is told from it."""
    assert after.behind is not None
    low, high = after.behind.interval(own.level)
    text = f"{number_text(own.metric, after.behind.mean).lstrip('+')}{unit_text(own.metric)} more"
    level = f"{own.level:.1%}" + (f", as the first of {len(own.places)}" if own.level > LEVEL else "")
    ends = f" ({number_text(own.metric, low)} to {number_text(own.metric, high)} at {level})"
    return text + (ends if low < high else "")


def _failing(study: Study, found: Ranked) -> Iterator[str]:
    own = found.ranking
    failed = [f"{name_of(study, one.key)} ({one.failures})" for one in (*own.places, *own.controls) if one.failures]
    if failed:
        yield f"{found.where}: failures count as chance: {', '.join(failed)}."


def _left_out(study: Study, found: Ranked) -> Iterator[str]:
    by_reason: dict[str, list[Key]] = {}
    for key, reason in found.ranking.withheld.items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in by_reason.items():
        yield f"{found.where}: not ranked, because {reason}: {names(study, keys)}."


def name_of(study: Study, key: Key) -> str:
    """Return a candidate's name: its series, with the sparsity and the options of its model where they tell."""
    series, sparsity, options = key
    has_sparsity = any(one.label == series and one.has_sparsity for one in study.series)
    level = f" at sparsity {value_label(sparsity)}" if has_sparsity else ""
    return f"{series}{level}{f' ({options})' if options else ''}"


def names(study: Study, keys: Sequence[Key]) -> str:
    """Return the names of candidates, of many the first and how many more."""
    known = [name_of(study, key) for key in keys]
    if len(known) > MOST_NAMED:
        return f"{', '.join(known[: MOST_NAMED - 1])} and {len(known) - MOST_NAMED + 1} others"
    return " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)


def standing_sentence(study: Study, found: Sequence[Ranked]) -> Iterator[str]:
    """Yield the average ranks of the candidates that all settings rank, the best first."""
    ranked: tuple[Standing, ...] = standings([one.ranking for one in found])
    if not ranked:
        return
    ranks = [
        f"{name_of(study, one.key)} {one.rank.mean:.2g} ({one.rank.low:.2g} to {one.rank.high:.2g})" for one in ranked
    ]
    rest = f" and {len(ranks) - MOST_NAMED} more" if len(ranks) > MOST_NAMED else ""
    text = f"Average rank over {len(found)} settings: {', '.join(ranks[:MOST_NAMED])}{rest}"
    above = ranked[1].improvement
    assert above is not None
    yield (
        f"{text}; {name_of(study, ranked[0].key)} is better than {name_of(study, ranked[1].key)} with a probability of "
        f"{above.mean:.2f} ({above.low:.2f} to {above.high:.2f})."
    )


def leaders(found: Sequence[Ranked]) -> Mapping[Key, list[str]]:
    """Return who leads, and where."""
    known: dict[Key, list[str]] = {}
    for one in found:
        if one.ranking.places:
            known.setdefault(one.ranking.places[0].key, []).append(one.where)
    return known

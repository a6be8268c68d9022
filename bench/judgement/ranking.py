"""Which candidate has the best mean, and which may be as good: over shared seeds of complete points alone.

The leader is chosen on the data that it is judged by. It is told from another where a paired t test says so at
5% / (candidates - 1), so that "better than each other" is wrong in at most 5% of studies, and the truly best is told
from the leader in at most 2.5% (Gupta 1965, with Bonferroni's bound in place of equal variances).

Over several settings, candidates have average ranks, and the leader a probability of improvement on each other one,
both with intervals of the stratified bootstrap over seeds (Agarwal et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap, rankdata

from fedfore.judgement.estimates import LEVEL, Difference, Estimate, Values
from fedfore.judgement.sides import Side, difference, estimate_of, needed, side, withheld
from fedfore.judgement.verdicts import ERROR, LEAST_PAIRS
from fedfore.records.metrics import METRICS

Key = tuple[Any, ...]
"""What a candidate is called: its values in the columns by which a table is ranked."""
RESAMPLES = 2_000


@dataclass(frozen=True)
class Place:
    """A candidate of a ranking: its values by shared seed, in the metric's unit, and their mean.

    `failures` says which seeds count as chance. `behind` is what the leader is above it, None for the leader itself;
    `contends`: it is the leader, or cannot be told from it and has not failed at a seed.
    """

    key: Key
    values: tuple[float, ...]
    mean: Estimate
    failures: str
    behind: Difference | None
    contends: bool


@dataclass(frozen=True)
class Ranking:
    """The candidates of a setting, best first, over the `seeds` that they share.

    `level` is that of the intervals by which the leader is told from another; `withheld` says of each candidate that is
    not ranked why; `controls` compete with nobody, and their `behind` is None.
    """

    metric: str
    seeds: tuple[int, ...]
    level: float
    places: tuple[Place, ...]
    withheld: Mapping[Key, str]
    controls: tuple[Place, ...]

    @property
    def contenders(self) -> tuple[Place, ...]:
        """The leader, and who cannot be told from it: one of them is the best, at 97.5%."""
        return tuple(one for one in self.places if one.contends)


def ranking(cells: pd.DataFrame, by: Sequence[str], metric: str) -> Ranking:
    """Return the ranking of the candidates in a setting's rows of an `evidence` table, by a metric with chance in it.

    Rows that agree in the columns `by` are a candidate. Raises ConfigError for two cells of one seed in it.
    """
    found = {
        key if isinstance(key, tuple) else (key,): side(rows, metric)
        for key, rows in needed(cells, metric, by).groupby(list(by), observed=True, sort=False, dropna=False)
    }
    reasons = {key: reason for key, one in found.items() if (reason := next(withheld(one), None))}
    complete = {key: one for key, one in found.items() if key not in reasons}
    seeds = _shared({key: frozenset(one.values.index) for key, one in complete.items() if not _is_control(one)})
    ranked, controls = dict[Key, Side](), dict[Key, Side]()
    for key, one in complete.items():
        if seeds and seeds <= set(one.values.index):
            shared = len(seeds) == len(one.values)
            own = one if shared else side(one.cells[one.cells["seed"].isin(seeds)], metric)
            (controls if _is_control(one) else ranked)[key] = own
        else:
            reasons[key] = f"it was not run at the seeds of the others ({', '.join(map(str, sorted(seeds)))})"
    error = error_of(len(ranked))
    higher = METRICS[metric].direction == "higher"
    order = sorted(ranked, key=lambda key: ranked[key].values.mean(), reverse=higher)
    leader = ranked[order[0]] if order else None
    places = [_place(key, ranked[key], None if key == order[0] else leader, error) for key in order]
    beside = [_place(key, one, None, error) for key, one in controls.items()]
    return Ranking(metric, tuple(sorted(seeds)), 1 - error, tuple(places), reasons, tuple(beside))


def is_told(behind: Difference, error: float) -> bool:
    """Return whether a leader, by so much above a candidate, is better than it at an error that `error_of` gives."""
    return behind.n >= LEAST_PAIRS and behind.p < error


def error_of(candidates: int) -> float:
    """Return the error at which a leader of so many candidates is held against each other one."""
    return ERROR / max(candidates - 1, 1)


def _is_control(one: Side) -> bool:
    return bool(one.cells["control"].all())


def _shared(seeds: Mapping[Key, frozenset[int]]) -> frozenset[int]:
    """Return the seeds over which candidates are ranked: enough of them first, then those of the most candidates."""
    return max(
        dict.fromkeys(seeds.values()),
        key=lambda own: (min(len(own), LEAST_PAIRS), sum(own <= other for other in seeds.values()), len(own)),
        default=frozenset(),
    )


def _place(key: Key, own: Side, leader: Side | None, error: float) -> Place:
    values = own.values.sort_index()
    mean = estimate_of(own.metric, values)
    behind = None if leader is None else difference(leader, own)
    contends = behind is None or not (own.failures or is_told(behind, error))
    return Place(key, tuple(map(float, values)), mean, own.failures, behind, contends)


@dataclass(frozen=True)
class Standing:
    """A candidate over several settings: its average rank (1 is the best), which ties share.

    `improvement` is the leader's on it: the probability that the leader is better, in a setting and at a seed of each
    of the two that are drawn at random, and half of that of a tie; None for the leader itself. `n` counts settings.
    """

    key: Key
    rank: Estimate
    improvement: Estimate | None


def standings(rankings: Sequence[Ranking]) -> tuple[Standing, ...]:
    """Return the standings of the candidates that every one of these settings ranks, best first.

    None for fewer than two settings or candidates, and none where a setting has fewer than `LEAST_PAIRS` seeds.
    """
    shared = [key for key in _keys(rankings[0]) if all(key in _keys(one) for one in rankings)] if rankings else []
    if len(rankings) < 2 or len(shared) < 2 or any(len(one.seeds) < LEAST_PAIRS for one in rankings):
        return ()
    signs = [1.0 if METRICS[one.metric].direction == "higher" else -1.0 for one in rankings]
    values = [sign * _table(one, shared) for sign, one in zip(signs, rankings, strict=True)]
    ranks = _over_seeds(values, _average_ranks)
    order = sorted(range(len(shared)), key=lambda place: ranks[place].mean)
    above = _over_seeds([own[order] for own in values], _improvements)
    return tuple(
        Standing(shared[place], ranks[place], above[rank] if rank else None) for rank, place in enumerate(order)
    )


def _keys(one: Ranking) -> list[Key]:
    return [place.key for place in one.places]


def _table(one: Ranking, keys: Sequence[Key]) -> Values:
    """Return the values by candidate and seed."""
    own = {place.key: place.values for place in one.places}
    return np.array([own[key] for key in keys])


def _average_ranks(values: Sequence[Values]) -> Values:
    """Return average ranks over settings; each of `values` has candidates, resamples and seeds as its axes."""
    return np.mean([rankdata(-own.mean(axis=-1), axis=0) for own in values], axis=0)


def _improvements(values: Sequence[Values]) -> Values:
    """Return by candidate the probability that the first is better: over settings, and all pairs of their seeds."""
    pairs = (own[:1, ..., :, None] - own[..., None, :] for own in values)
    return np.mean([((np.sign(above) + 1) / 2).mean(axis=(-2, -1)) for above in pairs], axis=0)


def _over_seeds(values: Sequence[Values], statistic: Callable[[Sequence[Values]], Values]) -> list[Estimate]:
    """Return a statistic by candidate, with percentile intervals of resampling the seeds within each setting."""

    def resampled(*seeds: NDArray[np.int64], axis: int = -1) -> Values:
        return statistic([own[:, picked] for own, picked in zip(values, seeds, strict=True)])

    seeds = [np.arange(own.shape[1]) for own in values]
    found = bootstrap(
        seeds, resampled, vectorized=True, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    known = resampled(*seeds)
    ends = zip(known, found.low, found.high, strict=True)
    return [Estimate(float(mean), float(low), float(high), len(values)) for mean, low, high in ends]

"""How often the rules of judgement are wrong, by simulation: the numbers of the page on judgement.

`python -m fedfore.docs.error_rates` computes them again, which takes minutes, and stores them; the page's table is made
of what is stored. Everything is simulated with normal differences by seed, by the functions that judge records.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from fedfore.judgement.estimates import Difference, Values, estimate
from fedfore.judgement.ranking import Place, Ranking, error_of, is_told, standings
from fedfore.judgement.verdicts import Question, answers
from fedfore.records.files import write_atomically
from fedfore.records.markup import markdown

STORED = Path(__file__).with_suffix(".json")
SEED = 20_260
_DEVIATION = 0.015
"""Of a paired difference by seed: 1.5 points, as LeNet-5 has it on digits."""
_MARGIN = 0.01


@dataclass(frozen=True)
class Rate:
    """How often something happens in so many tries; `happens` says it of one, the made-up numbers of a study."""

    happens: Callable[[np.random.Generator], bool]
    tries: int = 10_000

    def simulated(self, seed: int = SEED, tries: int | None = None) -> float:
        """Return the share of tries, by default of all."""
        rng, count = np.random.default_rng(seed), tries or self.tries
        return sum(self.happens(rng) for _ in range(count)) / count


def difference(values: Values) -> Difference:
    """Return the paired difference of these differences by seed."""
    n = len(values)
    return Difference(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), n - 1.0, n, paired=True)


def any_word(rng: np.random.Generator, *, comparisons: int, seeds: int) -> bool:
    """Return whether a family of comparisons none of which differs has one that is called better or worse."""
    family = [Question(difference(own), None, True) for own in rng.normal(size=(comparisons, seeds))]
    return any(one.verdict in ("better", "worse") for one in answers(family))


def called(verdict: str, rng: np.random.Generator, *, mean: float, seeds: int, comparisons: int = 1) -> bool:
    """Return whether the first comparison of a family gets a word; the others do not differ."""
    draws = rng.normal(0.0, _DEVIATION, size=(comparisons, seeds))
    draws[0] += mean
    return answers([Question(difference(own), _MARGIN, True) for own in draws])[0].verdict == verdict


def told(which: str, rng: np.random.Generator, *, candidates: int, seeds: int, corrected: bool = True) -> bool:
    """Return whether the leader of candidates none of which differs is told from others.

    From `next`, the second; from `one`, which was named beforehand; from `some` of them; or from `all`.
    """
    values = rng.normal(size=(candidates, seeds))
    error = error_of(candidates if corrected else 2)
    first, second = np.argsort(-values.mean(axis=1))[:2]
    others = {"next": [second], "one": [0]}.get(which, range(candidates))
    found = [is_told(difference(values[first] - values[place]), error) for place in others if place != first]
    return any(found) if which == "some" else bool(found) and all(found)


def covers(rng: np.random.Generator, *, seeds: int) -> bool:
    """Return whether the interval of accuracies of 98.5%, deviation 1.2 points, covers that (Beta distributed)."""
    mean, deviation = 0.985, 0.012
    total = mean * (1 - mean) / deviation**2 - 1
    found = estimate(rng.beta(mean * total, (1 - mean) * total, size=seeds), "logit")
    return found.low <= mean <= found.high


def covers_improvement(rng: np.random.Generator, *, settings: int, seeds: int) -> bool:
    """Return whether the interval of the probability of improvement of one of two candidates covers it.

    One is a deviation better than the other in every setting.
    """
    true = float(special.ndtr(1 / math.sqrt(2)))
    leader, other = standings([_of_two(rng.normal(size=seeds) + 1, rng.normal(size=seeds)) for _ in range(settings)])
    assert other.improvement is not None
    expected = true if leader.key == ("better",) else 1 - true
    return other.improvement.low <= expected <= other.improvement.high


def _of_two(better: Values, worse: Values) -> Ranking:
    known = {("better",): better, ("worse",): worse}
    places = [Place(key, tuple(own), estimate(own), "", None, contends=True) for key, own in known.items()]
    return Ranking("test_accuracy", tuple(range(len(better))), 1 - error_of(2), tuple(places), {}, ())


COMPARISONS, SEEDS, CANDIDATES = (1, 6, 25), (5, 10), (5, 26)
WORDS: Mapping[tuple[int, int], Rate] = {
    (m, n): Rate(partial(any_word, comparisons=m, seeds=n), 500_000 // (4 + m)) for m in COMPARISONS for n in SEEDS
}
"""By comparisons of a family and seeds: one of them is called better or worse, and none differs."""
SEEN: Mapping[tuple[int, int, int], Rate] = {
    (points, m, n): Rate(partial(called, "better", mean=points / 100, seeds=n, comparisons=m))
    for points in (1, 2, 3)
    for m in COMPARISONS
    for n in SEEDS
}
"""By points of difference, comparisons and seeds: a comparison is called better, and is."""
EQUIVALENT: Mapping[tuple[float, int], Rate] = {
    (points, n): Rate(partial(called, "equivalent", mean=points / 100, seeds=n))
    for points in (1, 0.5, 0)
    for n in (10, 20)
}
"""By points of difference and seeds: a comparison is called equivalent at a margin of 1 point."""
LEADER: Mapping[tuple[str, bool, int, int], Rate] = {
    (which, corrected, m, n): Rate(partial(told, which, candidates=m, seeds=n, corrected=corrected))
    for which in ("next", "one", "all", "some")
    for corrected in (False, True)
    for m in CANDIDATES
    for n in SEEDS
}
"""By who is told from the leader, the correction, candidates and seeds: no candidate differs from another."""
COVERED: Mapping[int, Rate] = {n: Rate(partial(covers, seeds=n)) for n in (3, *SEEDS)}
"""By seeds: the interval of accuracies near 1 covers their mean."""
IMPROVED: Mapping[tuple[int, int], Rate] = {
    (k, n): Rate(partial(covers_improvement, settings=k, seeds=n), 1_000) for k in (2, 4, 8) for n in SEEDS
}
"""By settings and seeds: the interval of a probability of improvement covers it."""
GROUPS: Mapping[str, Mapping[Any, Rate]] = {
    "words": WORDS, "seen": SEEN, "equivalent": EQUIVALENT, "leader": LEADER, "covered": COVERED, "improved": IMPROVED,
}  # fmt: skip


def stored() -> dict[str, float]:
    """Return the shares as they were simulated last, by `name_of`."""
    found: dict[str, float] = json.loads(STORED.read_text(encoding="utf-8"))
    return found


def name_of(group: str, key: object) -> str:
    """Return the name of a share in what is stored."""
    return f"{group} {key}"


def store() -> None:
    """Simulate every share again and store them."""
    found = {name_of(group, key): rate.simulated() for group, own in GROUPS.items() for key, rate in own.items()}
    write_atomically(STORED, json.dumps(found, indent=1) + "\n")


def words_table() -> str:
    """Return how often comparisons get a word that they should not have, and one that they should."""
    known = stored()
    rows = []
    for m, n in WORDS:
        seen = [_percent(known, "seen", (points, m, n)) for points in (1, 2, 3)]
        rows.append([str(m), str(n), _percent(known, "words", (m, n)), *seen])
    titles = ["comparisons", "seeds", "some word, none differs", *(f"{points} points seen" for points in (1, 2, 3))]
    return _table(titles, rows)


def equivalent_table() -> str:
    """Return how often comparisons are called equivalent, by what they really differ."""
    known = stored()
    rows = [
        [f"{points:g} points", *(_percent(known, "equivalent", (points, n)) for n in (10, 20))]
        for points in (1, 0.5, 0)
    ]
    return _table(["true difference", "10 seeds", "20 seeds"], rows)


def leader_table() -> str:
    """Return how often a leader is wrongly told from others."""
    said = {
        "next": "it is better than the next",
        "one": "it is better than one that was named beforehand",
        "all": "it is better than each other",
        "some": "it is better than some other",
    }
    known = stored()
    rows = [
        [
            text,
            str(m),
            *(_percent(known, "leader", (which, corrected, m, n)) for corrected in (False, True) for n in SEEDS),
        ]
        for which, text in said.items()
        for m in CANDIDATES
    ]
    columns = [f"{how}, {n} seeds" for how in ("at 5%", "as judged") for n in SEEDS]
    return _table(["said of the leader", "candidates", *columns], rows)


def intervals_table() -> str:
    """Return what share of intervals cover what they are of."""
    known = stored()
    rows = [["accuracy near 1, on the logit scale", "1", str(n), _percent(known, "covered", n)] for n in COVERED]
    rows += [["probability of improvement", str(k), str(n), _percent(known, "improved", (k, n))] for k, n in IMPROVED]
    return _table(["95% interval of", "settings", "seeds", "covers"], rows)


def _percent(known: Mapping[str, float], group: str, key: object) -> str:
    return f"{100 * known[name_of(group, key)]:.1f} %"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown(pd.DataFrame(rows, columns=list(titles)))


if __name__ == "__main__":
    store()

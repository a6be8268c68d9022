"""Differences of a table's points to one series, and the verdicts of the matrix' contrasts that ask for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.estimates import LEVEL, Difference, Estimate
from fedfore.judgement.judging import Judged, evidence, judged_of
from fedfore.judgement.sides import difference, is_metered, is_percent, side, withheld
from fedfore.judgement.verdicts import ERROR, Verdict
from fedfore.plots.study import Study
from fedfore.plots.tables.grid import Entry, Shown
from fedfore.plots.tables.point_table import SERIES, PointTable
from fedfore.plots.tables.quantities import unit_of, with_unit
from fedfore.plots.wording import UNKNOWN, interval_text
from fedfore.records.metrics import METRICS

MARKS: Mapping[Verdict, str] = {
    "better": "▲", "worse": "▼", "equivalent": "≈", "inconclusive": "\N{TILDE OPERATOR}",
}  # fmt: skip
"""The marks of verdicts."""
_REVERSED: Mapping[Verdict, Verdict] = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Minus:
    """A point minus its baseline, in the metric's unit: None where that is not known. `judged` is the matrix' contrast.

    `verdict` is that of the contrast, seen from the point.
    """

    difference: Difference | None = None
    verdict: Verdict = "not tested"
    judged: Judged | None = None


@dataclass(frozen=True)
class Differences:
    """The differences of all points of a table in a metric to the series `baseline`.

    `families` are the sizes of the matrix' families of contrasts, by name.
    """

    metric: str
    baseline: str
    minus: tuple[Minus, ...]
    families: Mapping[str, int]

    @property
    def known(self) -> list[Minus]:
        """Those that there are."""
        return [one for one in self.minus if one.difference]


def differences(study: Study, table: PointTable, metric: str, baseline: str) -> Differences:
    """Return every point minus the baseline's point that agrees with it in all but choices of a method.

    Where the baseline has the point's sparsity that is compared with, else its only one. There is no difference to a
    point that is withheld or incomplete. Raises StoreError or ConfigError for a matrix that cannot be read.
    """
    cells = evidence(study.run).set_index("cell_id", drop=False)
    stated = judged_of(study.run, cells)
    asked = {
        (frozenset(one.of.cells["cell_id"]), frozenset(one.against.cells["cell_id"])): one
        for one in stated
        if one.contrast.metric == metric and one.contrast.compare == "difference"
    }
    names = table.cells["cell_id"].to_numpy()
    ids = [list(dict.fromkeys(names[own])) for own in table.places]
    minus = []
    for place in range(len(ids)):
        opponent = _opponent(table, place, baseline)
        minus.append(Minus() if opponent is None else _minus(cells, asked, ids[place], ids[opponent], metric))
    return Differences(metric, baseline, tuple(minus), Counter(one.contrast.family for one in stated))


def _opponent(table: PointTable, place: int, baseline: str) -> int | None:
    numbers = table.numbers
    point = numbers.loc[place]
    if point[SERIES] == baseline:
        return None
    agrees = numbers[SERIES] == baseline
    for axis in table.axes:
        agrees &= True if axis in (SERIES, "sparsity") else numbers[axis] == point[axis]
    others = numbers[agrees]
    same = others[others["sparsity"] == point["sparsity"]]
    found = others if same.empty else same
    return int(found.index[0]) if len(found) == 1 else None


def _minus(
    cells: pd.DataFrame,
    asked: Mapping[tuple[frozenset[str], frozenset[str]], Judged],
    own: Sequence[str],
    other: Sequence[str],
    metric: str,
) -> Minus:
    of, against = (side(cells.loc[ids], metric) for ids in (list(own), list(other)))
    if any(True for one in (of, against) for _ in withheld(one)):
        return Minus()
    found = difference(of, against)
    sides = frozenset(own), frozenset(other)
    forward, backward = asked.get(sides), asked.get(sides[::-1])
    verdict: Verdict = forward.verdict if forward else "not tested"
    if backward and not forward:
        verdict = _REVERSED.get(backward.verdict, backward.verdict)
    return Minus(found if found.n else None, verdict, forward or backward)


def shown(own: Differences, decimals: int | None) -> Shown:
    """Return differences as a table shows them: with a sign, their interval, and the mark of a verdict."""
    unit = unit_of(own.metric, (abs(one.difference.mean) for one in own.minus if one.difference), decimals)
    entries = []
    for one in own.minus:
        if one.difference is None:
            entries.append(Entry(UNKNOWN))
            continue
        low, high = (math.nan, math.nan) if is_metered(own.metric) else one.difference.interval()
        mean = one.difference.mean
        interval = interval_text(Estimate(mean, low, high, one.difference.n), unit.text, both_ends=False)
        sign = "+" if round(mean / unit.size, unit.decimals) > 0 else ""
        entries.append(Entry(f"{sign}{unit.text(mean)}", interval, MARKS.get(one.verdict, "")))
    row = METRICS[own.metric]
    title = "points" if is_percent(own.metric) else with_unit(row.label, row.unit, unit)
    return Shown(f"Minus {own.baseline}, {title}", tuple(entries))


def difference_notes(own: Differences) -> Iterator[str]:
    """Yield what differences are, and what each mark of a verdict says and by which contrasts."""
    known = own.known
    if not known:
        yield f"Minus {own.baseline}: no point can be compared with it in {METRICS[own.metric].label}."
        return
    if is_metered(own.metric):
        yield f"Minus {own.baseline}: the mean difference over seeds."
    else:
        found = [one.difference for one in known if one.difference]
        welch = "" if all(one.paired for one in found) else ", by Welch's test where partitions differ"
        interval = (
            f", ± half of the {LEVEL:.0%} Student-t interval, not corrected for their number as verdicts are"
            if any(one.n > 1 for one in found)
            else ""
        )
        yield f"Minus {own.baseline}: paired by seed{welch}{interval}."
    marked = [one for one in known if one.judged and one.verdict in MARKS]
    words = {one.verdict for one in marked}
    said = [f"{mark} {verdict}" for verdict, mark in MARKS.items() if verdict in words]
    if said:
        contrasts = [one.judged.contrast for one in marked if one.judged]
        names = dict.fromkeys(one.family for one in contrasts)
        families = ", ".join(f"{own.families[name]} in the family {name}" for name in names)
        margins = sorted({one.margin for one in contrasts if one.margin is not None})
        within = f", equivalent within {_margins(own.metric, margins)}" if "equivalent" in words else ""
        yield (
            f"{', '.join(said)}: verdicts on contrasts that the matrix states, {families}; Holm's correction, "
            f"family-wise error {ERROR:.0%}{within}."
        )


def _margins(metric: str, margins: Sequence[float]) -> str:
    unit = unit_of(metric, margins, None)
    texts = " and ".join(unit.text(margin) for margin in margins)
    return f"{texts} points" if is_percent(metric) else f"{texts} {unit.name}"

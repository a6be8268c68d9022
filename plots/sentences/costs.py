"""What a study's series cost a device and the network: the least, the most, and what those pay that lead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from fedfore.judgement.ranking import Key
from fedfore.plots.points import points, records
from fedfore.plots.sentences.ranks import CANDIDATE, Ranked, leaders, names, with_options
from fedfore.plots.study import Study
from fedfore.plots.units import one_unit
from fedfore.records.metrics import METRICS

COSTS = ("peak_device_bytes", "device_flops_total", "total_bytes")
_SAME = 1.05
"""Costs that differ by a smaller factor are told apart in percent."""


def cost_sentences(study: Study, found: Sequence[Ranked]) -> Iterator[str]:
    """Yield what each cost is at least and at most, for every data set and model whose series are ranked.

    Over all options of a model; controls are left out, and so is a cost that is the same everywhere or known nowhere.
    """
    cells = with_options(study.cells[study.cells["trained"] & ~study.cells["control"]])
    settings = dict.fromkeys((one.dataset, one.family) for one in found)
    for dataset, model in settings:
        own = [one for one in found if (one.dataset, one.family) == (dataset, model)]
        rows = cells[(cells["dataset"] == dataset) & (cells["family"] == model)]
        table = points(rows, COSTS, by=CANDIDATE)
        where = ", ".join(
            name for name, tells in ((dataset, "dataset"), (model, "family")) if cells[tells].nunique() > 1
        )
        for metric in COSTS:
            known = table[table[metric].notna()]
            if len(known) and known[metric].max() > known[metric].min():
                yield f"{where}{': ' if where else ''}{_range(study, known, metric, own)}."


def _range(study: Study, known: pd.DataFrame, metric: str, found: Sequence[Ranked]) -> str:
    """Return the least and the most that series pay, and what those pay that lead, each in terms of the least."""
    own, leading = dict[float, list[Key]](), leaders(found)
    for row in records(known):
        own.setdefault(row[metric], []).append(tuple(row[name] for name in CANDIDATE))
    least, most = min(own), max(own)
    unit = one_unit(own, METRICS[metric].unit)
    parts = []
    for paid, keys in sorted(own.items()):
        shown = keys if paid in (least, most) else [key for key in keys if key in leading]
        if shown:
            end = {least: " at least", most: " at most"}.get(paid, "")
            lead = ", which leads" if len(shown) == 1 and shown[0] in leading else ""
            more = "" if paid == least else f"; {factor(paid, least)}"
            parts.append(f"{unit.text(paid)} {unit.name}{end} ({names(study, shown)}{lead}{more})")
    return f"{METRICS[metric].label}: {', '.join(parts)}"


def factor(value: float, least: float) -> str:
    """Return how much more a cost is than the least: "2.5 times as much", "0.2 % more"."""
    if not least > 0:
        return "which is none"
    times = value / least
    if times < _SAME:
        return f"{100 * (times - 1):.2g} % more"
    return f"{f'{times:,.0f}' if times >= 100 else f'{times:.3g}'} times as much"

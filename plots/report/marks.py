"""The marks of the report's table: which number of a row carries which, and the footnotes under the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from fedfore.judgement.sides import FAILED
from fedfore.plots.footnotes import table_notes
from fedfore.plots.mask_columns import STARVED
from fedfore.plots.points import POINT, records
from fedfore.plots.study import Study
from fedfore.plots.wording import DAGGER, DOUBLE_DAGGER, FAILED_SEEDS, OVERSPENT, STARVED_LAYER, UNCOUNTED

NAME, _ACCURACY = "name", "accuracy"
"""Stand for the name of a row and for the accuracy of a study, among the metrics whose numbers carry marks."""
_MARKS = (
    ("stale", NAME, DAGGER),
    ("starved", NAME, STARVED_LAYER),
    ("withheld", _ACCURACY, DOUBLE_DAGGER),
    ("failed", _ACCURACY, FAILED_SEEDS),
    ("uncounted", "device_flops_total", UNCOUNTED),
    ("overspent", "data_passes", OVERSPENT),
)
"""What may be said of a cell, the metric whose numbers it is said of, and the mark that says it."""


@dataclass(frozen=True)
class Marks:
    """The marks of each point by metric, and their footnotes."""

    of: Mapping[tuple[object, ...], Mapping[str, str]]
    notes: tuple[str, ...]


def marks(study: Study, cells: pd.DataFrame) -> Marks:
    """Return the marks of the points of a study, of whose cells `starved` says which masks leave a layer too little."""
    said = cells.assign(
        stale=cells["stale"] & cells["ok"],
        overspent=cells["overspent"] & cells["ok"],
        starved=cells["starved"].eq(True),
        failed=cells["status"].isin(FAILED),
        uncounted=cells["ok"] & cells["uncounted_ops"].notna() & cells["uncounted_ops"].ne(""),
    )
    flags = [name for name, _, _ in _MARKS]
    found = said.groupby(list(POINT), observed=True)[flags].any()
    of: dict[tuple[object, ...], dict[str, str]] = {}
    for row in records(found.reset_index()):
        own = of.setdefault(tuple(row[name] for name in POINT), {})
        for name, metric, mark in _MARKS:
            if row[name]:
                place = study.accuracy if metric == _ACCURACY else metric
                own[place] = own.get(place, "") + mark
    return Marks(of, (*table_notes(cells), *_notes(said)))


def _notes(said: pd.DataFrame) -> Iterator[str]:
    """Yield the footnotes on layers that are nearly empty and on operators without a count."""
    starved = said[said["starved"]]
    if len(starved):
        at = [len(starved), len(starved.drop_duplicates(list(POINT)))]
        cells, places = (f"{n} {word}{'s' if n != 1 else ''}" for n, word in zip(at, ("cell", "point"), strict=True))
        yield (
            f"{STARVED_LAYER} a mask leaves some layer at most one weight, or less than {STARVED:.1%} of them, in "
            f"{cells} at {places}."
        )
    lacking = said[said["uncounted"]].drop_duplicates(["method_label", "uncounted_ops"])
    if len(lacking):
        methods = lacking.groupby("uncounted_ops")["method_label"].agg(", ".join)
        which = "; ".join(f"{operators} ({labels})" for operators, labels in methods.items())
        yield f"{UNCOUNTED} without operators that no counter of FLOPs knew: {which}."

"""What methods were run with: every key of theirs and of the protocol, those in which they differ first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from fedfore.judgement.selection import GROUPS, short
from fedfore.plots.fields import value_label
from fedfore.plots.report.folded import Table
from fedfore.plots.study import Study
from fedfore.plots.tables.choices import choices_frame
from fedfore.plots.wording import UNKNOWN, listed

_AXES = ("sparsity_asked", "alpha", "seed", "estimator")


def settings_tables(study: Study) -> Iterator[Table]:
    """Yield a table with a method a column, one of what all methods share, and one of how series of a method differ."""
    cells = study.cells
    methods = {look.label: cells[cells["method"] == name] for name, look in study.looks.items()}
    keys = [*_AXES, *(name for group in GROUPS for name in map(str, cells) if name.startswith(group))]
    texts = {name: tuple(_values(own[name]) for own in methods.values()) for name in keys}
    known = {name: own for name, own in texts.items() if set(own) != {UNKNOWN}}
    differing = tuple((short(name), *own) for name, own in known.items() if len(set(own)) > 1)
    shared = tuple((short(name), own[0]) for name, own in known.items() if len(set(own)) == 1)
    if differing:
        yield Table("Settings in which methods differ", ("Setting", *methods), differing)
    if shared:
        title = "Settings that all methods share" if len(methods) > 1 else "Settings"
        yield Table(title, ("Setting", "Value"), shared)
    yield from _of_series(study, [name for name in keys if name.startswith(GROUPS) or name == "estimator"])


def tuning_table(study: Study) -> Table | None:
    """Return what tuning chose for every series, None where nothing was tuned or nothing is chosen yet."""
    tuning = study.run.tuning()
    if tuning is None or not tuning.choices:
        return None
    title = "Chosen on validation data, by seeds that are not reported"
    if not tuning.is_by_trials:
        title = f"Chosen by the trials of {tuning.table.get('from', 'a published study')}"
    shown = choices_frame(tuning)
    header = tuple(str(name).capitalize() for name in shown)
    return Table(title, header, tuple(shown.itertuples(index=False, name=None)))


def _of_series(study: Study, keys: list[str]) -> Iterator[Table]:
    """Yield how the series differ of the methods that have several."""
    counts = Counter(one.method for one in study.series)
    several = [one.label for one in study.series if counts[one.method] > 1]
    if not several:
        return
    rows = dict(tuple(study.cells[["series", *keys]].groupby("series", observed=True)))
    texts = {name: [_values(rows[label][name]) for label in several] for name in keys}
    differing = {name: own for name, own in texts.items() if len(set(own)) > 1}
    table = tuple((label, *(own[place] for own in differing.values())) for place, label in enumerate(several))
    yield Table("Settings of series", ("Series", *map(short, differing)), table)


def _values(column: pd.Series) -> str:
    """Return the values of a setting as text, in the plan's order."""
    return listed([value_label(value) for value in column.dropna().unique().tolist()]) or UNKNOWN

"""What `fedfore compare` finds: the contrasts of runs, every series of theirs against one, and cells that two have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from fedfore.errors import ConfigError, StoreError, suggestion
from fedfore.judgement.choices import tuned_columns
from fedfore.judgement.contrasts import Contrast, unjudged
from fedfore.judgement.judging import Judged, evidence
from fedfore.judgement.repetition import Comparison, compared, planned_records
from fedfore.judgement.sides import is_metered
from fedfore.plots.comparisons import explored
from fedfore.plots.findings import leader_sentences
from fedfore.plots.grouping import accuracy_of, as_evidence, grouped
from fedfore.plots.naming import Series
from fedfore.plots.sentences.ranks import rankings
from fedfore.plots.sentences.verdicts import certainty
from fedfore.plots.study import load_study
from fedfore.plots.tables.asked import named_series
from fedfore.records.metrics import METRICS
from fedfore.records.record import Record
from fedfore.records.store import Run

EXPLORATORY = "exploratory"
"""The family of comparisons that were chosen after looking."""


@dataclass(frozen=True)
class Section:
    """Comparisons under a title, and what is to be said of them."""

    title: str
    found: tuple[Judged, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Repeated:
    """The cells that ended well in two runs: each judged number of the first beside that of the second."""

    runs: tuple[str, str]
    cells: int
    numbers: tuple[Comparison, ...]


def sections(
    runs: Sequence[Run], baseline: str | None = None, metric: str | None = None, margin: float | None = None
) -> list[Section]:
    """Return the contrasts of runs, or with a `baseline` every series against that one.

    Raises ConfigError for a margin without a baseline or that is no positive number, and as `stated` and `against` do.
    """
    if margin is not None and not baseline:
        raise ConfigError("Margins of contrasts were fixed with their matrix; --margin goes with --baseline.")
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"The margin is {margin}; give a positive number, in the metric's unit.")
    return [against(runs, baseline, metric, margin)] if baseline else stated(runs, metric)


def stated(runs: Sequence[Run], metric: str | None) -> list[Section]:
    """Return a section a run: the contrasts of its matrix, in one metric or in all, and who leads.

    Raises StoreError or ConfigError for what cannot be read, and for a metric in which no contrast is.
    """
    studies = [load_study(run) for run in runs]
    metrics = {one.contrast.metric for study in studies for one in study.judged}
    if metric and metric not in metrics:
        raise ConfigError(f"No contrast of these runs is in {metric}; name a --baseline.{suggestion(metric, metrics)}")
    return [
        Section(
            study.run.path.resolve().name,
            tuple(one for one in study.judged if metric in (None, one.contrast.metric)),
            (certainty(study.judged), *leader_sentences(study, rankings(study))),
        )
        for study in studies
    ]


def against(runs: Sequence[Run], baseline: str, metric: str | None, margin: float | None) -> Section:
    """Return every series of some runs minus the one that is called `baseline`, or that is the only one of a method.

    They are paired wherever data set, label distribution and what the baseline varies in agree, whatever the run.
    Raises StoreError for a run that cannot be read, and ConfigError for a name that is misspelt or means several.
    """
    reason = unjudged(metric) if metric is not None else ""
    if reason:
        raise ConfigError(f"--metric: {reason}")
    cells = pd.concat([evidence(run) for run in runs], ignore_index=True)
    cells = _once(cells[cells["stage"] == "report"])
    if cells.empty:
        raise StoreError("These runs plan no cell that is reported; run their matrices.")
    own = grouped(cells, [name for run in runs for name in tuned_columns(run)])
    series = [one for one in own.series if (own.cells["series"] == one.label).any()]
    label, metric = _named(series, baseline), metric or accuracy_of(own.cells)
    asked = [
        Contrast(one.label, {"series": one.label}, {"series": label}, metric, margin=margin, family=EXPLORATORY)
        for one in series
        if one.label != label
    ]
    found = explored(as_evidence(own.cells), asked)
    judged = {one.contrast.name for one in found}
    apart = [one.name for one in asked if one.name not in judged]
    correction = f" Holm's correction is over the {len(found)} comparisons printed here."
    notes = [f"Exploratory: chosen after looking.{'' if is_metered(metric) else correction}"]
    notes += [f"Not compared, since no setting of theirs is one of {label}: {', '.join(apart)}."] if apart else []
    controls = [one.label for one in series if one.control]
    notes += [f"Controls, which compete with nobody: {', '.join(controls)}."] if controls else []
    return Section(f"{METRICS[metric].label}, minus {label}", tuple(found), tuple(notes))


def _once(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with each cell once, from the first run in which it ended well, if there is one."""
    order = (cells["status"] != "ok").sort_values(kind="stable").index
    return cells.loc[order].drop_duplicates("cell_id").sort_index().reset_index(drop=True)


def _named(series: Sequence[Series], name: str) -> str:
    own = [one.label for one in series if one.method == name]
    if len(own) > 1 and name not in own:
        raise ConfigError(f'"{name}" may be {" or ".join(own)}; write one of them whole.')
    labels, methods = [one.label for one in series], {one.method for one in series}
    return own[0] if len(own) == 1 else named_series(labels, name, methods)


def repeated(runs: Sequence[Run]) -> Iterator[Repeated]:
    """Yield the cells that each two of these runs have both, where there are any."""
    known = [{one.cell_id: one for one in planned_records(run) if one.status == "ok"} for run in runs]
    for (run, first), (other, again) in combinations(zip(runs, known, strict=True), 2):
        both = [cell_id for cell_id in first if cell_id in again]
        if both:
            numbers = tuple(_numbers(both, first, again))
            yield Repeated((_name(run), _name(other)), len(both), numbers)


def _numbers(both: Sequence[str], first: Mapping[str, Record], again: Mapping[str, Record]) -> Iterator[Comparison]:
    peers = list(first.values())
    for cell_id in both:
        yield from compared(first[cell_id], again[cell_id], peers)


def _name(run: Run) -> str:
    return run.path.resolve().name

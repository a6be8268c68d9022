"""The columns of the report's table: which numbers it shows of what kind of study, and how they are written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedfore.judgement.estimates import Estimate
from fedfore.plots.mask_columns import LEFT
from fedfore.plots.points import records
from fedfore.plots.report.verdicts import Told
from fedfore.plots.study import Study
from fedfore.plots.units import in_one_unit
from fedfore.plots.wording import UNKNOWN, difference_text, is_percent, percent_text
from fedfore.records.metrics import METRICS

_WORST = "client_accuracy_min"
_COSTS = ("peak_device_bytes_setup", "peak_device_bytes_train", "device_flops_total", "total_bytes", "data_passes")
_METERED = ("device_step_flops", "uplink_bytes_per_client_round", "downlink_bytes_per_client_round")
"""What is known of a device that trained nothing."""
DIFFERENCE, VERDICT = "difference", "verdict"
"""The names of the columns that compare."""
_ARROWS = {"higher": "↑", "lower": "↓", "descriptive": ""}


@dataclass(frozen=True)
class Value:
    """What stands in a cell: a text, marks, and the number that sorts its column, None where nothing is known."""

    text: str
    order: float | None
    marks: str = ""


@dataclass(frozen=True)
class Column:
    """A column of numbers: its metric or another name, its title, and its unit with an arrow to the better end."""

    name: str
    title: str
    unit: str = ""


def shown_metrics(study: Study) -> list[str]:
    """Return the metrics that the table of a study shows where some cell knows them."""
    masks = () if study.cells["trained"].any() else LEFT
    metered = _METERED if study.cells["metered"].any() else ()
    return [study.accuracy, _WORST, *masks, *_COSTS, *metered]


def columns(
    study: Study, numbers: pd.DataFrame, differences: Sequence[Estimate | None], verdicts: Sequence[Sequence[Told]]
) -> Iterator[tuple[Column, list[Value]]]:
    """Yield the columns in their order, each with a value a row of `numbers`; none is unknown or 0 in all rows.

    `differences` are those to the study's reference, `verdicts` those of contrasts, an entry a row.
    """
    for metric in shown_metrics(study):
        if numbers[metric].fillna(0.0).any():
            yield _column(metric, numbers)
        if metric == study.accuracy and study.reference and any(differences):
            yield Column(DIFFERENCE, f"Minus {study.reference.label}", "points"), list(map(_difference, differences))
        if metric == study.accuracy and any(verdicts):
            yield Column(VERDICT, "Verdict"), list(map(_verdict, verdicts))
    yield Column("seeds", "Seeds", "ok / planned"), list(map(_seeds, records(numbers)))


_NONE = Value(UNKNOWN, None)


def _value(text: str, number: float) -> Value:
    return Value(text, float(number)) if number == number else _NONE


def _column(metric: str, numbers: pd.DataFrame) -> tuple[Column, list[Value]]:
    title, arrow = LEFT.get(metric, ""), ""
    if metric in METRICS:
        title, arrow = title or METRICS[metric].label, _ARROWS[METRICS[metric].direction]
    if metric in LEFT or is_percent(metric):
        unit, texts = "%", [_percent(row, metric) for row in records(numbers)]
    else:
        stored = METRICS[metric].unit
        unit, texts = in_one_unit(numbers[metric], stored)
        unit = "" if unit == stored else unit
        texts = [text if value else "0" for text, value in zip(texts, numbers[metric], strict=True)]
    return Column(metric, title, f"{unit} {arrow}".strip()), list(map(_value, texts, numbers[metric]))


def _percent(point: Mapping[str, Any], metric: str) -> str:
    """Return a fraction in percent; the interval of the worst client is left to the CSV."""
    return percent_text(point[metric], math.nan if metric == _WORST else point[f"{metric}_half_width"])


def _difference(one: Estimate | None) -> Value:
    return _value(difference_text(one), one.mean) if one else _NONE


def _verdict(told: Sequence[Told]) -> Value:
    return Value("; ".join(one.text for one in told), float(min(one.rank for one in told))) if told else _NONE


def _seeds(point: Mapping[str, Any]) -> Value:
    return Value(f"{point['n_ok']} / {point['n_planned']}", float(point["n_ok"]))

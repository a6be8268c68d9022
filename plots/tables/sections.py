"""Sections of comparisons as Markdown and HTML for people, and as rows for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from fedfore.judgement.judging import Judged, setting_text
from fedfore.judgement.repetition import Agreement
from fedfore.judgement.selection import column, short
from fedfore.plots.judged_rows import judged_rows, margin_text, measured_text, verdict_text
from fedfore.plots.tables.compared import EXPLORATORY, Repeated, Section
from fedfore.records.markup import html, in_html, literal, markdown

_CONSTANT = ("metric", "family")
"""Columns that are left out where all rows have the same."""
_AGREEMENTS: tuple[Agreement, ...] = ("equal", "within", "different")


class Row(NamedTuple):
    """A comparison as a row of a table, its value and interval in the metric's unit or as a ratio."""

    section: str
    contrast: str
    family: str
    exploratory: bool
    setting: str
    metric: str
    compare: str
    seeds: int
    paired: bool | None
    value: float
    low: float
    high: float
    level: float
    p: float | None
    margin: float | None
    verdict: str
    reason: str
    remarks: str


def as_text(sections: Sequence[Section], repeated: Sequence[Repeated], by: str | None = None) -> str:
    """Return sections and cells of two runs in Markdown, with the values of the setting `by` as columns.

    Raises ConfigError for a setting that is misspelt.
    """
    return "\n".join([*(_section(one, by) for one in sections), *(_repeated(one) for one in repeated)])


def as_html(sections: Sequence[Section]) -> str:
    """Return sections in HTML without a style of its own."""
    parts = []
    for section in sections:
        table = _told(judged_rows(section.found))
        rows = table.map(in_html).to_numpy().tolist()
        parts += [f"<p><b>{in_html(section.title)}</b></p>"]
        parts += [html(list(map(str, table)), rows, len(table.columns))] if rows else []
        parts += [f"<p><small>{in_html(note)}</small></p>" for note in section.notes]
    return "\n".join(parts)


def _section(section: Section, by: str | None) -> str:
    table = _told(pd.DataFrame(_by(section.found, by)).fillna("") if by else judged_rows(section.found))
    parts = [f"## {literal(section.title)}\n"]
    parts += [markdown(table.map(literal))] if len(table) else []
    margins = dict.fromkeys(margin_text(one) for one in section.found if by and one.contrast.margin)
    notes = [*section.notes, *(f"Equivalent within {margin}." for margin in margins)]
    return "\n".join([*parts, *(f"{literal(note)}\n" for note in notes)])


def _told(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without columns that say nothing."""
    plain = [name for name in _CONSTANT if name in table and table[name].nunique() == 1]
    return table[[name for name in table if table[name].any() and name not in plain]]


def _by(found: Sequence[Judged], by: str) -> list[dict[str, str]]:
    """Return a row a contrast and other settings, with a column a value of the setting `by`."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for one in found:
        name = short(column(one.of.cells, by))
        others = setting_text({key: value for key, value in one.pairing.setting.items() if key != name})
        row = rows.setdefault((one.contrast.name, others), {"contrast": one.contrast.name, "setting": others})
        values = one.of.cells[column(one.of.cells, by)].drop_duplicates().tolist()
        measured = f"{measured_text(one)}, " if one.difference and not one.reason else ""
        row[" and ".join(setting_text({name: value}) for value in values)] = f"{measured}{verdict_text(one)}"
    return list(rows.values())


def _repeated(one: Repeated) -> str:
    """Return how many numbers of the cells that two runs have are equal, within the interval of seeds, or different."""
    first, second = one.runs
    counts = Counter(number.verdict for number in one.numbers)
    head = f"{one.cells} cells ended well in both: of {len(one.numbers)} numbers " + ", ".join(
        f"{counts[agreement]} {'are ' if agreement == 'equal' else ''}{agreement}" for agreement in _AGREEMENTS
    )
    own: dict[str, Counter[Agreement]] = {}
    for number in one.numbers:
        own.setdefault(number.metric, Counter())[number.verdict] += 1
    rows = [
        {"metric": metric, **{name: str(found[name]) for name in _AGREEMENTS}}
        for metric, found in own.items()
        if found["equal"] < found.total()
    ]
    parts = [f"## The same cells in {literal(first)} and {literal(second)}\n", f"{head}.\n"]
    return "\n".join(parts + ([markdown(pd.DataFrame(rows).map(literal))] if rows else []))


def as_rows(sections: Sequence[Section]) -> pd.DataFrame:
    """Return a row a comparison with its numbers in full precision, in the metric's unit or as a ratio."""
    return pd.DataFrame(
        [_row(section.title, one) for section in sections for one in section.found], columns=[*Row._fields]
    )


def _row(title: str, one: Judged) -> Row:
    asked, found = one.contrast, one.difference
    low, high = one.interval()
    return Row(
        section=title,
        contrast=asked.name,
        family=asked.family,
        exploratory=asked.family == EXPLORATORY,
        setting=setting_text(one.pairing.setting),
        metric=asked.metric,
        compare=asked.compare,
        seeds=found.n if found else 0,
        paired=found.paired if found else None,
        value=one.value,
        low=low,
        high=high,
        level=one.level,
        p=found.p if found else None,
        margin=asked.margin,
        verdict=one.verdict,
        reason=one.reason,
        remarks="; ".join(one.remarks),
    )

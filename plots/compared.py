"""Runs against one another: what their matrices ask, every series against one, and cells that several of them have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.judgement.contrasts import Contrast, problem
from fedfore.judgement.estimates import estimate
from fedfore.judgement.judging import Judged, judged, judged_of
from fedfore.judgement.selection import GROUPS, settings, short
from fedfore.judgement.sides import side
from fedfore.plots.judged_rows import judged_rows, measured_text
from fedfore.plots.study import Study
from fedfore.plots.tables.asked import named_series, setting_column
from fedfore.plots.wording import alpha_label

EXPLORED = "chosen after looking"
"""The family of what no matrix asked."""


@dataclass(frozen=True)
class Repeated:
    """A cell that two runs have: its value in both, and how they lie to each other.

    `equal`; else `within` the 95% interval of the first run's seeds of that setting; else `different`.
    """

    cell_id: str
    first: float
    second: float
    verdict: str


def stated(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Return a row a comparison that the matrices of these runs ask for, with its verdict.

    Raises ConfigError where none of them asks anything.
    """
    asked = {name: judged_of(study.run, study.evidence) for name, study in studies.items()}
    parts = [judged_rows(found).assign(run=name) for name, found in asked.items() if found]
    if not parts:
        raise ConfigError(
            f"No matrix of {', '.join(studies)} states a contrast; name a series to compare with by --baseline."
        )
    table = pd.concat(parts, ignore_index=True).fillna("")
    return _with_runs(table, studies)


def against(
    studies: Mapping[str, Study], baseline: str, metric: str, margin: float | None, by: str | None
) -> pd.DataFrame:
    """Return a row a series, each minus the series `baseline` in a metric; `by` puts that axis into columns.

    Series of several runs are named by run and label. All are one family, and no matrix asked for it. Raises
    ConfigError for a series or an axis that is not there, and where nothing can be compared.
    """
    cells = _together(studies)
    labels = list(dict.fromkeys(cells["series"]))
    other = named_series(labels, baseline)
    own = [name for name in settings(cells) if name.startswith(GROUPS)]
    asked = [
        Contrast(label, {"series": label}, {"series": other}, metric, margin=margin, family=EXPLORED)
        for label in labels
        if label != other
    ]
    found = judged(cells, [one for one in asked if not problem(cells, one, own)], own)
    if not found:
        raise ConfigError(f"No series of {', '.join(studies)} shares a setting with {other}; name another --baseline.")
    if by is None:
        return judged_rows(found).rename(columns={"contrast": f"series minus {other}"})
    return _by(found, short(setting_column(cells, by)), other)


def _by(found: Sequence[Judged], axis: str, other: str) -> pd.DataFrame:
    rows = []
    for one in found:
        setting = {name: value for name, value in one.pairing.setting.items() if name != axis}
        place = one.pairing.setting.get(axis, one.of.cells[axis].iloc[0] if axis in one.of.cells else "")
        text = ", ".join(f"{name} {value}" for name, value in setting.items())
        verdict = f"not tested: {one.reason}" if one.reason else one.verdict
        said = "; ".join(filter(None, (measured_text(one), verdict)))
        rows.append({"series": one.contrast.name, "setting": text, axis: _value(axis, place), "said": said})
    table = pd.DataFrame(rows)
    order = list(dict.fromkeys(table[axis]))
    wide = table.pivot(index=["series", "setting"], columns=axis, values="said")[order].fillna("").reset_index()
    titles = {value: value if axis == "alpha" else f"{axis} {value}" for value in order}
    wide = wide.rename(columns={"series": f"series minus {other}", **titles})
    return wide if wide["setting"].any() else wide.drop(columns="setting")


def _value(axis: str, value: object) -> str:
    return alpha_label(value) if axis == "alpha" else f"{value:g}" if isinstance(value, float) else str(value)


def _together(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Return the evidence of all runs in one table, their series named by run where there are several."""
    parts = []
    for name, study in studies.items():
        own = study.evidence
        parts.append(own.assign(series=[f"{name}: {label}" for label in own["series"]]) if len(studies) > 1 else own)
    return pd.concat([part.assign(series=part["series"].astype(str)) for part in parts], ignore_index=True)


def repeated(studies: Mapping[str, Study], metric: str) -> Iterator[tuple[str, str, list[Repeated]]]:
    """Yield, of each two runs, their names and the cells that both of them ended well."""
    for (first, one), (second, other) in combinations(studies.items(), 2):
        known, again = (_known(study, metric) for study in (one, other))
        both = [cell_id for cell_id in known.index if cell_id in again.index]
        if both:
            yield first, second, [_repeated(one, name, metric, known[name], again[name]) for name in both]


def _known(study: Study, metric: str) -> pd.Series[float]:
    ok = study.ok.set_index("cell_id")[metric]
    return pd.to_numeric(ok).dropna()


def _repeated(study: Study, cell_id: str, metric: str, first: float, second: float) -> Repeated:
    if first == second:
        return Repeated(cell_id, first, second, "equal")
    cells = study.ok
    own = cells[cells["cell_id"] == cell_id].iloc[0]
    point = cells[(cells["series"] == own["series"]) & (cells["alpha"] == own["alpha"])]
    point = point[(point["sparsity"] == own["sparsity"]) & (point["dataset"] == own["dataset"])]
    found = estimate(side(study.evidence.loc[point[point["model"] == own["model"]].index], metric).values.dropna())
    return Repeated(cell_id, first, second, "within" if found.low <= second <= found.high else "different")


def _with_runs(table: pd.DataFrame, studies: Mapping[str, Study]) -> pd.DataFrame:
    """Return the table with its runs first, or without them where there is one."""
    rest = table.drop(columns="run")
    return pd.concat([table[["run"]], rest], axis=1) if len(studies) > 1 else rest

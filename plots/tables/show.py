"""What `fedfore show` prints of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from fedfore.errors import printable
from fedfore.plots.footnotes import table_notes
from fedfore.plots.study import Study, load_study
from fedfore.plots.tables.exports import EXPORTS
from fedfore.plots.tables.summary import POINT_TITLES, mask_tables, presentable, summary
from fedfore.records.markup import escaped, latex, literal, markdown
from fedfore.records.store import load_table, open_run


def _markdown(shown: pd.DataFrame) -> str:
    return markdown(shown.map(literal))


def _latex(shown: pd.DataFrame) -> str:
    return latex(shown, words=len(POINT_TITLES))


_OF_STUDY: Mapping[str, Callable[[pd.DataFrame], str]] = {"markdown": _markdown, "latex": _latex}
_NOTE: Mapping[str, Callable[[str], str]] = {"markdown": "{}\n".format, "latex": lambda note: f"{escaped(note)}\n"}
_REASON: Mapping[str, Callable[[str], str]] = {"markdown": "- {}".format, "latex": "% {}".format}
FORMATS = (*_OF_STUDY, *EXPORTS)


def _unfinished(study: Study) -> list[str]:
    """Return a line on each reason for which cells have no result, the most frequent first."""
    cells = study.cells[~study.cells["ok"]].fillna({"reason": "no reason recorded"})
    groups = [(tuple(map(str, key)), list(names)) for key, names in cells.groupby(["status", "reason"])["series"]]
    return [
        f"{len(names)} {status.replace('_', ' ')}: {printable(reason)} ({', '.join(sorted(set(names)))})"
        for (status, reason), names in sorted(groups, key=lambda group: -len(group[1]))
    ]


def render(run: Path, format: str, *, reasons: bool = False) -> str | bytes:
    """Return a run as `markdown` or `latex` (the summary) or as `csv`, `json` or `parquet` (one row a planned cell).

    The tables of masks follow the summary of a run that trains nothing, then footnotes and, if `reasons` are asked for,
    those of cells without a result. LaTeX needs the package booktabs. Raises StoreError for an unreadable run, or where
    pyarrow is missing for parquet.
    """
    if format in _OF_STUDY:
        study = load_study(run)
        masks = () if study.cells["trained"].any() else mask_tables(study)
        tables = [_OF_STUDY[format](shown) for shown in (presentable(summary(study.cells)), *masks)]
        notes = table_notes(study.cells)
        unfinished = [_REASON[format](line) for line in _unfinished(study)] if reasons else []
        return "\n".join([*tables, *(_NOTE[format](note) for note in notes), *unfinished])
    return EXPORTS[format](load_table(open_run(run)))

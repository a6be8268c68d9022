"""What `fedfore show` prints of a run: a table for readers, or tidy rows for other programs."""

from __future__ import annotations

from pathlib import Path

from fedfore.errors import ConfigError
from fedfore.plots.study import load_study
from fedfore.plots.tables.asked import Asked
from fedfore.plots.tables.exports import EXPORTS
from fedfore.plots.tables.forms import FORMS
from fedfore.plots.tables.lines import CELLS, line_rows
from fedfore.plots.tables.page import line_page, page
from fedfore.records.store import Run, load_table, open_run

FORMATS = (*FORMS, *EXPORTS)
_EVERYTHING = Asked()


def render(
    run: Path | Run, form: str, asked: Asked = _EVERYTHING, *, rows: str = CELLS, reasons: bool = False
) -> str | bytes:
    """Return a run as a table in a form of `FORMS`, or all of its rows as a file of `EXPORTS`.

    `rows` are its cells or a kind of their lines (`fedfore.plots.tables.lines.KINDS`). A file has one row a planned
    cell or a line, and every field. A table has means over seeds, footnotes and, if `reasons` are asked for, those of
    cells without a result; LaTeX needs the package booktabs. Raises StoreError for an unreadable run, or where pyarrow
    is missing for parquet; ConfigError for a name that the run does not know, and for a file in a table's shape.
    """
    if form in EXPORTS:
        if asked != _EVERYTHING:
            raise ConfigError(f"--{form} has every field of every row; shape a table with --markdown or --latex.")
        opened = open_run(run)
        return EXPORTS[form](load_table(opened) if rows == CELLS else line_rows(opened, rows))
    study = load_study(run)
    return FORMS[form](page(study, asked, reasons=reasons) if rows == CELLS else line_page(study, rows, asked))

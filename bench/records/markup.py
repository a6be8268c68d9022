"""Tables of texts as Markdown, LaTeX and plain text. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from tabulate import DataRow, TableFormat

from fedfore.errors import printable

_ROW = DataRow("| ", " | ", " |")
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\`*<"})
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"\S{}",
    "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$", "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
})  # fmt: skip


def markdown(table: pd.DataFrame, words: int | None = None) -> str:
    """Return a table whose titles and cells are Markdown, in GitHub's form; a bar in a cell stays a bar.

    Its first columns, `words` of them or all, are words, the others numbers. Cells are not padded, so that a long one
    changes the line of its own row alone.
    """
    cells = table.map(_cell)
    cells.columns = [_cell(title) for title in table.columns]
    left = len(table.columns) if words is None else words
    rule = "| " + " | ".join("---" if place < left else "--:" for place in range(len(table.columns))) + " |"
    form = TableFormat(None, lambda widths, alignments: rule, None, None, _ROW, _ROW, padding=0, with_header_hide=None)
    text = cells.to_markdown(index=False, tablefmt=form, stralign=None, numalign=None, disable_numparse=True)
    return f"{text}\n"


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def literal(text: str) -> str:
    """Return Markdown that reads as the text itself."""
    return printable(text).translate(_MARKDOWN)


def latex(table: pd.DataFrame, words: int) -> str:
    """Return a table of texts in LaTeX, for the package booktabs; its first columns, `words` of them, stand left."""
    cells = table.map(escaped)
    cells.columns = [escaped(title) for title in table.columns]
    columns = "l" * words + "r" * (len(table.columns) - words)
    return cells.style.hide(axis="index").to_latex(hrules=True, column_format=columns)


def escaped(text: str) -> str:
    """Return LaTeX that reads as the text itself."""
    return printable(text).translate(_LATEX)


def plain(rows: Sequence[Sequence[str]], alignments: Sequence[str]) -> str:
    """Return rows of texts in aligned columns, `left` or `right`, without titles; blanks before a text stay."""
    return pd.DataFrame(rows).to_markdown(
        index=False, headers=(), tablefmt="plain", colalign=alignments, disable_numparse=True, preserve_whitespace=True
    )

"""Tables of texts as Markdown, LaTeX, HTML and plain text. No torch."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Collection, Iterator, Sequence
from html import escape

import pandas as pd
from tabulate import SEPARATING_LINE, DataRow, TableFormat, tabulate

from fedfore.errors import printable

_ROW = DataRow("| ", " | ", " |")
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\`*<"})
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "*": "{*}",
    "±": r"$\pm$", "\N{MULTIPLICATION SIGN}": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "²": "$^2$",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"\S{}", "¶": r"\P{}", "‖": r"$\parallel$",
    "▲": r"$^{\bigtriangleup}$", "▼": r"$^{\bigtriangledown}$", "≈": r"$\approx$", "\N{TILDE OPERATOR}": r"$\sim$",
    "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$", "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
})  # fmt: skip
_TIE = "\N{NO-BREAK SPACE}"
_LEAST_WIDTH = 10
"""Letters at which the titles of plain text may break into lines."""


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


def latex(
    heads: Sequence[str], titles: Sequence[str], rows: Sequence[Sequence[str]], words: int, blocks: Collection[int] = ()
) -> str:
    """Return a table whose titles and cells are LaTeX, for the package booktabs.

    `heads` and `titles` are one a column: neighbours of one head have it once above their titles, "" is none. The first
    columns, `words` of them, stand left, the others right. A rule stands before each row at a place in `blocks`.
    """
    lines = [r"\begin{tabular}{" + "l" * words + "r" * (len(titles) - words) + "}", r"\toprule"]
    lines += [*_heads(heads), _line(titles), r"\midrule"]
    for place, row in enumerate(rows):
        lines += [r"\midrule", _line(row)] if place in blocks else [_line(row)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _heads(heads: Sequence[str]) -> Iterator[str]:
    """Yield the line of heads over several columns and the rules under them, nothing where there is none."""
    texts, rules, first = [], [], 1
    for head, own in itertools.groupby(heads):
        width = len(list(own))
        texts += [rf"\multicolumn{{{width}}}{{c}}{{{head}}}"] if head else [""] * width
        rules += [rf"\cmidrule(lr){{{first}-{first + width - 1}}}"] if head else []
        first += width
    if rules:
        yield _line(texts)
        yield " ".join(rules)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def escaped(text: str) -> str:
    """Return LaTeX that reads as the text itself."""
    return printable(text).translate(_LATEX)


def html(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """Return a table of texts as titles and of HTML as cells; the first columns, `words` of them, stand left."""
    sides = ["left"] * words + ["right"] * (len(titles) - words)
    heads = [in_html(title) for title in titles]
    return str(tabulate(rows, heads, tablefmt="unsafehtml", colalign=sides, disable_numparse=True))


def in_html(text: str) -> str:
    """Return HTML that reads as the text itself."""
    return escape(printable(text))


def plain(rows: Sequence[Sequence[str]], alignments: Sequence[str]) -> str:
    """Return rows of texts in aligned columns, `left` or `right`, without titles; blanks before a text stay."""
    return pd.DataFrame(rows).to_markdown(
        index=False, headers=(), tablefmt="plain", colalign=alignments, disable_numparse=True, preserve_whitespace=True
    )


def aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int, blocks: Collection[int] = ()) -> str:
    """Return a table of texts for a terminal, its titles in lines no longer than what stands under them.

    The first columns, `words` of them, stand left, the others right; a rule stands before the rows at `blocks`.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(titles)
    widths = [max([_LEAST_WIDTH, *map(len, column)]) for column in columns]
    heads = ["\n".join(lines_of(title, width)) for title, width in zip(titles, widths, strict=True)]
    lines: list[object] = []
    for place, row in enumerate(rows):
        lines += [SEPARATING_LINE] if place in blocks else []
        lines.append([printable(text) for text in row])
    sides = ["left"] * words + ["right"] * (len(titles) - words)
    return tabulate(lines, heads, tablefmt="simple", colalign=sides, headersalign=sides, disable_numparse=True) + "\n"


def lines_of(title: str, width: int) -> list[str]:
    """Return a title in lines of at most that many letters; words stay whole, arrows and equations stay together."""
    tied = re.sub(r" (?=[↑↓=])|(?<==) ", _TIE, printable(title))
    return [line.replace(_TIE, " ") for line in textwrap.wrap(tied, width, break_long_words=False)] or [""]

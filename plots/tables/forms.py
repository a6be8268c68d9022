"""The forms in which a table is shown: for a terminal, as Markdown, as LaTeX, in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.plots.tables.grid import Entry, Grid
from fedfore.records.markup import aligned, escaped, html, in_html, latex, lines_of, literal, markdown

STAR = "*"
"""Stands in a terminal for bold letters."""
_TITLE_WIDTH = 14
"""Letters of a title in LaTeX after which it goes on in the next line."""


@dataclass(frozen=True)
class Page:
    """A table with what is said under it: `best` of what stands out, then `notes`, then why cells have no result."""

    grid: Grid
    best: str = ""
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    caption: str | None = None
    label: str | None = None


def as_plain(page: Page) -> str:
    """Return a page for a terminal, where a star stands behind the best values."""
    own = page.grid
    rows = [[_plain_entry(entry) for entry in row] for row in _without_repeats(own)]
    text = aligned([column.full_title for column in own.columns], rows, own.words, own.blocks)
    best = [f"{STAR} {page.best}"] if page.best else []
    head = [f"{page.caption}\n"] if page.caption else []
    return "\n".join([*head, text, *best, *page.notes, *(f"- {reason}" for reason in page.reasons), ""])


def as_markdown(page: Page) -> str:
    """Return a page in GitHub's Markdown."""
    own = page.grid
    rows = [[_markdown_entry(entry) for entry in row] for row in own.rows]
    titles = [literal(column.full_title) for column in own.columns]
    parts = [f"{literal(page.caption)}\n"] if page.caption else []
    parts.append(markdown(pd.DataFrame(rows, columns=titles), own.words))
    parts += [f"**Bold**: {literal(page.best)}\n"] if page.best else []
    return "\n".join([*parts, *(f"{literal(note)}\n" for note in page.notes), *map("- {}\n".format, page.reasons)])


def as_latex(page: Page) -> str:
    """Return a page in LaTeX, for the package booktabs: a float where it has a caption."""
    own = page.grid
    widest = [max((row[place].marks for row in own.rows), key=len, default="") for place in range(len(own.columns))]
    rows = [
        [_latex_entry(entry, widest[place] if place >= own.words else "") for place, entry in enumerate(row)]
        for row in _without_repeats(own)
    ]
    sides = "l" * own.words + "r" * (len(own.columns) - own.words)
    titles = [_latex_title(one.title, _TITLE_WIDTH, side) for one, side in zip(own.columns, sides, strict=True)]
    heads = [_latex_title(column.head, 2 * _TITLE_WIDTH, "c") for column in own.columns]
    table = latex(heads, titles, rows, own.words, own.blocks)
    best = [rf"\textbf{{Bold}}: {escaped(page.best)}"] if page.best else []
    notes = [*best, *map(escaped, page.notes)]
    reasons = [f"% {reason}\n" for reason in page.reasons]
    if page.caption is None:
        return "\n".join([table, *(f"{note}\n" for note in notes), *reasons])
    head = [r"\begin{table}", r"\centering", rf"\caption{{{escaped(page.caption)}}}"]
    head += [rf"\label{{{page.label}}}"] if page.label else []
    under = [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", *(rf"{note}\par" for note in notes)]
    return "\n".join([*head, table.rstrip(), *under, r"\end{minipage}", r"\end{table}", "", *reasons])


def as_html(page: Page) -> str:
    """Return a page as HTML without a style of its own."""
    own = page.grid
    rows = [[_html_entry(entry) for entry in row] for row in own.rows]
    table = html([column.full_title for column in own.columns], rows, own.words)
    head = [f"<p>{in_html(page.caption)}</p>"] if page.caption else []
    best = [f"<b>Bold</b>: {in_html(page.best)}"] if page.best else []
    under = [*best, *map(in_html, page.notes), *map(in_html, page.reasons)]
    return "\n".join([*head, table, *(f"<p><small>{note}</small></p>" for note in under), ""])


FORMS: Mapping[str, Callable[[Page], str]] = {
    "plain": as_plain,
    "markdown": as_markdown,
    "latex": as_latex,
    "html": as_html,
}


def _without_repeats(own: Grid) -> Iterator[list[Entry]]:
    """Yield the rows, without the words that a row repeats of the one above it."""
    before: Sequence[Entry] = ()
    for row in own.rows:
        shared = 0
        while shared < min(own.words - 1, len(before)) and row[shared] == before[shared]:
            shared += 1
        yield [*(Entry("") for _ in range(shared)), *row[shared:]]
        before = row


def _joined(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _plain_entry(entry: Entry) -> str:
    return _joined(f"{entry.text}{STAR}" if entry.best else entry.text, entry.interval, entry.marks)


def _markdown_entry(entry: Entry) -> str:
    text = literal(entry.text)
    return _joined(f"**{text}**" if entry.best else text, entry.interval, entry.marks)


def _html_entry(entry: Entry) -> str:
    text = in_html(entry.text)
    return _joined(f"<b>{text}</b>" if entry.best else text, in_html(entry.interval), in_html(entry.marks))


def _latex_entry(entry: Entry, widest: str) -> str:
    """Return an entry, with room for the widest marks of a column of numbers, so that they stand in line."""
    text = rf"\textbf{{{escaped(entry.text)}}}" if entry.best else escaped(entry.text)
    small = entry.interval.startswith("[")
    interval = rf"{{\scriptsize {escaped(entry.interval)}}}" if small else escaped(entry.interval)
    marks = escaped(entry.marks)
    if not widest:
        return _joined(text, interval, marks)
    return _joined(text, interval) + (rf"\rlap{{ {marks}}}" if marks else "") + rf"\hphantom{{ {escaped(widest)}}}"


def _latex_title(title: str, width: int, side: str) -> str:
    """Return a title in lines of about that many letters, one over the other."""
    lines = [escaped(line) for line in lines_of(title, width)]
    return rf"\shortstack[{side}]{{" + r" \\ ".join(lines) + "}" if len(lines) > 1 else lines[0]

"""The first card of a study that is published: what its records say, and where its author has to write."""

from __future__ import annotations

import shlex
from pathlib import Path

from fedfore.judgement.judging import contrasts_of
from fedfore.plots.cards.facts import CARD
from fedfore.plots.cards.figures import FIGURES
from fedfore.plots.cards.markers import marked
from fedfore.plots.cards.pages import FACTS, PAGE, SUMMARY, VERDICTS
from fedfore.plots.figures import plan_figures
from fedfore.plots.study import load_study
from fedfore.records.packed import MATRIX
from fedfore.records.store import open_run, write_atomically

_CARD = """\
# What a study asks, and its tables: see `plots/cards/specification.py`.
question = "{question}"
"""
_PAGE = """\
# {name}

{question}

{facts}

## What was measured

{shown}

## What this says, and what its scale cannot tell

Nothing has been concluded from these records yet.
"""
_UNCHOSEN = "The trials of tuning have not all ended, so that nothing is reported yet."


def write_card(study: Path, question: str = "What does this study ask?") -> bool:
    """Write the card of a published study, finished or not, where it has none; return whether it had none.

    The new card has tables of what the records say (of an unfinished study: "k of n cells, no verdicts"), of the
    verdicts of the matrix' contrasts where it states some, and shows every figure that can be drawn; while the trials
    of tuning have not all ended there are none. `fedfore.plots.cards.pages.refresh` fills and draws them. No number
    stands outside of them.
    """
    page, card = study / PAGE, study / CARD
    is_new = not (page.exists() and card.exists())
    if not card.exists():
        write_atomically(card, _CARD.format(question=question) + _command(study))
    if not page.exists():
        write_atomically(page, _new_page(study, question))
    return is_new


def _command(study: Path) -> str:
    """Return the line on how a study runs again by its own matrix, unless its command named that of its own name."""
    if study.name in shlex.split(" ".join(open_run(study).commands()[-1:])):
        return ""
    again = f"fedfore run results/{study.name}/{MATRIX} --out results/runs/{study.name}"
    return f'command = "{again}"\n'


def _new_page(study: Path, question: str) -> str:
    run = open_run(study)
    shown = [_UNCHOSEN]
    if any(cell.stage == "report" for cell in run.plan()):
        tables = [SUMMARY, *([VERDICTS] if contrasts_of(run) else [])]
        figures = [f"![{one.title}]({FIGURES}/{one.name}.png)" for one in plan_figures(load_study(study))]
        shown = [*(marked(table, "") for table in tables), "\n".join(figures)]
    return _PAGE.format(name=study.name, question=question, facts=marked(FACTS, ""), shown="\n\n".join(shown))

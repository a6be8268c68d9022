"""Every figure of every matrix that ships is readable in one column of a paper, with and without its title."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fedfore.matrices import named_matrices
from fedfore.plots.drawing.style import COLUMN_WIDTH
from fedfore.plots.figures import plan_figures
from fedfore.plots.study import load_study
from fedfore.plots.view import Options
from tests.drawn import assert_readable, notes
from tests.shipped import write_shipped

FAST = ("masks-or-scale",)
"""What is drawn before every commit; all others are drawn before a release."""


@pytest.mark.parametrize(
    "matrix", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(named_matrices())]
)
@pytest.mark.thorough
def test_every_figure_of_a_shipped_matrix_is_readable_in_a_column_and_says_its_message_and_n(
    matrix: str, tmp_path: Path
) -> None:
    write_shipped(tmp_path, matrix)
    study = load_study(tmp_path)
    planned = [plan_figures(study, Options(COLUMN_WIDTH, title=title)) for title in (True, False)]
    assert planned[0]
    for with_title, without in zip(*planned, strict=True):
        titled, bare = with_title.draw(), without.draw()
        assert_readable(titled.figure, with_title.name)
        assert_readable(bare.figure, without.name)
        (message,) = messages(titled.figure)
        assert " ".join(bare.caption.split()).startswith(message) and not messages(bare.figure), without.name
        assert says_n(notes(bare.figure)), without.name


def messages(figure: Figure) -> list[str]:
    """Return what stands in bold around the panels."""
    return [" ".join(text.get_text().split()) for text in figure.texts if text.get_fontweight() == "bold"]


def says_n(text: str) -> bool:
    """Return whether notes say of how many seeds a figure is or where that stands, or that nothing is by chance."""
    return any(said in text for said in ("n = ", "n pairs", "k/n: seeds", "Metered"))

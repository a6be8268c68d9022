"""How figures look: widths, fonts and lines, whatever the user's settings are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import seaborn as sns
from matplotlib import rc_context, rcdefaults, rcParams

FULL_WIDTH = 7.0
"""Width in inches of a figure over both columns of a paper."""
COLUMN_WIDTH = 3.3
"""Width in inches of a figure in one column."""
PART_COLOURS = ("#00224E", "#43598A", "#7F7C75", "#A99F73", "#D0BE5E", "#FEE838")
"""Six steps of cividis for the parts of a peak; no method wears one of them."""


@contextmanager
def themed() -> Iterator[None]:
    """Hold matplotlib's settings, whatever the user's are: seaborn's white grid, fonts in points, stable SVG."""
    settings: Any = {
        **sns.axes_style("whitegrid"),
        "font.family": ["DejaVu Sans"],
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "figure.titlesize": 9,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "axes.linewidth": 0.6,
        "axes.edgecolor": "#444444",
        "grid.linewidth": 0.5,
        "grid.color": "#DDDDDD",
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
        "text.parse_math": False,
        "svg.hashsalt": "fedfore",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }
    with rc_context():
        rcdefaults()
        rcParams.update(settings)
        yield

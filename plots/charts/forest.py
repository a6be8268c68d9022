"""The forest plot: every comparison of a study with its seeds, its interval, its margin and its verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedfore.judgement.judging import Judged
from fedfore.judgement.sides import is_metered
from fedfore.judgement.verdicts import Verdict
from fedfore.plots.comparisons import Comparisons, compares, comparisons
from fedfore.plots.drawing.difference_axis import DifferenceAxis
from fedfore.plots.drawing.layout import frame, is_narrow
from fedfore.plots.drawing.texts import text_width, wrapped
from fedfore.plots.footnotes import comparison_notes
from fedfore.plots.sentences.settings import setting_label
from fedfore.plots.view import Drawn, Planned, View, marks

_COLOURS = {"better": "#0072B2", "worse": "#D55E00", "equivalent": "#009E73"}
_UNDECIDED, _FAINT, _SEEDS, _BAND = "#555555", "#808080", "#9A9A9A", "#DCEBE4"
_ORDER: tuple[Verdict, ...] = ("better", "worse", "equivalent", "inconclusive", "too few seeds", "not tested")
MOST_ROWS = 40
"""Comparisons that one figure holds; the others go to further figures."""
_ROW, _LINE, _GRAPHIC = 0.185, 0.12, 0.15
"""Heights in inches: of a row, of a line of text, and of an interval with its dots."""
_AXIS, _AXIS_LINE = 0.3, 0.15
"""Heights in inches of what stands below a plot: its ticks, and each line of its label."""
_SEEDS_BELOW = 0.055
"""Inches by which dots lie below the interval's line, so that both are seen."""
_GAP = 4.0
"""Points between the plot and what stands beside it."""
_AXIS_LABEL_SIZE, _LABEL_SIZE, _REASON_SIZE, _NUMBER_SIZE = 8.0, 7.0, 6.0, 6.5
_LABEL_SHARE, _PLOT_SHARE = 0.34, 0.4
"""The shares of a figure's width that labels may take beside the plot, and that a reason has to fit into."""
_NARROW_PLOT_SHARE = 0.68
_GROUND = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.5}
"""What hides lines behind a label that stands in the plot."""
_WORD_ROOM = 0.8
"""Inches that the longest verdict takes."""


@dataclass(frozen=True)
class _Row:
    """A line of the plot: a comparison, or the heading of those below it where `one` is None.

    `label` and `reason` are lines of text, `height` is in inches, `graphic` how far below its top the interval lies.
    """

    label: tuple[str, ...]
    one: Judged | None
    reason: tuple[str, ...]
    height: float
    graphic: float
    is_family: bool


def figures(view: View) -> Iterator[Planned]:
    """Yield the forest plot of a study that compares anything, of many comparisons in several figures."""
    if not compares(view.study):
        return
    known = comparisons(view.study, view.metric)
    count = len(known.found)
    pages = max(1, -(-count // MOST_ROWS))
    for page in range(pages):
        suffix, part = (f"-{page + 1}", f" ({page + 1} of {pages})") if pages > 1 else ("", "")
        own = slice(page * count // pages, (page + 1) * count // pages)
        yield view.planned(f"forest{suffix}", f"Paired differences{part}", partial(forest, view, known, own))


def forest(view: View, whole: Comparisons | None = None, page: slice = slice(None)) -> Drawn:
    """Draw one row a comparison of a page, grouped by family; a panel a metric. The message is of all comparisons.

    `whole` are the study's comparisons, for who has them already.
    """
    whole = whole or comparisons(view.study, view.metric)
    known = replace(whole, found=whole.found[page])
    remarks = list(dict.fromkeys(remark for one in known.found for remark in one.remarks))
    kinds = dict.fromkeys((one.contrast.metric, one.contrast.compare) for one in known.found)
    scales = [DifferenceAxis(metric, compare == "ratio") for metric, compare in kinds]
    rows = [list(_rows(view, known, scale, remarks)) for scale in scales]
    heights = [sum(row.height for row in own) for own in rows]
    labels = [wrapped(scale.label, view.width * _NARROW_PLOT_SHARE, _AXIS_LABEL_SIZE) for scale in scales]
    below = sum(_AXIS + _AXIS_LINE * len(lines) for lines in labels)
    figure = Figure(figsize=(view.width, sum(heights) + below), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights).ravel()
    room = 0.0 if is_narrow(view.width) else max(_label_room(row) for own in rows for row in own)
    for panel, scale, own, label in zip(axes, scales, rows, labels, strict=True):
        _draw(panel, scale, own, room, stated=known.stated)
        panel.set_xlabel("\n".join(label))
    numbered = [f"({number}) {remark}." for number, remark in enumerate(remarks, 1)]
    notes = [*_notes(whole), *numbered, *comparison_notes(view.cells)]
    frame(figure, view.heading(_message(whole)), [], notes)
    return Drawn(
        f"{_message(whole)}. One row a comparison, of minus against, seeds as dots. {' '.join(notes)}",
        f"Forest plot of {len(known.found)} differences{f': {_counts(known.found)}' if known.stated else ''}, one row "
        f"each: {'; '.join(_row_text(view, one) for one in known.found)}.",
        figure,
    )


def _row_text(view: View, one: Judged) -> str:
    return ", ".join(filter(None, (one.contrast.name, _setting(view, one))))


def _counts(found: Sequence[Judged]) -> str:
    counts = Counter(one.verdict for one in found)
    return ", ".join(f"{counts[word]} {word}" for word in _ORDER if word in counts)


def _message(known: Comparisons) -> str:
    if known.stated:
        return f"{len(known.found)} comparisons stated beforehand: {_counts(known.found)}"
    references = list(dict.fromkeys(one.contrast.family for one in known.found))
    reference = references[0] if len(references) == 1 else "the dense series most like each"
    return f"Exploratory: differences to {reference}; none was stated beforehand"


def _notes(known: Comparisons) -> Iterator[str]:
    if known.stated:
        yield (
            "Dots: seeds, of minus against; n pairs. Lines: intervals at the step level of Holm's correction within a "
            "family (family-wise error 5%), none below 3 pairs. Band: margin of equivalence."
        )
    else:
        yield (
            f"Dots: seeds; n pairs. Lines: 95% Student-t intervals, not corrected for {len(known.found)} comparisons, "
            "none below 3 pairs. Controls are left out."
        )


def _setting(view: View, one: Judged) -> str:
    return setting_label(one.pairing.setting, view.study.looks)


def _rows(view: View, known: Comparisons, scale: DifferenceAxis, remarks: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows of one panel: families, contrasts with several settings, and comparisons with their marks."""
    width = view.width
    found = [one for one in known.found if scale.fits(one)]
    several = len({one.contrast.family for one in known.found}) > 1
    for family, own in _grouped(found, lambda one: one.contrast.family):
        if several or not known.stated:
            yield _row(family if known.stated else f"Minus {family}", None, width, is_family=True)
        for name, group in _grouped(own, lambda one: one.contrast.name):
            compared = {index for one in group for index in (*one.of.cells.index, *one.against.cells.index)}
            marked = " ".join([name, *marks(view.cells[view.cells.index.isin(compared)])])
            if len(group) > 1:
                yield _row(marked, None, width)
            for one in group:
                setting = _setting(view, one)
                label = f"   {setting}" if len(group) > 1 else ": ".join(filter(None, (marked, setting)))
                yield _row(" ".join([label, *(f"({remarks.index(text) + 1})" for text in one.remarks)]), one, width)


def _grouped(found: Iterable[Judged], key: Callable[[Judged], str]) -> list[tuple[str, list[Judged]]]:
    groups: dict[str, list[Judged]] = {}
    for one in found:
        groups.setdefault(key(one), []).append(one)
    return list(groups.items())


def _row(label: str, one: Judged | None, width: float, *, is_family: bool = False) -> _Row:
    narrow = is_narrow(width)
    indent = "   " * label.startswith("   ")
    room = width * (_NARROW_PLOT_SHARE if narrow else _LABEL_SHARE) - text_width(indent, _LABEL_SIZE)
    lines = tuple(indent + line for line in wrapped(label.strip(), room, _LABEL_SIZE))
    plot = width * (_NARROW_PLOT_SHARE if narrow else _PLOT_SHARE)
    reason = tuple(wrapped(one.reason, plot, _REASON_SIZE)) if one and one.reason else ()
    below = max(_GRAPHIC, _LINE * len(reason)) if one else 0.0
    if narrow:
        above = _LINE * len(lines) + 0.03
        return _Row(lines, one, reason, above + below + 0.04 * bool(one), above + below / 2, is_family)
    height = max(_ROW, _LINE * len(lines) + 0.06, below + 0.04)
    return _Row(lines, one, reason, height, height / 2, is_family)


def _label_room(row: _Row) -> float:
    return max(text_width(line, _LABEL_SIZE, "bold" if row.is_family else "normal") for line in row.label)


def _draw(panel: Axes, scale: DifferenceAxis, rows: Sequence[_Row], room: float, *, stated: bool) -> None:
    """Draw the rows of one panel. `room`: inches for labels beside the plot, none where they stand in it."""
    scale.limit(panel, [row.one for row in rows if row.one], stated=stated)
    top = 0.0
    for row in rows:
        _write_label(panel, row, top, room)
        if row.one:
            _draw_comparison(panel, scale, row, top, stated=stated)
            for place, (text, colour) in enumerate(_beside(scale, row.one, stated=stated)):
                offset, below = (place * _WORD_ROOM, row.graphic) if room else (0.0, _LINE * (place + 0.65))
                _write_beside(panel, text, top + below, offset, colour, bold=stated and not place)
        top += row.height
    panel.axvline(scale.nothing, color="#333333", linewidth=0.8, zorder=2)
    panel.set_ylim(top, 0)
    panel.set_yticks([])
    panel.grid(axis="y", visible=False)


def _write_label(panel: Axes, row: _Row, top: float, room: float) -> None:
    """Write a row's label beside the plot, where it has that much room, or above the interval where it has none."""
    panel.annotate(
        "\n".join(row.label), (0, top + (row.graphic if room else 0.02)), xycoords=panel.get_yaxis_transform(),
        xytext=(-72 * room - _GAP if room else 2, 0), textcoords="offset points", va="center" if room else "top",
        fontsize=_LABEL_SIZE, fontweight="bold" if row.is_family else "normal",
        color=_FAINT if row.reason else "black", zorder=6, bbox=None if room else _GROUND,
    )  # fmt: skip


def _beside(scale: DifferenceAxis, one: Judged, *, stated: bool) -> list[tuple[str, str]]:
    """Return what stands at the right of a comparison, with its colour: the verdict, then the difference and n."""
    colour = _COLOURS.get(one.verdict, _FAINT if one.reason else _UNDECIDED)
    words = [(str(one.verdict), colour)] if stated else []
    if one.reason or one.difference is None:
        return words or [("not compared", _FAINT)]
    n = "metered" if is_metered(scale.metric) else f"n = {one.difference.n}"
    return [*words, (f"{scale.text(scale.mean(one))}, {n}", _UNDECIDED)]


def _write_beside(panel: Axes, text: str, level: float, offset: float, colour: str, *, bold: bool) -> None:
    panel.annotate(
        text, (1, level), xycoords=panel.get_yaxis_transform(), xytext=(_GAP + 72 * offset, 0),
        textcoords="offset points", va="center", fontsize=_NUMBER_SIZE, color=colour,
        fontweight="bold" if bold else "normal",
    )  # fmt: skip


def _draw_comparison(panel: Axes, scale: DifferenceAxis, row: _Row, top: float, *, stated: bool) -> None:
    """Draw the margin's band, the seeds, the interval and the mean of a comparison; or why there is none."""
    one, level = row.one, top + row.graphic
    assert one is not None, "a heading has nothing to draw"
    low, high = panel.get_xlim()
    margin = scale.margin(one)
    if margin is not None:
        panel.add_patch(
            Rectangle((margin[0], top), margin[1] - margin[0], row.height, color=_BAND, linewidth=0, zorder=0)
        )
    if row.reason or one.difference is None:
        place = (0.02, level)
        panel.annotate(
            "\n".join(row.reason), place, xycoords=panel.get_yaxis_transform(), va="center", fontsize=_REASON_SIZE,
            color=_FAINT, zorder=5, bbox=_GROUND,
        )  # fmt: skip
        return
    colour = _COLOURS.get(one.verdict, _UNDECIDED) if stated else _UNDECIDED
    seeds = scale.seeds(one) if not is_metered(scale.metric) else []
    panel.plot(
        seeds, [level + _SEEDS_BELOW] * len(seeds), linestyle="", marker="o", markersize=2.4, color=_SEEDS,
        markeredgewidth=0, zorder=3,
    )  # fmt: skip
    interval = scale.interval(one, stated=stated)
    if interval is not None:
        shown = [min(max(end, low), high) for end in interval]
        panel.plot(shown, [level, level], color=colour, linewidth=1.3, solid_capstyle="butt", zorder=4)
        for end, edge, marker in zip(interval, shown, "<>", strict=True):
            if end != edge:
                panel.plot([edge], [level], marker=marker, markersize=3.5, color=colour, clip_on=False, zorder=4)
    panel.plot([scale.mean(one)], [level], marker="D", markersize=4, color=colour, zorder=5)

"""How a run's methods look: what they ask for, what ships, and that no two are alike, however many there are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedfore.cell import Cell
from fedfore.plots.figures import chosen, plan_figures
from fedfore.plots.findings import answer, findings
from fedfore.plots.looks import DEALT_COLOURS, DEALT_MARKERS, LINE_STYLES, METHODS, Look, Wish, deal_looks
from fedfore.plots.naming import Series
from fedfore.plots.report.page import write_report
from fedfore.plots.study import Study, load_study
from fedfore.plots.view import line_style
from tests.synthetic import cells, record, write_run

PLUGINS = ["fedprox", "fedkseed", "fednova", "fedadam", "prunefl"]


def dealt(*names: str, **wishes: Wish) -> dict[str, Look]:
    return deal_looks({**{name: Wish() for name in names}, **wishes})


def drawn(look: Look) -> tuple[str, str, int]:
    return look.colour, look.marker, look.line


def xyz(colour: str) -> list[float]:
    """Return the CIE coordinates X, Y, Z of an sRGB colour, relative to white."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    rows = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0177, 0.1095, 0.8728))
    return [sum(weight * value for weight, value in zip(row, linear, strict=True)) for row in rows]


def luminance(colour: str) -> float:
    return xyz(colour)[1]


def lab(colour: str) -> tuple[float, float, float]:
    """Return the CIELAB coordinates, in which distances are as large as they look."""
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz(colour))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_shipped_methods_differ_in_colour_and_in_marker() -> None:
    assert (
        len({one.colour for one in METHODS.values()}) == len({one.marker for one in METHODS.values()}) == len(METHODS)
    )


def test_others_are_dealt_colours_and_markers_by_name_whatever_the_order() -> None:
    found = dealt(*PLUGINS, "fedavg")
    assert found == dealt("fedavg", *reversed(PLUGINS))
    assert list(found) == ["fedavg", *sorted(PLUGINS)]
    assert len({found[name].colour for name in PLUGINS}) == len(PLUGINS)
    assert not {found[name].colour for name in PLUGINS} & {one.colour for one in METHODS.values()}
    assert not {found[name].marker for name in PLUGINS} & {one.marker for one in METHODS.values()}
    assert len({found[name].marker for name in ("fedprox", "fednova", "fedadam")}) == 3
    assert found["fedavg"] == METHODS["fedavg"]


def test_sixteen_others_beside_all_shipped_methods_have_colours_that_can_be_told_apart() -> None:
    found = dealt(*(f"mine_{number:02}" for number in range(16)), *METHODS)
    colours = [lab(one.colour) for one in found.values()]
    assert len(set(colours)) == 16 + len(METHODS)
    assert min(math.dist(one, other) for one, other in itertools.combinations(colours, 2)) > 18


def test_twelve_others_alone_differ_in_colour_and_in_marker() -> None:
    found = dealt(*(f"mine_{number:02}" for number in range(12)))
    assert len({one.colour for one in found.values()}) == len({one.marker for one in found.values()}) == 12


def test_the_colours_and_markers_of_shipped_methods_that_are_not_in_the_run_are_dealt_last() -> None:
    found = dealt(*(f"mine_{number:02}" for number in range(24)), "fedavg")
    assert len({one.colour for one in found.values()}) == 25
    assert [name for name, one in found.items() if one.colour == METHODS["fedavg"].colour] == ["fedavg"]


def test_no_other_is_dealt_a_colour_that_one_asks_for() -> None:
    found = dealt("one", "three", two=Wish(colour=DEALT_COLOURS[0]))
    assert len({one.colour for one in found.values()}) == 3


@pytest.mark.parametrize("count", [6, 20, 96, 100, 400])
def test_no_two_of_many_are_alike_and_lines_vary_where_colours_and_markers_run_out(count: int) -> None:
    found = dealt(*(f"mine_{number:03}" for number in range(count)), *METHODS)
    assert len({drawn(one) for one in found.values()}) == count + len(METHODS)
    few = len(DEALT_COLOURS) * len(DEALT_MARKERS)
    assert max(one.line for one in found.values()) == (count - 1) // few


def test_more_methods_than_looks_are_drawn_all_the_same() -> None:
    most = len(DEALT_COLOURS) * len(DEALT_MARKERS) * len(LINE_STYLES)
    found = dealt(*(f"mine_{number:03}" for number in range(most + 10)), *METHODS)
    assert len({drawn(one) for one in found.values()}) == most + len(METHODS)


def test_a_method_has_what_it_asks_for_and_is_dealt_the_rest() -> None:
    found = dealt(
        "another",
        mine=Wish("Mine", "#123456", "8", 2),
        red=Wish(colour="#FF0000"),
        octagonal=Wish(marker="8"),
        fedavg=Wish("FedAvg, mine"),
    )
    assert found["mine"] == Look("Mine", "#123456", "8", 2)
    assert (found["red"].label, found["red"].colour) == ("red", "#FF0000")
    assert found["octagonal"].marker == "8" and found["octagonal"].colour in DEALT_COLOURS
    assert found["fedavg"] == Look("FedAvg, mine", METHODS["fedavg"].colour, METHODS["fedavg"].marker)
    assert len({one.colour for one in found.values()}) == len(found)


def test_two_that_ask_for_the_same_look_and_label_keep_their_colour_and_differ() -> None:
    wish = Wish("Mine", METHODS["fedavg"].colour, METHODS["fedavg"].marker, 0)
    found = dealt("fedavg", one=wish, two=wish)
    assert len({drawn(look) for look in found.values()}) == 3
    assert {look.colour for look in found.values()} == {METHODS["fedavg"].colour}
    assert [look.label for look in found.values()] == ["FedAvg (dense)", "Mine", "Mine (two)"]


@pytest.mark.parametrize(
    ("look", "wish"),
    [
        ({"colour": "#a0b0c0", "marker": "X", "line": "dashdot"}, Wish(None, "#a0b0c0", "X", 2)),
        ({"colour": None, "marker": None, "line": "dotted"}, Wish(line=1)),
        ({"colour": "no colour", "marker": "?", "line": "dashed"}, Wish()),
        ("red", Wish()),
        (None, Wish()),
    ],
)
def test_what_cannot_be_drawn_is_not_asked_for(look: object, wish: Wish) -> None:
    assert Wish.of(None, look) == wish
    assert Wish.of("", look) == wish and Wish.of("A", look).label == "A"


def test_every_colour_can_be_seen_on_white() -> None:
    for one in dealt(*(f"mine_{number:02}" for number in range(16)), *METHODS).values():
        assert 1.05 / (luminance(one.colour) + 0.05) > 2.0, one
        for variant in range(36):
            drawn = line_style(Series(one.label, one.label, one, variant, has_sparsity=False))
            assert 1.05 / (luminance(drawn["color"]) + 0.05) > 1.6, (one, variant)


# A run of plug-ins

MakeStudy = Callable[..., Study]


@pytest.fixture
def study(tmp_path: Path) -> MakeStudy:
    def make(planned: list[Cell], change: Callable[[Cell], dict[str, object]]) -> Study:
        write_run(tmp_path / "run", planned, change=change)
        return load_study(tmp_path / "run")

    return make


@pytest.mark.thorough
def test_the_records_say_how_a_method_is_called_and_drawn(study: MakeStudy, tmp_path: Path) -> None:
    own = {"label": "Mine & more", "look": {"colour": "#123456", "marker": "8", "line": "dotted"}}
    none = {"label": None, "look": None}
    made = study(cells(("fedavg", "my_method")), lambda cell: own if cell.method == "my_method" else none)
    one = made.series[-1]
    assert (one.label, one.look) == ("Mine & more", Look("Mine & more", "#123456", "8", 1))
    assert line_style(one)["linestyle"] == LINE_STYLES[1]
    assert made.looks == {"fedavg": METHODS["fedavg"], "my_method": one.look}
    assert "Mine &amp; more" in write_report(tmp_path / "run").read_text()
    (figure,) = (one.draw().figure for one in chosen(plan_figures(made), ["curves"]))
    assert {"Mine & more", "FedAvg (dense)"} == {text.get_text() for text in figure.legends[0].get_texts()}


PLUGINS_LIKE = {"fed_ntk_zo": "a_method", "baffle": "dense_estimates", "fedavg": "reference"}


def test_plugins_get_the_sentences_that_shipped_methods_get(tmp_path: Path) -> None:
    """The same numbers under names of which the suite knows none give the same sentences, under the same labels."""
    shipped = cells(tuple(PLUGINS_LIKE))
    own = {cell.id: replace(cell, method=PLUGINS_LIKE[cell.method], id=f"mine-{cell.id}") for cell in shipped}
    origin = {own[cell.id].id: cell for cell in shipped}
    write_run(tmp_path / "shipped", shipped)
    write_run(
        tmp_path / "mine",
        list(own.values()),
        change=lambda cell: (
            vars(record(origin[cell.id]))
            | {"method": cell.method, "cell_id": cell.id, "label": METHODS[origin[cell.id].method].label}
        ),
    )
    told = [(answer(study), findings(study)) for study in (load_study(tmp_path / name) for name in ("shipped", "mine"))]
    assert told[0] == told[1]
    text = " ".join(told[1][0])
    assert all(name in text for name in ("Fed-NTK + ZO at sparsity", "BAFFLE", "FedAvg (dense)"))


def test_of_several_dense_methods_fedavg_is_the_reference_and_without_it_there_is_none(study: MakeStudy) -> None:
    planned = cells(("fedavg", "fedtiny"))
    others = [replace(cell, method="fedprox", id=f"mine-{cell.id}") for cell in planned if cell.method == "fedavg"]
    both = study([*planned, *others], lambda cell: {"uses": []} if cell.method == "fedprox" else {})
    assert both.reference and both.reference.method == "fedavg"
    assert replace(both, series=tuple(one for one in both.series if one.method != "fedavg")).reference
    twice = tuple(replace(one, method="other") if one.method == "fedavg" else one for one in both.series)
    assert replace(both, series=twice).reference is None

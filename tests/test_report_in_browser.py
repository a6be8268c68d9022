"""The report in a real browser: its height and width, that it asks for nothing, that keys and headings work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedfore.plots.report.page import write_report
from fedfore.records.sources import ROOT
from tests.browser import CHROMIUM, DRIVER, ENTER, TAB, Browser, browser
from tests.synthetic import cells, write_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed"),
]
DESKTOP, PHONE = (1280, 800), (390, 844)
STUDIES = ("quick", "lenet5-masks", "device-costs", "with failures")
HIGHEST = 4000
"""CSS pixels of the page of `quick` on a desktop, what is folded left folded."""
MOST_TABS = 150


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the reports of published studies, and of a run in which cells failed, by name."""
    folder = tmp_path_factory.mktemp("reports")
    failing = {("fedmef", 0.1): "diverged", ("fedtiny", "iid"): "failed", ("baffle", "iid"): "missing"}
    planned = cells(alphas=("iid", 0.1), sparsities=(0.8,))
    write_run(folder / STUDIES[-1], planned, lambda cell: failing.get((cell.method, cell.alpha), "ok"))
    for name in STUDIES[:-1]:
        shutil.copytree(ROOT / "results" / name, folder / name)
    return {name: write_report(folder / name) for name in STUDIES}


@pytest.fixture
def quick(opened: Browser, reports: dict[str, Path]) -> Browser:
    opened.resize(*DESKTOP)
    opened.open(reports["quick"])
    return opened


def rows(page: Browser) -> list[list[str]]:
    """Return the names of the rows of the table of results, a list a group."""
    return page.evaluate(
        "return [...document.querySelector('.results').tBodies].map("
        "  group => [...group.rows].slice(1).map(row => row.cells[0].innerText.trim()))"
    )


def numbers(page: Browser, column: int) -> list[list[float | None]]:
    """Return what sorts a column of the table of results, a list a group, None for what is not known."""
    found = page.evaluate(
        "return [...document.querySelector('.results').tBodies].map("
        "  group => [...group.rows].slice(1).map(row => row.cells[arguments[0]].dataset.order ?? null))",
        column,
    )
    return [[None if value is None else float(value) for value in group] for group in found]


def press_heading(page: Browser, column: int) -> str:
    """Press the heading of a column of the table of results and return how it says that the rows are sorted."""
    page.evaluate("document.querySelectorAll('.results thead button')[arguments[0]].click()", column)
    return page.evaluate("return document.querySelector('.results [aria-sort]').ariaSort")


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_page_fits_its_window_asks_for_nothing_and_complains_of_nothing(
    opened: Browser, reports: dict[str, Path], name: str, size: tuple[int, int]
) -> None:
    opened.resize(*size)
    opened.requested()
    opened.open(reports[name])
    opened.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    assert opened.evaluate("return document.documentElement.scrollWidth") == size[0]
    assert opened.console() == []
    assert set(opened.requested()) == {reports[name].as_uri()}


def test_the_page_of_quick_answers_within_a_screen_and_is_not_long(quick: Browser) -> None:
    assert quick.evaluate("return document.querySelector('#answer ul').getBoundingClientRect().bottom") <= DESKTOP[1]
    assert quick.evaluate("return document.querySelector('.facts').getBoundingClientRect().bottom") <= DESKTOP[1]
    assert quick.evaluate("return document.documentElement.scrollHeight") < HIGHEST


@pytest.mark.parametrize("name", ["quick", "lenet5-masks"])
def test_a_phone_shows_methods_and_their_accuracy_at_once(opened: Browser, reports: dict[str, Path], name: str) -> None:
    opened.resize(*PHONE)
    opened.open(reports[name])
    edges = opened.evaluate(
        "return [...document.querySelectorAll('.results tbody tr:not(.group)')].map("
        "  row => row.cells[1].getBoundingClientRect().right)"
    )
    assert edges and max(edges) <= PHONE[0]


def test_a_figure_is_as_large_as_it_was_drawn(quick: Browser) -> None:
    sizes = quick.evaluate(
        "return [...document.querySelectorAll('figure img')].map(image => [image.width, image.naturalWidth])"
    )
    assert len(sizes) > 3 and all(shown in (drawn, 0) for shown, drawn in sizes)


def test_a_heading_sorts_the_rows_inside_their_groups_and_again_the_other_way(quick: Browser) -> None:
    before = rows(quick)
    columns = quick.evaluate("return document.querySelectorAll('.results thead th').length")
    for column in range(1, columns):
        directions = []
        for _ in range(2):
            directions.append(press_heading(quick, column))
            for group in numbers(quick, column):
                known = [value for value in group if value is not None]
                assert known == sorted(known, reverse=directions[-1] == "descending")
                assert group[: len(known)] == known, "what is not known stands last"
        assert sorted(directions) == ["ascending", "descending"]
    assert [sorted(group) for group in rows(quick)] == [sorted(group) for group in before], "no row left its group"
    assert press_heading(quick, 0) == "ascending" and rows(quick) == [sorted(group) for group in before]


def test_keys_reach_headings_and_folded_parts_and_each_shows_that_it_has_the_focus(quick: Browser) -> None:
    wanted = quick.evaluate("return document.querySelectorAll('.results thead button, summary').length")
    reached: dict[str, str] = {}
    for _ in range(MOST_TABS):
        quick.press(TAB)
        name, outline = quick.evaluate(
            "const one = document.activeElement;"
            "return [one.tagName + one.innerText, getComputedStyle(one).outlineStyle]"
        )
        if name.startswith(("BUTTON", "SUMMARY")):
            reached[name] = outline
        if name in ("BODY", ""):
            break
    ours = {name: outline for name, outline in reached.items() if name != "BUTTONPNG"}
    assert len(ours) == wanted > 10
    assert set(ours.values()) == {"solid"}


def test_the_enter_key_sorts_and_unfolds(quick: Browser) -> None:
    quick.evaluate("document.querySelector('.results thead button').focus()")
    quick.press(ENTER)
    assert quick.evaluate("return document.querySelector('.results thead th').ariaSort") == "ascending"
    quick.evaluate("document.querySelector('#settings summary').focus()")
    quick.press(ENTER)
    assert quick.evaluate("return document.querySelector('#settings details').open")


def test_a_link_into_a_folded_part_unfolds_it(quick: Browser) -> None:
    folded = quick.evaluate("return document.querySelector('details figure').id")
    for anchor, part in (("settings", "#settings details"), (folded, f"details:has(#{folded})")):
        assert not quick.evaluate("return document.querySelector(arguments[0]).open", part)
        quick.evaluate("location.hash = arguments[0]", anchor)
        assert quick.evaluate(
            "return new Promise(done => setTimeout(() => done(document.querySelector(arguments[0]).open)))", part
        )


def test_a_figure_can_be_kept_as_svg_and_as_png(quick: Browser) -> None:
    quick.evaluate(
        "window.kept = []; HTMLAnchorElement.prototype.click = function () { kept.push([this.download, this.href]) }"
    )
    quick.evaluate("document.querySelector('figure button').click()")
    ((name, source),) = quick.evaluate("return kept")
    figure = quick.evaluate("return document.querySelector('figure').id")
    assert name == f"{figure}.png" and source.startswith("data:image/png;base64,") and len(source) > 10_000
    link = quick.evaluate("const one = document.querySelector('.downloads a'); return [one.download, one.href]")
    assert link[0] == f"{figure}.svg" and link[1].startswith("data:image/svg+xml;base64,")


def test_figures_stay_on_white_where_the_page_is_dark(opened: Browser, reports: dict[str, Path]) -> None:
    opened.command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    opened.open(reports["quick"])
    colour = "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor"
    assert opened.evaluate(colour, "body") == "rgb(21, 24, 27)"
    assert opened.evaluate(colour, "figure .card") == "rgb(255, 255, 255)"
    opened.command("Emulation.setEmulatedMedia", {"features": []})


def test_paper_shows_the_whole_table_and_what_is_folded(quick: Browser) -> None:
    quick.command("Emulation.setEmulatedMedia", {"media": "print"})
    height = "return document.querySelector(arguments[0]).getBoundingClientRect().height"
    assert quick.evaluate(height, "#settings table") > 100 and quick.evaluate(height, "nav") == 0
    assert quick.evaluate("const one = document.querySelector('.tall'); return one.scrollHeight <= one.clientHeight")
    quick.command("Emulation.setEmulatedMedia", {"media": ""})

"""The report: its parts in order, its table against numbers worked out by hand, marks at the numbers they are of."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fedfore.cell import Cell, cell_id
from fedfore.plots.heterogeneity import ALPHA
from fedfore.plots.report.page import write_report
from fedfore.plots.report.pictures import pictures
from fedfore.plots.view import Drawn, Planned
from fedfore.plots.wording import UNKNOWN
from fedfore.records.lines import LAYERS
from fedfore.records.metrics import METRICS
from fedfore.records.run_folder import write_matrix
from fedfore.records.store import cell_dir
from tests.synthetic import accuracy, cells, write_lines, write_run

MiB = 2**20
MARKS = "[†‡§¶‖#]"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Page(HTMLParser):
    """What a page holds: its headings, the attributes of its elements, and its tables as rows of texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td", "h1", "h2"):
            self._open = [[]]

    def handle_data(self, data: str) -> None:
        for texts in self._open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "h1", "h2") and self._open:
            text = " ".join("".join(self._open.pop()).split())
            (self.headings if tag in ("h1", "h2") else self.tables[-1][-1]).append(text)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, key, value in self.attributes if (name, key) == (tag, attribute)]

    @property
    def results(self) -> dict[str, dict[str, str]]:
        """The rows of the table of results by the name of the row, as texts by the title of the column."""
        titles, *rows = self.tables[0]
        return {row[0]: dict(zip(titles[1:], row[1:], strict=True)) for row in rows if len(row) > 1}

    @property
    def groups(self) -> dict[str, list[str]]:
        """The names of the rows of the table of results in their order, by the title of their group."""
        found: dict[str, list[str]] = {}
        for first, *others in self.tables[0][1:]:
            if others:
                next(reversed(found.values())).append(first)
            else:
                found[first] = []
        return found


THREE = cells(("fedavg", "fedtiny", "baffle"), alphas=("iid",), sparsities=(0.8,))
MEASURED = {"fedavg": [0.90, 0.91, 0.92], "fedtiny": [0.85, 0.86, 0.88], "baffle": [0.895, 0.92, 0.91]}


def measured(cell: Cell) -> dict[str, object]:
    """Return numbers that are easy to work with."""
    return {
        "test_accuracy": MEASURED[cell.method][cell.seed],
        "client_accuracy_min": MEASURED[cell.method][cell.seed] - 0.10,
        "peak_device_bytes": {"fedavg": 4 * MiB, "fedtiny": 3 * MiB, "baffle": MiB // 2}[cell.method],
        "setup_flops_total": 1e9,
        "train_flops_total": {"fedavg": 4e9, "fedtiny": 3e9, "baffle": 1.4e10}[cell.method],
        "uplink_bytes": 6 * MiB,
        "downlink_bytes": {"fedavg": 4 * MiB, "fedtiny": 3 * MiB, "baffle": 24 * MiB}[cell.method],
        "uncounted_ops": "",
    }


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedfore.plots.report.page.plan_figures", lambda study: [])


def tiny(name: str) -> Planned:
    drawn = Drawn("Caption.", f"What {name} shows, in words.", Figure(figsize=(1, 1)))
    return Planned(name, f"Title of {name}", lambda: drawn)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the report of a small run, with two figures that show nothing."""
    run = tmp_path_factory.mktemp("report") / "study"
    write_run(run, THREE, change=measured)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedfore.plots.report.page.plan_figures", lambda study: list(map(tiny, ("forest", "cost-x"))))
        return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Page]:
    """Return a function that writes a run as `write_run` does and returns its report."""

    def make(*arguments: object, **options: object) -> Page:
        write_run(tmp_path / "study", *arguments, **options)
        return Page(write_report(tmp_path / "study").read_text(encoding="utf-8"))

    return make


ACCURACY, DIFFERENCE, WORST = "Test accuracy % ↑", "Minus FedAvg (dense) points", "Worst client's accuracy % ↑"


def test_every_number_of_a_row_is_that_of_its_records(page: Page) -> None:
    assert page.groups == {"iid": ["FedAvg (dense)", "BAFFLE", "FedTiny sparsity 0.8"]}, "the most accurate first"
    # FedTiny - FedAvg: -5, -5, -4 points, deviation 0.577; BAFFLE - FedAvg: -0.5, 1, -1; t(2) / sqrt(3) = 2.484.
    assert page.results["FedTiny sparsity 0.8"] == {
        ACCURACY: "86.3 [82.5, 90.1]",
        DIFFERENCE: "\N{MINUS SIGN}4.7 ± 1.4",
        WORST: "76.3",
        "Peak device bytes MiB ↓": "3.00",
        "Total device FLOPs GFLOPs ↓": "4",
        "Total bytes, up and down MiB ↓": "9",
        "Data passes": "30",
        "Seeds ok / planned": "3 / 3",
    }
    others = [page.results[name] for name in ("FedAvg (dense)", "BAFFLE")]
    assert [row[DIFFERENCE] for row in others] == ["\N{EN DASH}", "\N{MINUS SIGN}0.2 ± 2.6"]
    assert [row["Peak device bytes MiB ↓"] for row in others] == ["4.00", "0.50"]
    assert [row["Total device FLOPs GFLOPs ↓"] for row in others] == ["5", "15"]
    assert [row["Total bytes, up and down MiB ↓"] for row in others] == ["10", "30"]
    assert "in brackets the 95% interval" in page.html, "that of FedAvg, near 1, is on the logit scale"


def test_the_best_of_each_column_is_bold(page: Page) -> None:
    assert re.findall("<strong>([0-9.]+)</strong>", page.html) == ["91.0", "81.0", "0.50", "4", "9"]
    assert "Bold: the best of a group; controls, what is not certified" in page.html


def test_differences_sort_by_themselves_and_are_said_to_be_uncorrected(page: Page) -> None:
    table = page.html.partition('class="results"')[2].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">(.*?)(?: <small>.*?)?</th>(.*?)</tr>', table, re.DOTALL)
    place = page.tables[0][0].index(DIFFERENCE) - 1
    cells_of = {name: re.findall(r"<td([^>]*)>", row)[place] for name, row in rows}
    orders = {name: re.search('data-order="(.*?)"', found) for name, found in cells_of.items()}
    known = {name: float(found[1]) for name, found in orders.items() if found}
    assert known == {"BAFFLE": pytest.approx(-0.005 / 3), "FedTiny": pytest.approx(-0.14 / 3)} and len(orders) == 3
    assert "Differences are paired by seed, each with its 95% interval alone." in page.html


def test_the_page_holds_its_table_as_csv_in_full_precision(page: Page) -> None:
    (link,) = (href for href in page.values("a", "href") if href.startswith("data:text/csv;charset=utf-8,"))
    table = pd.read_csv(io.StringIO(unquote(link.partition(",")[2]))).set_index("series")
    assert set(table.index) == {"BAFFLE", "FedTiny", "FedAvg (dense)"}
    assert table.loc["FedTiny", "test_accuracy"] == pytest.approx((0.85 + 0.86 + 0.88) / 3, rel=1e-12)
    # logit(.91) = 2.314; half of the interval .024841 / (.91 x .09) = .30331; its ends expit(2.0103), expit(2.6169)
    ends = table.loc["FedAvg (dense)", ["test_accuracy_low", "test_accuracy_high"]].tolist()
    assert ends == pytest.approx([0.88187, 0.93195], abs=1e-4)
    assert table.loc["FedTiny", "difference_mean"] == pytest.approx(-0.14 / 3, rel=1e-9)
    assert table.loc["BAFFLE", "total_bytes"] == 30 * MiB
    assert "study.csv" in page.values("a", "download")


CONTRASTS = """
[[contrast]]
name = "estimates"
of = {method = "baffle"}
against = {method = "fedavg"}
[[contrast]]
name = "masks"
of = {method = "fedtiny"}
against = {method = "fedavg"}
"""


def test_a_row_says_what_contrasts_found_of_it(tmp_path: Path) -> None:
    planned = cells(("fedavg", "fedtiny", "baffle"), alphas=("iid",), sparsities=(0.8,), seeds=range(5))
    minus = {"fedavg": (0, 0, 0, 0, 0), "fedtiny": (5, 5, 4, 5, 5), "baffle": (2, -2, 1, -2, 0)}
    change = {cell.id: {"test_accuracy": 0.9 - minus[cell.method][cell.seed] / 100} for cell in planned}
    write_run(tmp_path, planned, change=lambda cell: change[cell.id])
    write_matrix(tmp_path, CONTRASTS)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert {name: row["Verdict"] for name, row in page.results.items()} == {
        "FedAvg (dense)": UNKNOWN,
        "BAFFLE": "inconclusive against FedAvg (dense)",
        "FedTiny sparsity 0.8": "worse than FedAvg (dense)",
    }
    assert "contrasts that the matrix fixed" in page.html


def test_a_control_competes_with_nobody(page_of: Callable[..., Page]) -> None:
    planned = cells(("fedavg", "baffle"), alphas=("iid", 0.1), seeds=(0, 1))
    exact = [replace(cell, estimator="exact") for cell in planned if cell.method == "baffle"]
    page = page_of([*planned, *(replace(cell, id=cell_id(cell, {})) for cell in exact)])
    assert list(page.groups) == [title + end for title in ("iid", f"{ALPHA} = 0.1") for end in ("", ": controls")]
    assert page.groups["iid: controls"] == ["BAFFLE, exact gradient"]


def test_groups_are_named_by_what_differs_between_them(page_of: Callable[..., Page]) -> None:
    planned = [cell for model in ("lenet5", "resnet14") for cell in cells(("fedavg",), model=model, alphas=("iid",))]
    assert list(page_of(planned).groups) == ["lenet5", "resnet14"]


def test_each_mark_stands_at_the_number_that_it_is_of_and_is_explained_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedfore.records.table.present_code", lambda files: lambda method, scheme: "new")
    planned = cells(("fedavg", "fedtiny", "baffle", "my_method"), alphas=("iid",), sparsities=(0.8,))

    def change(cell: Cell) -> dict[str, object]:
        return {
            "code_sha256": "old" if cell.method == "fedavg" and cell.seed == 0 else "new",
            "budget_used": 1.5 if cell.method == "my_method" else 1.0,
            "uncounted_ops": "hardtanh" if cell.method == "fedtiny" else "",
        }

    write_run(
        tmp_path, planned, lambda cell: "diverged" if (cell.method, cell.seed) == ("fedavg", 2) else "ok",
        change=change, scalar_errors=lambda cell: (0.3, 0.3) if cell.method == "baffle" else (0.01, 0.01),
    )  # fmt: skip
    starved = next(cell for cell in planned if cell.method == "fedtiny")
    write_lines(tmp_path, starved, LAYERS, [{"layer": "fc", "size": 400, "kept": 1, "forward_macs_dense": 400}])
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    marks = {
        (re.split("[†¶ ]", name)[0], title): "".join(found)
        for name, row in page.results.items()
        for title, text in {"Method": name, **row}.items()
        if (found := re.findall(MARKS, text))
    }
    assert marks == {
        ("FedAvg", "Method"): "†",
        ("FedAvg", ACCURACY): "#",
        ("FedTiny", "Method"): "¶",
        ("FedTiny", "Total device FLOPs GFLOPs ↓"): "‖",
        ("BAFFLE", ACCURACY): "‡",
        ("my_method", "Data passes"): "§",
    }
    assert page.results["BAFFLE"][DIFFERENCE] == UNKNOWN, "what is not certified is compared with nothing"
    notes = page.html[page.html.index('<ul class="footnotes">') : page.html.index('id="figures"')]
    assert sorted(re.findall(f"<li>{MARKS} ", notes)) == [f"<li>{mark} " for mark in sorted("†‡§¶‖#")]
    assert "<li># FedAvg (dense): 1 diverged of 3 seeds: chance in accuracies, left out of all else.</li>" in notes
    kept = {cell.seed: accuracy(cell) for cell in planned if cell.method == "fedavg" and cell.seed < 2}
    mean = (sum(kept.values()) + 0.1) / 3
    assert page.results["FedAvg (dense)†"][ACCURACY].startswith(f"{100 * mean:.1f} ")
    assert "in 1 cell at 1 point." in notes and "knew: hardtanh (FedTiny)" in notes


def test_a_row_without_anything_to_say_of_it_has_no_mark_and_the_table_no_footnote(page: Page) -> None:
    assert not re.search(MARKS, str(page.tables[0])) and "footnotes" not in page.values("ul", "class")


# What did not finish


def test_what_did_not_finish_is_listed_with_its_reason_and_leads_to_what_it_left(tmp_path: Path) -> None:
    planned = cells(("fedavg",), alphas=("iid",))
    outcome = {0: "failed", 1: "diverged", 2: "missing"}
    write_run(tmp_path, planned, lambda cell: outcome[cell.seed], change=lambda cell: {"reason": f"<b>& {cell.seed}"})
    traceback = cell_dir(tmp_path, planned[0].id) / "traceback.txt"
    traceback.write_text("Traceback", encoding="utf-8")
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    rows = {row[0]: row[1:] for row in page.tables[-1][1:]}
    setting, method = "digits, lenet5, iid", "FedAvg (dense), sparsity 0"
    assert rows == {
        "failed": [setting, method, "0", "<b>& 0", planned[0].id],
        "diverged": [setting, method, "1", "<b>& 1", planned[1].id],
        "missing": [setting, method, "2", "not run yet", planned[2].id],
    }
    left = [href for href in page.values("a", "href") if href.startswith("cells/")]
    assert sorted(left) == sorted([f"cells/{planned[0].id}/traceback.txt", f"cells/{planned[1].id}"])
    assert all((tmp_path / path).exists() for path in left)
    assert "No planned cell has finished well" in page.html


# What was run


def test_the_page_says_what_was_run_when_and_with_what(tmp_path: Path) -> None:
    run = tmp_path / "my-study"
    write_run(run, THREE, lambda cell: "missing" if cell.seed == 2 else "ok")
    write_matrix(run, "# Which `method` is best?\n[grid]\nseed = [0]\n")
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.headings[0] == "my-study" and "<title>my-study: " in page.html
    assert "Which <code>method</code> is best?" in page.html and "seed = [0]" in page.html
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd></div>", page.html))
    assert facts["Methods"] == "BAFFLE, FedTiny, FedAvg (dense)" and facts["Seeds"] == "3"
    assert facts["Cells"] == "6 of 9 finished (3 missing)" and facts["Commit"] == "0123456789"
    assert facts["Computed"] == "2026-01-02, 03:04 to 03:05 UTC"
    assert "<pre>fedfore run synthetic.toml --workers 2</pre>" in page.html
    assert f"<code>{COMMIT}</code>" in page.html and "Some CPU" in page.html and "torch 2.13.0" in page.html


def test_settings_that_differ_stand_before_those_that_all_methods_share(page_of: Callable[..., Page]) -> None:
    page = page_of([*THREE, *cells(("baffle",), alphas=("iid",), num_perturbations=(50,))])
    differing, shared, series = page.tables[1:4]
    assert differing[0] == ["Setting", "BAFFLE", "FedTiny", "FedAvg (dense)"]
    rows = {row[0]: row[1:] for row in differing[1:]}
    assert rows["lr"] == ["0.05", "0.1", "0.1"] and rows["num_perturbations"] == ["100, 50", UNKNOWN, UNKNOWN]
    assert {"data_passes": "30", "clients": "10"}.items() <= dict(shared[1:]).items() and "lr" not in dict(shared[1:])
    assert series == [["Series", "num_perturbations"], ["BAFFLE, K=50", "50"], ["BAFFLE, K=100", "100"]]


def test_only_what_stands_on_the_page_is_defined_there(page: Page) -> None:
    assert METRICS["total_bytes"].description in page.html
    assert METRICS["grad_cosine"].description not in page.html


# Figures


def test_leading_figures_are_shown_in_their_order_and_the_others_folded() -> None:
    names = ("cost-x", "curves-rounds-x", "pareto", "accuracy-x", "forest-x", "curvesque", "tuning-lr")
    made = pictures(list(map(tiny, names)))
    assert [one.name for one in made.shown] == ["forest-x", "pareto", "curves-rounds-x"]
    assert [one.name for one in made.more] == ["cost-x", "accuracy-x", "curvesque"]
    assert [one.name for one in made.tuning] == ["tuning-lr"]
    alone = pictures(list(map(tiny, "abcd")))
    assert [one.name for one in alone.shown] == ["a", "b", "c"] and [one.name for one in alone.more] == ["d"]


# The page


def test_the_page_has_its_parts_in_order_and_its_links_lead_somewhere(page: Page) -> None:
    assert page.headings == [
        "study", "Answer", "Results", "Figures", "Settings", "Run it again", "Cells without a result", "Definitions",
    ]  # fmt: skip
    anchors = [value for _, name, value in page.attributes if name == "id"]
    assert len(anchors) == len(set(anchors))
    inside = {href for href in page.values("a", "href") if href.startswith("#")}
    assert inside >= {"#results", "#forest", "#cost-x"} and inside <= {f"#{anchor}" for anchor in anchors}


def test_the_page_is_one_self_contained_accessible_file(page: Page) -> None:
    assert not {"link", "iframe", "object"} & set(page.tags) and not page.values("script", "src")
    sources = page.values("img", "src")
    assert len(sources) == 2 and all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://|fetch\(|import\(", page.html)
    assert page.values("img", "alt") == ["What forest shows, in words.", "What cost-x shows, in words."]
    assert set(page.values("th", "scope")) == {"col", "row", "rowgroup"}
    assert page.values("html", "lang") == ["en"]
    regions = [attributes for attributes in page.attributes if attributes == ("div", "role", "region")]
    assert len(regions) == page.tags.count("table") + len(sources) == page.values("div", "tabindex").count("0")


def contrast(first: str, second: str) -> float:
    """Return WCAG's contrast ratio of two colours, "#rgb" or "#rrggbb"."""

    def luminance(colour: str) -> float:
        parts = (((part + 0.055) / 1.055) ** 2.4 if part > 0.04045 else part / 12.92 for part in to_rgb(colour))
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    dark, light = sorted(map(luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", range(3), ids=["light", "dark", "paper"])
def test_text_is_told_from_what_it_stands_on(page: Page, scheme: int) -> None:
    assert contrast("#fff", "#000") == pytest.approx(21)
    block = re.findall(r":root {[^}]*}", page.html)[scheme]
    colours = dict(re.findall(r"--(\w+): (#\w+);", block))
    for text in ("ink", "soft", "accent"):
        assert min(contrast(colours[text], colours[behind]) for behind in ("page", "band")) >= 4.5


def test_the_same_records_give_the_same_page_and_no_text_of_theirs_is_markup(tmp_path: Path) -> None:
    texts = {"reason": "<b>&", "label": "<b>&", "uncounted_ops": "<b>&"}
    write_run(tmp_path, THREE, lambda cell: "ok" if cell.seed else "failed", change=lambda cell: texts)
    write_matrix(tmp_path, "# <b>&\n")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert write_report(tmp_path).read_text(encoding="utf-8") == html
    assert "<b>" not in html and html.count("&lt;b&gt;&amp;") > 5

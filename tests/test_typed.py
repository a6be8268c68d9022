"""The rule that no measured number and no verdict is typed on a page of results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.judgement.claims import CLAIMS
from fedfore.plots.cards.pages import pages
from fedfore.plots.cards.typed import VERDICT_WORDS, typed
from fedfore.records.provenance import ROOT
from tests.synthetic import cells, write_run

MATRIX = """
[grid]
method = ["baffle"]
model = ["lenet5:width=0.44"]
sparsity = [0.8]
"params.baffle.sigma" = [3e-5]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("typed") / "results"
    write_run(folder / "study", cells(("baffle",), alphas=("iid",), seeds=(0,)))
    (folder / "study" / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    (folder / "study" / "card.toml").write_text('question = "?"\ncommand = "fedfore messages --sparsity 0.7"', "utf-8")
    (folder / CLAIMS).write_text(
        '[[claim]]\nname = "a"\nclaim = "9x"\nsource = "s"\nstudy = "study"\ncontrast = "c"\nbound = 6.35', "utf-8"
    )
    return folder


def found(results: Path, text: str, page: str = "study/README.md") -> list[str]:
    """Return what is typed on a page, by its line: "3: 2.5"."""
    (results / page).write_text(text, encoding="utf-8")
    sentences = [re.fullmatch(r'.*README\.md:(\d+): "(.*?)" is .*', said) for said in typed(results / page, results)]
    return [f"{said[1]}: {said[2]}" for said in sentences if said]


@pytest.mark.parametrize(
    "measured",
    [
        "2.5", "-2.5", "41%", "7 %", "3 points", "± 2", "9.1x", "7x", "34 times", "12 MiB", "3 KB", "40 bytes", "5 s",
        "12 ms", "4 minutes", "2 GFLOPs", "650 MACs", "4e-4", "1,234.5", "(2.5)", "to 2.5, and", "96 percent",
        "12 per cent", "7 pp", "7-fold", "three times", "tenfold", "2GB", ".965", '[less](x "by 3.2 points")',
    ],
)  # fmt: skip
def test_a_typed_measurement_is_found_with_its_line(results: Path, measured: str) -> None:
    (said,) = found(results, f"# Title\n\nIt took {measured}.\n")
    assert said.startswith("3: ") and said[3:] in measured


@pytest.mark.parametrize("word", [*VERDICT_WORDS, "Better", "_better_", "not supported", "level\nwith"])
def test_a_typed_verdict_is_found_with_its_line(results: Path, word: str) -> None:
    said = " ".join(word.split()).replace("not supported", "supported").strip("_")
    assert found(results, f"# Title\n\nThis is {word}.\n") == [f"3: {said}"]


@pytest.mark.parametrize(
    "text",
    [
        "sparsity 0.8, that is 80% of the weights, at width 0.44 and sigma 3e-5 (0.00003)",
        "the command has 0.7, and the claim says 9x and 6.35 points",
        "`2.5` and ``41% `better` ``, 100 rounds, 5 seeds, K = 50, 10 x 32, 1,797 digits, ResNet-20, Zen 4",
        "arXiv 2405.04765 (and 2212.01977), torch 2.13.0, v0.2.0, Python 3.11, Apache-2.0, 2026-11-26",
        "[a link](https://example.org/2.5%) and https://example.org/3.4 and [here](x/worse.md)",
        "<!-- value: x -->2.5 ± 1.9<!-- end --> and <!-- 41% -->",
        "words\n\n```toml\nlr = 2.5  # better\n```\n\n~~~\n41%\n~~~\n\nwords",
        "<!-- table: t -->\n| 2.5 | better |\n<!-- end of table -->",
        "unsupported betterment of equivalents, betters",
    ],
)
def test_settings_code_and_what_is_generated_may_stand(results: Path, text: str) -> None:
    assert found(results, f"A page.\n\nIt says\n{text}\n") == []


def test_a_page_of_all_studies_may_name_the_settings_of_each_and_a_page_of_one_its_own(results: Path) -> None:
    (results / "other").mkdir(exist_ok=True)
    (results / "other" / "card.toml").write_text('question = "?"', encoding="utf-8")
    assert found(results, "At 0.8.\n", "README.md") == []
    assert found(results, "At 0.8.\n", "other/README.md") == ["1: 0.8"]


def test_lines_are_counted_past_tables_and_code(results: Path) -> None:
    text = (
        "<!-- table: t -->\n| a |\n| 1.5 |\n<!-- end of table -->\n\n```sh\nx 1.5\n```\n\nIt is 1.5 and `a\nb` 2.5.\n"
    )
    assert found(results, text) == ["10: 1.5", "11: 2.5"]


def test_verify_finds_a_typed_number(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "study" / "README.md").write_text("It gains 2.5 points,\nwhich is inconclusive.\n", encoding="utf-8")
    monkeypatch.chdir(results.parent)
    assert main(["verify", "study"]) == 1
    printed = capsys.readouterr().out
    assert '/study/README.md:1: "2.5 points" is typed; insert it as a value of the card, or leave it out.' in printed
    assert '/study/README.md:2: "inconclusive" is a verdict, and typed;' in printed


@pytest.mark.parametrize("page", pages(ROOT / "results"), ids=lambda page: str(page.relative_to(ROOT)))
def test_no_published_page_has_a_typed_measurement_or_verdict(page: Path) -> None:
    assert list(typed(page, ROOT / "results")) == []

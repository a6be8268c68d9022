"""Cards: numbers that follow from records, tables between markers, published figures, and the published pages."""

from __future__ import annotations

import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from scipy import stats

from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.judgement.archive import MESSAGES, Archive
from fedfore.judgement.claims import CLAIMS
from fedfore.judgement.quantities import Quantity
from fedfore.plots.cards.choices import choices_table
from fedfore.plots.cards.facts import facts, index, studies
from fedfore.plots.cards.figures import figure_differences, pixel_difference, refresh_figures
from fedfore.plots.cards.markers import differences, marked, regenerated, written_by_hand
from fedfore.plots.cards.pages import lacking_tables, page_differences, pages, refresh
from fedfore.plots.cards.specification import read_card
from fedfore.plots.cards.tables import card_table
from fedfore.plots.cards.template import write_card
from fedfore.plots.cards.texts import text
from fedfore.plots.cards.verdicts import verdicts_table
from fedfore.records.provenance import ROOT
from tests.synthetic import accuracy, cells, write_run

PLANNED = cells(("fed_ntk_zo", "baffle"), sparsities=(0.5, 0.8), alphas=("iid", 0.1), seeds=(0, 1, 2))
NTK = {"method": "fed_ntk_zo", "sparsity": 0.8, "alpha": "iid"}
DENSE = {"method": "baffle", "alpha": "iid"}
CARD = """
question = "Is the mask better?"

[series]
dense = { method = "baffle" }

[[table]]
name = "accuracy"
metric = "test_accuracy"
scale = 100
decimals = 2
heads = [
    { title = "labels", entries = [
        { text = "iid", where = { alpha = "iid" } }, { text = "skewed", where = { alpha = 0.1 } },
    ] },
    { title = "series", entries = [
        { text = "dense", of = "dense", say = { "minus dense" = "" } },
        { text = "NTK", of = { method = "fed_ntk_zo", sparsity = 0.8 } },
    ] },
]
columns = [
    { title = "accuracy" },
    { title = "of seed 1", where = { seed = 1 } },
    { title = "minus dense", against = "dense", sign = true },
]
"""


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    write_run(tmp_path / "results" / "study", PLANNED)
    (tmp_path / "results" / "study" / "card.toml").write_text(CARD, encoding="utf-8")
    return Archive(tmp_path / "results")


@pytest.fixture
def drawn(tmp_path: Path) -> Archive:
    """Return a study of one method and one seed, of which little can be drawn."""
    write_run(tmp_path / "results" / "small", cells(("baffle",), alphas=("iid",), seeds=(0,)))
    return Archive(tmp_path / "results")


def accuracies(**settings: object) -> list[float]:
    """Return the accuracies of the made-up cells with these settings, by seed."""
    own = [cell for cell in PLANNED if all(getattr(cell, name) == value for name, value in settings.items())]
    return [accuracy(cell) for cell in sorted(own, key=lambda cell: cell.seed)]


def interval(values: object) -> tuple[float, float]:
    """Return the mean and the half-width of the 95% interval, by SciPy's own interval."""
    array = np.asarray(values, dtype=float)
    low, high = stats.t.interval(0.95, len(array) - 1, loc=array.mean(), scale=stats.sem(array))
    return float(array.mean()), float(high - low) / 2


def test_a_quantity_is_the_mean_over_seeds_with_its_interval(archive: Archive) -> None:
    mean, half = interval(accuracies(**NTK))
    given = Quantity(of=NTK, metric="test_accuracy", scale=100, decimals=3, unit="%")
    assert text(archive, "study", given) == f"{100 * mean:.3f} ± {100 * half:.3f}%"


def test_a_difference_is_paired_by_seed(archive: Archive) -> None:
    by_seed = np.subtract(accuracies(**NTK), accuracies(**DENSE))
    mean, half = interval(by_seed)
    given = Quantity(of=NTK, against=DENSE, metric="test_accuracy", decimals=4, sign=True)
    assert text(archive, "study", given) == f"{mean:+.4f} ± {half:.4f}"
    listed = given.model_copy(update={"statistic": "list"})
    assert text(archive, "study", listed) == ", ".join(f"{value:+.4f}" for value in by_seed)


def test_a_ratio_is_taken_pair_by_pair_over_what_a_quantity_names(archive: Archive) -> None:
    by_pair = [
        a / b
        for alpha in ("iid", 0.1)
        for a, b in zip(accuracies(**NTK | {"alpha": alpha}), accuracies(**DENSE | {"alpha": alpha}), strict=True)
    ]
    sides = {"of": {"method": "fed_ntk_zo", "sparsity": 0.8}, "against": {"method": "baffle"}}
    given = Quantity(
        **sides, by=("alpha", "seed"), metric="test_accuracy", compare="ratio", statistic="range", decimals=4
    )
    assert text(archive, "study", given) == f"{min(by_pair):.4f} to {max(by_pair):.4f}"


def test_a_metric_may_be_an_expression_of_fields_and_of_values(archive: Archive) -> None:
    dense = Quantity(of=DENSE, metric="test_accuracy", statistic="mean")
    expected = np.mean(accuracies(**NTK)) / np.mean(accuracies(**DENSE)) + 0.05
    given = Quantity(
        of=NTK, metric="test_accuracy / dense + params.lr", values={"dense": dense}, statistic="mean", decimals=4
    )
    assert text(archive, "study", given) == f"{expected:.4f}"


def test_lines_of_a_cell_are_reduced_before_seeds_are(archive: Archive) -> None:
    lines = Quantity(of=NTK, lines="diagnostics", metric="fd_scalar_error", significant=2, statistic="mean")
    assert text(archive, "study", lines.model_copy(update={"within": "max"})) == "0.010"
    assert text(archive, "study", lines.model_copy(update={"where": {"moment": 1.0}})) == "0.010"
    with pytest.raises(ConfigError, match=r"several rows .* have one seed; they differ in moment"):
        text(archive, "study", lines)


def test_how_many_means_differ_from_zero_is_counted_by_group_after_holm(archive: Archive) -> None:
    given = Quantity(
        of={"method": "fed_ntk_zo"}, by=("alpha", "sparsity", "seed"), per=("alpha", "sparsity"),
        metric="test_accuracy", statistic="nonzero",
    )  # fmt: skip
    assert text(archive, "study", given) == "4 of 4"
    same = given.model_copy(update={"against": {"method": "fed_ntk_zo"}})
    assert text(archive, "study", same) == "0 of 4"


def test_trials_of_tuning_are_no_part_of_a_quantity_that_does_not_ask_for_them(tmp_path: Path) -> None:
    reported = cells(("baffle",), alphas=("iid",), seeds=(0, 1))
    trials = [replace(cell, stage="tune1", seed=cell.seed + 100, id=f"trial-{cell.seed}") for cell in reported]
    write_run(tmp_path / "study", [*reported, *trials])
    given = Quantity(metric="peak_device_bytes", statistic="count")
    assert text(Archive(tmp_path), "study", given) == "2"
    asked = given.model_copy(update={"by": ("stage", "seed"), "where": {"stage": ["tune1", "report"]}})
    assert text(Archive(tmp_path), "study", asked) == "4"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Quantity(metric="test_acuracy", of=NTK), r'nothing is called "test_acuracy". Did you mean "test_accuracy"'),
        (Quantity(metric="test_accuracy", of={"methud": "baffle"}), r'called "methud". Did you mean "method"'),
        (Quantity(metric="test_accuracy", of={"method": "none"}), r"there is no cell of study with method = none"),
        (Quantity(metric="test_accuracy", of={"study": "studi"}), r'there is no study "studi". Did you mean "study"'),
        (Quantity(metric="test_accuracy", of={"alpha": "iid"}), r"several rows .* they differ in .*method"),
        (Quantity(metric="churn", of=NTK), r"no record of study with .* knows churn"),
        (Quantity(of=NTK), "no metric is named"),
        (Quantity(metric="test_accuracy +", of=NTK), r'"test_accuracy \+" cannot be computed'),
    ],
)  # fmt: skip
def test_what_cannot_be_computed_is_a_sentence(archive: Archive, given: Quantity, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        text(archive, "study", given)


def test_seeds_that_did_not_end_well_are_counted(tmp_path: Path) -> None:
    def outcome(cell: object) -> str:
        return {0: "ok", 1: "ok", 2: "diverged"}[cell.seed]

    write_run(tmp_path / "study", PLANNED, outcome)
    given = Quantity(of=NTK, metric="test_accuracy", statistic="mean", scale=100, decimals=1)
    mean = 100 * np.mean([*accuracies(**NTK)[:2], 0.1])
    assert text(Archive(tmp_path), "study", given) == f"{mean:.1f} (1 diverged: as chance)"
    lost = given.model_copy(update={"where": {"seed": 2}})
    assert text(Archive(tmp_path), "study", lost) == "10.0 (1 diverged: as chance)"
    other = given.model_copy(update={"metric": "test_loss", "scale": 1.0})
    assert text(Archive(tmp_path), "study", other) == "0.3 (2 of 3)"
    assert text(Archive(tmp_path), "study", other.model_copy(update={"where": {"seed": 2}})) == "diverged"


def test_where_chance_is_not_known_a_mean_with_a_failure_is_not_written(tmp_path: Path) -> None:
    write_run(
        tmp_path / "study", PLANNED, lambda cell: "diverged" if cell.seed == 2 else "ok",
        change=lambda cell: {"chance_accuracy": None},
    )  # fmt: skip
    assert text(Archive(tmp_path), "study", Quantity(of=NTK, metric="test_accuracy")) == "diverged"


def test_an_accuracy_near_1_has_both_ends_and_so_has_all_of_its_column(tmp_path: Path) -> None:
    level = {"iid": 0.96, 0.1: 0.5}
    write_run(
        tmp_path / "study", cells(("baffle",), alphas=("iid", 0.1), seeds=range(5)),
        change=lambda cell: {"test_accuracy": level[cell.alpha] + 0.01 * (cell.seed - 2)},
    )  # fmt: skip
    path = tmp_path / "study" / "card.toml"
    path.write_text(NEAR, encoding="utf-8")
    rows = card_table(Archive(tmp_path), "study", read_card(path), "near").splitlines()[2:]
    # logit(.96) = 3.178; half of the interval .01963 / (.96 x .04) = .5112; its ends expit(2.667), expit(3.689)
    assert rows == [
        "| iid | 96.0 [93.5, 97.6] | 96.0 ± 2.0 | +46.0 ± 0.0 |", "| skewed | 50.0 [48.0, 52.0] | 50.0 ± 2.0 |  |",
    ]  # fmt: skip


NEAR = """
question = "?"

[[table]]
name = "near"
metric = "test_accuracy"
scale = 100
decimals = 1
heads = [
    { title = "labels", entries = [
        { text = "iid", where = { alpha = "iid" } },
        { text = "skewed", where = { alpha = 0.1 }, say = { "minus skewed" = "" } },
    ] },
]
columns = [
    { title = "accuracy" },
    { title = "of two fields", metric = "test_accuracy + 0 * test_loss" },
    { title = "minus skewed", where = {}, against = { alpha = 0.1 }, sign = true },
]
"""


def test_a_table_crosses_its_heads_and_unites_what_table_row_and_column_say(archive: Archive) -> None:
    card = read_card(archive.results / "study" / "card.toml")
    rows = card_table(archive, "study", card, "accuracy").splitlines()
    assert rows[0] == "| labels | series | accuracy | of seed 1 | minus dense |"
    assert [row.split(" | ")[:2] for row in rows[2:]] == [
        ["| iid", "dense"], ["| iid", "NTK"], ["| skewed", "dense"], ["| skewed", "NTK"],
    ]  # fmt: skip
    skewed, dense = accuracies(**NTK | {"alpha": 0.1}), accuracies(**DENSE | {"alpha": 0.1})
    mean, half = interval(np.subtract(skewed, dense))
    assert f" | {100 * skewed[1]:.2f} | " in rows[5]
    assert rows[5].endswith(f" | {100 * mean:+.2f} ± {100 * half:.2f} |")
    with pytest.raises(ConfigError, match='its card specifies no table "acuracy"; it has accuracy'):
        card_table(archive, "study", card, "acuracy")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('of = "dense"', 'of = "dens"', r'column "accuracy": there is no series "dens"; the card has dense'),
        ("decimals = 2", "decimal = 2", r"card.toml cannot be used: table.0.decimal: Extra inputs are not permitted"),
        ("heads = [", "heads = ", r"card.toml is no TOML"),
        ('text = "iid"', 'text = ["iid", "x"]', r"every entry under labels needs 1 texts"),
    ],
)  # fmt: skip
def test_a_wrong_specification_is_a_sentence(archive: Archive, old: str, new: str, sentence: str) -> None:
    path = archive.results / "study" / "card.toml"
    path.write_text(CARD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        card_table(archive, "study", read_card(path), "accuracy")


CONTRAST = """
[[contrast]]
name = "backpropagation against BAFFLE"
of = { method = "fedavg" }
against = { method = "baffle" }
margin = 0.01
"""


def test_the_contrasts_of_a_matrix_stand_on_the_card_with_their_verdicts(tmp_path: Path) -> None:
    planned = cells(("fedavg", "baffle"), alphas=("iid", 0.1), seeds=(0, 1, 2, 3, 4))
    write_run(tmp_path / "study", planned)
    with pytest.raises(ConfigError, match="study: its matrix states no contrast"):
        verdicts_table(Archive(tmp_path), "study")
    (tmp_path / "study" / "matrix.toml").write_text(CONTRAST, encoding="utf-8")
    head, _, iid, _ = verdicts_table(Archive(tmp_path), "study").splitlines()
    sides = [
        [accuracy(cell) for cell in planned if cell.method == m and cell.alpha == "iid"] for m in ("fedavg", "baffle")
    ]
    mean = 100 * float(np.mean(np.subtract(*sides)))
    assert head == "| contrast | setting | metric | seeds | difference or ratio | margin | family | verdict |"
    assert iid.startswith(f"| backpropagation against BAFFLE | alpha iid | Test accuracy | 5 | {mean:+.1f} points [")
    assert iid.endswith("| 1.0 points | study (2) | better |")
    card = tmp_path / "study" / "card.toml"
    card.write_text('question = "?"\nsuperseded_by = "other"', encoding="utf-8")
    write_run(tmp_path / "other", planned[:1])
    assert verdicts_table(Archive(tmp_path), "study").count("| not tested: study study is superseded by other |") == 2


def test_a_study_that_is_to_be_superseded_says_so_on_its_card_and_in_the_index(archive: Archive) -> None:
    card = archive.results / "study" / "card.toml"
    reason = 'superseded_by = "later"\nsuperseded_because = "its masks were unlike"\n[series]'
    card.write_text(CARD.replace("[series]", reason), encoding="utf-8")
    (archive.results / CLAIMS).write_text('claim = []\ncoming = ["later"]', encoding="utf-8")
    assert facts(archive, "study").endswith(
        "\n**To be superseded by later, which is not published yet, because its masks were unlike.**\n"
    )
    assert "| Is the mask better? To be superseded by later," in index(archive)
    (archive.results / CLAIMS).write_text('claim = []\ncoming = ["latter"]', encoding="utf-8")
    with pytest.raises(ConfigError, match=r'superseded_by: there is no study "later", .* Did you mean "latter"'):
        facts(archive, "study")
    own = cells(("fedavg",), alphas=("iid",))
    write_run(archive.results / "later", own, lambda cell: "missing" if cell is own[0] else "ok")
    unfinished = (
        "**To be superseded by [later](../later/README.md), which is not finished yet, because its masks were unlike.**"
    )
    assert unfinished in facts(archive, "study")
    write_run(archive.results / "later", own)
    superseded = "**Superseded by [later](../later/README.md), because its masks were unlike.**"
    assert superseded in facts(Archive(archive.results), "study")


@pytest.mark.parametrize("line", ['superseded_by = "later"', 'superseded_because = "of its masks"'])
def test_a_card_says_what_supersedes_its_study_together_with_the_reason(archive: Archive, line: str) -> None:
    card = archive.results / "study" / "card.toml"
    card.write_text(CARD.replace("[series]", f"{line}\n[series]"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"card\.toml cannot be used: give superseded_by with superseded_because"):
        facts(archive, "study")


def test_a_corrected_table_counts_what_holm_leaves_of_all_of_the_card(archive: Archive) -> None:
    path = archive.results / "study" / "card.toml"
    corrected = CARD.replace('name = "accuracy"', 'name = "accuracy"\ncorrected = true').replace("0.8", "0.5")
    series = NTK | {"sparsity": 0.5}
    smaller, larger = sorted(
        stats.ttest_1samp(np.subtract(accuracies(**series | at), accuracies(**DENSE | at)), 0.0).pvalue
        for at in ({"alpha": "iid"}, {"alpha": 0.1})
    )
    assert smaller < 0.05 / 2 and larger < 0.05 and smaller > 0.05 / 8
    path.write_text(corrected, encoding="utf-8")
    table = card_table(archive, "study", read_card(path), "accuracy")
    assert table.count(" \\* |") == 2
    assert table.rstrip().endswith(
        "Of these 2 intervals 2 exclude 0 each for itself, and 2 after Holm's correction among them (marked \\*). "
        "No contrast was fixed before these cells ran."
    )
    others = [corrected.split("[[table]]")[1].replace('"accuracy"\ncorr', f'"{name}"\ncorr') for name in "abc"]
    path.write_text("\n[[table]]".join([corrected, *others]), encoding="utf-8")
    table = card_table(archive, "study", read_card(path), "accuracy")
    assert "Of these 2 intervals 2 exclude 0 each for itself, and 0 after Holm's correction among all 8" in table
    assert "\\*" not in table


def test_a_changed_digit_is_found_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    table = "| a |\n| --- |\n| 1.0 |\n| 2.0 |"
    good = f"# Title\n\n{marked('t', table)}\n\nwords\n"
    assert regenerated(file, good, lambda name: {"t": table}[name]) == good
    assert list(differences(file, good, lambda name: table)) == []
    (found,) = differences(file, good.replace("1.0", "1.1"), lambda name: table)
    assert (found.line, found.old, found.new) == (6, "| 1.1 |", "| 1.0 |")
    assert str(found) == f"{file}:6: '| 1.1 |' stands there, the records give '| 1.0 |'."
    (missing,) = differences(file, good.replace("| 2.0 |\n", ""), lambda name: table)
    assert (missing.old, missing.new) == (None, "| 2.0 |")


def test_a_value_stands_in_its_line_between_markers(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    good = "It is <!-- value: a -->2.5 MiB<!-- end -->, and `x` <!-- value: b/c -->3<!-- end -->.\n"
    values = {"a": "2.5 MiB", "b/c": "3"}.__getitem__
    assert regenerated(file, good, str, values) == good
    (found,) = differences(file, good.replace("2.5", "2.6"), str, values)
    assert (found.line, found.new) == (1, good.rstrip())
    by_hand = written_by_hand(file, good)
    assert by_hand.split() == ["It", "is", ",", "and", "`x`", "."] and len(by_hand) == len(good.rstrip())


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("<!-- value: a -->1<!-- end --> of", r'page.md:3: the value "a" begins its line'),
        ("  * <!-- value: a -->1<!-- end --> of", r'page.md:3: the value "a" begins its line'),
        ("it is <!-- value: a -->1", r'page.md:3: a value is "<!-- value: NAME -->...<!-- end -->", all in one line'),
        ("it is 1<!-- end -->", r'page.md:3: a value is "<!-- value: NAME -->'),
        ("it is <!-- value: b -->1<!-- end -->", 'There is no value "b" here'),
    ],
)
def test_an_odd_value_is_a_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        regenerated(tmp_path / "page.md", f"# Title\n\n{line}\n", str)


@pytest.mark.parametrize("end", ["", "<!-- table: u -->\n<!-- end of table -->\n"])
def test_a_table_without_an_end_is_a_sentence(tmp_path: Path, end: str) -> None:
    with pytest.raises(ConfigError, match=r'page.md:2: the table "t" has no "<!-- end of table -->"'):
        regenerated(tmp_path / "page.md", f"words\n<!-- table: t -->\n| a |\n{end}", lambda name: "")


def changed(image: bytes, row: slice, column: slice, value: float) -> bytes:
    pixels = matplotlib.image.imread(io.BytesIO(image), format="png")[..., :3].copy()
    pixels[row, column] = value
    stream = io.BytesIO()
    matplotlib.image.imsave(stream, pixels, format="png")
    return stream.getvalue()


def test_rounding_is_no_difference_of_figures_and_a_stroke_of_a_digit_is() -> None:
    stream = io.BytesIO()
    matplotlib.image.imsave(stream, np.full((40, 60, 3), 0.5), format="png")
    image = stream.getvalue()
    assert pixel_difference(image, image) is None
    assert pixel_difference(image, changed(image, slice(8, 9), slice(20, 60), 0.6)) is None
    assert pixel_difference(image, changed(image, slice(8, 12), slice(20, 21), 0.0)) == "at pixel (19, 9) by 17%"
    stream = io.BytesIO()
    matplotlib.image.imsave(stream, np.full((40, 61, 3), 0.5), format="png")
    assert pixel_difference(stream.getvalue(), image) == "61 x 40 pixels instead of 60 x 40"


@pytest.mark.thorough
def test_a_new_card_says_what_records_say_and_shows_every_figure(drawn: Archive) -> None:
    study = drawn.results / "small"
    assert write_card(study)
    written = refresh(drawn.results)
    page = (study / "README.md").read_text(encoding="utf-8")
    assert "| cells | 1 |" in page and "| seeds | 0 |" in page and "| commits | `01234567` |" in page
    assert "| run it again | `fedfore run results/small/matrix.toml --out results/runs/small` |" in page
    assert "| ran on | Some CPU, 2 CPUs, torch 2.13.0 |" in page
    figures = sorted(path.name for path in (study / "figures").glob("*.png"))
    assert "cost-digits-lenet5.png" in figures and all(f"(figures/{name})" in page for name in figures)
    assert study / "README.md" in written
    assert list(page_differences(drawn, study / "README.md")) == []
    assert not write_card(study) and refresh(drawn.results) == []


def test_the_card_of_an_unfinished_study_gives_no_verdicts(tmp_path: Path) -> None:
    planned = cells(("baffle", "fedavg"), alphas=("iid",))
    write_run(tmp_path / "results" / "half", planned, lambda cell: "ok" if cell is planned[0] else "missing")
    (tmp_path / "results" / "half" / "matrix.toml").write_text(CONTRAST, encoding="utf-8")
    write_card(tmp_path / "results" / "half")
    refresh(tmp_path / "results", ["half"])
    page = (tmp_path / "results" / "half" / "README.md").read_text()
    assert "| cells | 1 of 6 cells, no verdicts |" in page
    assert "| not tested: study half is unfinished: 1 of 6 cells |" in page

    card, archive = tmp_path / "results" / "half" / "README.md", Archive(tmp_path / "results")
    assert list(lacking_tables(archive, card)) == []
    card.write_text(page.replace("<!-- table: verdicts -->", ""), encoding="utf-8")
    (sentence,) = lacking_tables(archive, card)
    assert sentence.endswith(
        'its table "verdicts"; put `<!-- table: verdicts -->` and `<!-- end of table -->` on lines of their own.'
    )


def test_a_page_shows_only_figures_of_its_study_and_the_folder_holds_only_shown_ones(drawn: Archive) -> None:
    study = drawn.results / "small"
    (study / "README.md").write_text("![costs](figures/cost-digits-lenet5.png)\n", encoding="utf-8")
    (path,) = refresh_figures(study)
    assert list(figure_differences(study)) == []
    path.write_bytes(changed(path.read_bytes(), slice(50, 54), slice(100, 103), 0.0))
    (study / "figures" / "other.png").write_bytes(path.read_bytes())
    differing, unshown = figure_differences(study)
    assert differing.startswith(f"{path} differs from what the records give: at pixel (10")
    assert unshown == f"{study / 'figures' / 'other.png'} is shown by no page."
    (study / "README.md").write_text("![costs](figures/cost-digits-lenet.png)\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r'shows the figure "cost-digits-lenet"\. Did you mean "cost-digits-lenet5"'):
        refresh_figures(study)


def test_refresh_writes_what_changed_and_names_it(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    page = archive.results / "study" / "README.md"
    page.write_text(f"# study\n\n{marked('accuracy', '')}\n", encoding="utf-8")
    assert main(["refresh", "study", "--results", str(archive.results)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert "| iid | NTK | " in page.read_text(encoding="utf-8")
    assert main(["refresh", "--results", str(archive.results)]) == 0
    assert capsys.readouterr().out == ""
    assert main(["refresh", "studi", "--results", str(archive.results)]) == 2
    assert 'There is no study "studi"' in capsys.readouterr().err


PAGES = pages(ROOT / "results")


@pytest.fixture(scope="module")
def published() -> Archive:
    return Archive(ROOT / "results")


MANY_FIGURES = ("scalar-error", "layer-densities", "ntk-error")
"""Studies whose figures take many seconds to draw."""


def _figured(study: str) -> Any:
    return pytest.param(study, marks=[pytest.mark.slow] if study in MANY_FIGURES else [])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_published_page_is_what_the_records_give(published: Archive, page: Path) -> None:
    assert [str(difference) for difference in page_differences(published, page)] == []


@pytest.mark.parametrize("study", [_figured(name) for name in studies(ROOT / "results")])
@pytest.mark.thorough
def test_the_published_figures_are_what_the_records_give(study: str) -> None:
    assert list(figure_differences(ROOT / "results" / study)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_published_page_links_to_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_study_has_a_card_whose_tables_and_values_are_all_shown() -> None:
    folders = {path.parent.name for name in ("cells.jsonl", MESSAGES) for path in (ROOT / "results").glob(f"*/{name}")}
    assert sorted(folders) == studies(ROOT / "results")
    shared = "".join((ROOT / place / "README.md").read_text(encoding="utf-8") for place in ("", "results"))
    for study in folders:
        page = (ROOT / "results" / study / "README.md").read_text(encoding="utf-8")
        names = [table.name for table in read_card(ROOT / "results" / study / "card.toml").table]
        assert [name for name in ("facts", *names) if page.count(f"<!-- table: {name} -->") != 1] == []
        own, others = (f"<!-- value: {prefix}{{}} -->" for prefix in ("", f"{study}/"))
        for name in read_card(ROOT / "results" / study / "card.toml").values:
            assert own.format(name) in page or others.format(name) in shared, (study, name)


def test_a_table_of_choices_is_what_the_trials_say(published: Archive) -> None:
    trials = published.table("quick-tuning")
    trials = trials[(trials["stage"] == "tune2") & (trials["method"] == "fedavg")]
    means = trials.groupby("params.lr")["validation_accuracy"].mean().sort_values(ascending=False)
    row = next(line for line in choices_table(published, "quick-tuning").splitlines() if line.startswith("| fedavg |"))
    assert row.split(" | ")[1:6] == [f"lr {means.index[0]:g}", "5", "2", *(f"{100 * mean:.1f}" for mean in means[:2])]


def test_a_study_without_trials_has_no_choices(published: Archive) -> None:
    with pytest.raises(ConfigError, match="device-costs: its matrix tunes nothing"):
        choices_table(published, "device-costs")


@pytest.mark.parametrize("sparsity", ["0", "0.8"])
def test_the_exchanges_of_the_random_seed_trick_are_what_its_command_prints(
    sparsity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = shlex.split(read_card(ROOT / "results" / "random-seed-trick" / "card.toml").command)
    assert main([*command[1:], "--sparsity", sparsity]) == 0
    printed = json.loads(capsys.readouterr().out)
    exchanges = printed.pop("exchanges")
    settings = {"model": "lenet5", "num_perturbations": 50, "sparsity": float(sparsity)}
    lines = (ROOT / "results" / "random-seed-trick" / MESSAGES).read_text(encoding="utf-8").splitlines()
    stored = [line for line in map(json.loads, lines) if line.items() >= settings.items()]
    assert len(stored) == len(exchanges)
    for line, exchange in zip(stored, exchanges, strict=True):
        assert line.items() >= {**printed, **exchange}.items()

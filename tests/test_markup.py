"""Tables as Markdown, LaTeX and plain text: their form, and names that would be obeyed if they were not escaped."""

from __future__ import annotations

import pandas as pd
import pytest

from fedfore.plots.heterogeneity import ALPHA
from fedfore.plots.wording import MINUS, UNKNOWN
from fedfore.records.markup import aligned, escaped, latex, lines_of, literal, markdown, plain

ODD = r"a|b \ c_d & 50% of {x} ~^#$"
TABLE = pd.DataFrame([["FedAvg", "1.50"], [ODD, UNKNOWN]], columns=["Method", "Error (%) ↓"])


def test_a_table_in_markdown_keeps_numbers_as_they_are_written_and_bars_as_bars() -> None:
    assert markdown(TABLE).splitlines() == [
        "| Method | Error (%) ↓ |",
        "| --- | --- |",
        "| FedAvg | 1.50 |",
        "| " + ODD.replace("|", r"\|") + f" | {UNKNOWN} |",
    ]
    assert markdown(TABLE, words=1).splitlines()[1] == "| --- | --: |"


def test_a_table_without_rows_or_titles_has_its_head() -> None:
    assert markdown(TABLE[:0]) == "| Method | Error (%) ↓ |\n| --- | --- |\n"
    assert markdown(pd.DataFrame([["a", ""]], columns=["", ""])) == "|  |  |\n| --- | --- |\n| a |  |\n"


def test_a_cell_of_several_lines_stays_in_its_row() -> None:
    assert len(markdown(pd.DataFrame([["one\ntwo\x1b[31m"]], columns=["x"])).splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "written"),
    [("K=100, [0.1]", "K=100, [0.1]"), ("my_method", "my_method"), ("\\|", r"\\|"), ("*`<b>", r"\*\`\<b>")],
)
def test_a_name_reads_as_itself_in_markdown(text: str, written: str) -> None:
    assert literal(text) == written


def test_a_backslash_before_a_bar_is_both_in_markdown() -> None:
    (row,) = markdown(pd.DataFrame([["a\\|b"]], columns=["x"]).map(literal)).splitlines()[2:]
    assert row == r"| a\\\|b |"


def test_a_table_in_latex_has_rules_and_heads_over_neighbours() -> None:
    made = latex(
        ["", "A", "A", ""], ["Method", "iid", "skewed", "n"], [["x", "1", "2", "3"], ["y", "", "4", "5"]], 1, {1}
    )
    assert made.splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{A} &  \\",
        r"\cmidrule(lr){2-3}",
        r"Method & iid & skewed & n \\",
        r"\midrule",
        r"x & 1 & 2 & 3 \\",
        r"\midrule",
        r"y &  & 4 & 5 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"\cmidrule" not in latex(["", ""], ["a", "b"], [], 1)


def test_no_special_character_is_bare_in_latex() -> None:
    assert escaped(ODD) == (
        r"a\textbar{}b \textbackslash{} c\_d \& 50\% of \{x\} \textasciitilde{}\textasciicircum{}\#\$"
    )
    assert escaped("[a] *") == "{[}a] {*}", "behind the end of a row both would be taken for its arguments"


def test_every_sign_of_a_table_is_ascii_in_latex() -> None:
    signs = f"±\N{MULTIPLICATION SIGN}²<>|↑↓†‡§¶‖▲▼≈\N{TILDE OPERATOR}{UNKNOWN}{MINUS}{ALPHA}"
    assert escaped(signs).isascii() and not set(escaped(signs)) & set("<>")


def test_rows_of_plain_text_are_aligned_and_keep_their_indent() -> None:
    rows = [("Model", "", ""), ("  MACs", "1.5 M", "1,500,000"), ("", "", ""), ("  Bytes", "12", "3 B")]
    assert plain(rows, ("left", "right", "right")).splitlines() == [
        "Model",
        "  MACs   1.5 M  1,500,000",
        "",
        "  Bytes     12        3 B",
    ]


def test_a_table_for_a_terminal_breaks_its_titles_and_separates_its_blocks() -> None:
    rows = [["FedAvg", "94.4 ± 1.3", "2.55"], ["a \x1b[0m", "", "3"]]
    assert aligned(["Method", "Test accuracy (%) ↑", "Peak device MiB ↓"], rows, 1, {1}).splitlines() == [
        "Method           Test      Peak",
        "             accuracy    device",
        "                (%) ↑     MiB ↓",
        "---------  ----------  --------",
        "FedAvg     94.4 ± 1.3      2.55",
        "---------  ----------  --------",
        "a \\x1b[0m                     3",
    ]
    assert aligned(["a", "b"], [], 1).splitlines()[0].split() == ["a", "b"]


def test_an_arrow_stays_with_its_word() -> None:
    assert lines_of("Peak device MiB ↓", 11) == ["Peak device", "MiB ↓"]
    assert lines_of("Peak device MiB ↓", 4) == ["Peak", "device", "MiB ↓"] and lines_of("", 5) == [""]
    assert lines_of("points, a = 0.1", 9) == ["points,", "a = 0.1"]

"""Tables as Markdown, LaTeX and plain text: their form, and names that would be obeyed if they were not escaped."""

from __future__ import annotations

import pandas as pd
import pytest

from fedfore.plots.wording import ALPHA, MINUS, UNKNOWN
from fedfore.records.markup import escaped, latex, literal, markdown, plain

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


def test_a_table_in_latex_has_rules_and_no_bare_special_character() -> None:
    assert latex(TABLE, words=1).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"Method & Error (\%) $\downarrow$ \\",
        r"\midrule",
        r"FedAvg & 1.50 \\",
        r"a|b \textbackslash{} c\_d \& 50\% of \{x\} \textasciitilde{}\textasciicircum{}\#\$ & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_every_sign_of_a_table_is_ascii_in_latex() -> None:
    signs = f"±<>↑↓†‡§{UNKNOWN}{MINUS}{ALPHA}"
    assert escaped(signs).isascii() and not set(escaped(signs)) & set("<>")


def test_rows_of_plain_text_are_aligned_and_keep_their_indent() -> None:
    rows = [("Model", "", ""), ("  MACs", "1.5 M", "1,500,000"), ("", "", ""), ("  Bytes", "12", "3 B")]
    assert plain(rows, ("left", "right", "right")).splitlines() == [
        "Model",
        "  MACs   1.5 M  1,500,000",
        "",
        "  Bytes     12        3 B",
    ]

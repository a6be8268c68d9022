"""Tables of a study: what stands in each place, what is said under it, and the same as files for other programs."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedfore.cell import Cell, cell_id
from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.plots.heterogeneity import ALPHA as HETEROGENEITY
from fedfore.plots.tables.asked import Asked
from fedfore.plots.tables.show import render
from fedfore.plots.wording import MINUS, UNKNOWN
from fedfore.records.lines import ADJUSTMENTS, CLIENTS, EIGENVALUES, LAYERS, ROUNDS
from fedfore.records.metrics import MEASURED
from fedfore.records.packed import MATRIX
from tests.synthetic import cells, rounds, write_lines, write_run

MIB, GIGA = 1024**2, 1e9
FIVE = (0, 1, 2, 3, 4)

CONTRASTS = """
[[contrast]]
name = "pruning"
of = { method = "fedtiny" }
against = { method = "fedavg" }
family = "main"

[[contrast]]
name = "no backpropagation"
of = { method = "fedavg" }
against = { method = "baffle" }
margin = 0.02
family = "main"
"""


def planned(seeds: tuple[int, ...] = FIVE, **given: Any) -> list[Cell]:
    own = {"methods": ("fedavg", "fedtiny", "baffle"), "alphas": ("iid", 0.1), "sparsities": (0.8,), **given}
    return cells(**own, seeds=seeds)


def measured(cell: Cell) -> dict[str, Any]:
    """Return made-up numbers: a seed moves FedAvg by 1 point, FedTiny by 1.2, BAFFLE by 4 against the others.

    The deviation of five seeds is sqrt(2.5) steps, so half of a mean's interval is 2.776 sqrt(2.5 / 5) = 1.963 steps.
    """
    step = (cell.seed % 5 - 2) / 100
    level, lost = (0.6, 0.1) if cell.alpha == "iid" else (0.5, 0.2)
    accuracy = {"fedavg": level + step, "fedtiny": level - lost + 1.2 * step, "baffle": level - 3 * step}[cell.method]
    traffic = {"fedavg": 300, "fedtiny": 60, "baffle": 150}[cell.method]
    return {
        "test_accuracy": accuracy,
        "client_accuracy_min": accuracy - 0.1,
        "peak_device_bytes": {"fedavg": 3 * MIB, "fedtiny": 2 * MIB, "baffle": 0.5 * MIB}[cell.method],
        "train_flops_total": {"fedavg": 40, "fedtiny": 8, "baffle": 1500}[cell.method] * GIGA,
        "setup_flops_total": 2 * GIGA if cell.method == "fedtiny" else 0,
        "uplink_bytes": traffic * MIB / 3,
        "downlink_bytes": 2 * traffic * MIB / 3,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    write_run(folder, planned(), change=measured)
    (folder / MATRIX).write_text(CONTRASTS)
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a cell a method."""
    folder = tmp_path_factory.mktemp("few")
    write_run(folder, planned((0,), alphas=("iid",)), change=measured)
    return folder


def shown(run: Path, form: str = "markdown", **asked: Any) -> str:
    return str(render(run, form, Asked(**asked)))


ALPHA, TILDE = f"{HETEROGENEITY} = 0.1", "\N{TILDE OPERATOR}"
MARKDOWN = f"""\
| Clients' labels | Method | Sparsity | Test accuracy (%) ↑ | Minus FedAvg (dense), points \
| Worst client's accuracy (%) ↑ | Peak device MiB ↓ | Total device GFLOPs ↓ | Total MiB, up and down ↓ |
| --- | --- | --- | --: | --: | --: | --: | --: | --: |
| iid | BAFFLE | dense | **60.0** ± 5.9 | 0.0 ± 7.9 {TILDE} | **50.0** | **0.50** | 1,500 | 150 |
| iid | FedTiny | 0.8 | 50.0 ± 2.4 | {MINUS}10.0 ± 0.4 ▼ | 40.0 | 2.00 | **10** | **60** |
| iid | FedAvg (dense) | dense | **60.0** ± 2.0 | {UNKNOWN} | **50.0** | 3.00 | 40 | 300 |
| {ALPHA} | BAFFLE | dense | **50.0** ± 5.9 | 0.0 ± 7.9 {TILDE} | **40.0** | **0.50** | 1,500 | 150 |
| {ALPHA} | FedTiny | 0.8 | 30.0 ± 2.4 | {MINUS}20.0 ± 0.4 ▼ | 20.0 | 2.00 | **10** | **60** |
| {ALPHA} | FedAvg (dense) | dense | **50.0** ± 2.0 | {UNKNOWN} | **40.0** | 3.00 | 40 | 300 |

**Bold**: the best of a column within its block; controls, what is not certified and what has fewer seeds than others \
stand aside.

All rows: data set digits; model LeNet-5; seeds 5.

Means over seeds, ± half of the 95% Student-t interval.

Minus FedAvg (dense): paired by seed, ± half of the 95% Student-t interval, not corrected for their number as verdicts \
are.

▼ worse, {TILDE} inconclusive: verdicts on contrasts that the matrix states, 4 in the family main; \
Holm's correction, family-wise error 5%.
"""

HEAD = r"""\begin{table}
\centering
\caption{Three methods}
\label{tab:three}
\begin{tabular}{llrrrrr}
\toprule
 &  & \multicolumn{2}{c}{Test accuracy (\%) $\uparrow$} & \multicolumn{2}{c}{Minus FedAvg (dense), points} &  \\
\cmidrule(lr){3-4} \cmidrule(lr){5-6}
Method & Sparsity & iid & $\alpha$ = 0.1 & iid & $\alpha$ = 0.1 & \shortstack[r]{Peak device \\ MiB $\downarrow$} \\
\midrule
"""
ROOM = r"\hphantom{ $\sim$}"
BELOW = (r"$-${}0.0 $\pm$ 0.4\rlap{{ $^{{\bigtriangledown}}$}}" + ROOM.replace("{", "{{").replace("}", "}}")).format
ZERO = r"0.0 $\pm$ 7.9\rlap{ $\sim$}" + ROOM
BODY = (
    rf"BAFFLE & dense & \textbf{{60.0}} $\pm$ 5.9 & \textbf{{50.0}} $\pm$ 5.9 & {ZERO} & {ZERO} & \textbf{{0.50}} \\",
    rf"FedTiny & 0.8 & 50.0 $\pm$ 2.4 & 30.0 $\pm$ 2.4 & {BELOW(1)} & {BELOW(2)} & 2.00 \\",
    rf"FedAvg (dense) & dense & \textbf{{60.0}} $\pm$ 2.0 & \textbf{{50.0}} $\pm$ 2.0 & --{ROOM} & --{ROOM} & 3.00 \\",
    r"\bottomrule",
    r"\end{tabular}",
    r"\par\smallskip",
    r"\begin{minipage}{\linewidth}\footnotesize",
    "",
)


def test_the_table_of_a_study_in_markdown(run: Path) -> None:
    assert shown(run) == MARKDOWN


def test_the_same_in_latex_with_an_axis_as_columns(run: Path) -> None:
    columns = ("test_accuracy", "peak_device_bytes")
    made = shown(
        run, "latex", by="alpha", columns=columns, baseline="fedavg", caption="Three methods", label="tab:three"
    )
    assert made.startswith(HEAD + "\n".join(BODY)) and made.endswith("\\par\n\\end{minipage}\n\\end{table}\n")
    assert "\nAll rows: data set digits; model LeNet-5; seeds 5.\\par\n" in made
    assert "\n$^{\\bigtriangledown}$ worse, $\\sim$ inconclusive: verdicts on contrasts" in made


def test_in_a_terminal_repeated_words_are_blank_and_the_best_have_a_star(run: Path) -> None:
    text = shown(run, "plain", columns=("test_accuracy", "total_bytes"))
    lines = [line.split() for line in text.splitlines()]
    assert ["iid", "BAFFLE", "dense", "60.0*", "±", "5.9", "150"] in lines
    assert ["FedTiny", "0.8", "50.0", "±", "2.4", "60*"] in lines
    assert "\n* the best of a column within its block;" in text and "**" not in text


def row(text: str, *start: str) -> list[str]:
    """Return what stands behind the first cells of the one row of a Markdown table that begins so."""
    begin = "| " + " | ".join(start) + " | "
    (line,) = (line for line in text.splitlines() if line.startswith(begin))
    return line.removeprefix(begin).removesuffix(" |").split(" | ")


# Rows and columns


def test_values_of_a_key_are_columns_and_who_lacks_the_key_has_the_same_in_all(tmp_path: Path) -> None:
    write_run(
        tmp_path, planned((0, 1), num_perturbations=(50, 500), alphas=("iid",)),
        change=lambda cell: {**measured(cell), "uplink_bytes": cell.params.get("num_perturbations", 7) * MIB},
    )  # fmt: skip
    text = shown(tmp_path, by="num_perturbations", columns=("uplink_bytes", "peak_device_bytes"))
    assert text.splitlines()[0] == (
        "| Method | Sparsity | Uplink MiB ↓, K=50 | Uplink MiB ↓, K=500 | Peak device MiB ↓ |"
    )
    assert row(text, "BAFFLE") == ["dense", "50", "500", "**0.50**"]
    assert row(text, "FedAvg (dense)") == ["dense", "**7**", "**7**", "3.00"]


def test_where_methods_are_columns_the_best_is_that_of_its_row(run: Path) -> None:
    text = shown(run, by="method", columns=("total_bytes",))
    assert row(text, "iid", "dense") == ["**150**", UNKNOWN, "300"]
    assert row(text, "iid", "0.8") == [UNKNOWN, "60", UNKNOWN]
    assert "**Bold**: the best of a row;" in text


def test_what_is_the_same_in_all_rows_is_said_and_has_no_column(tmp_path: Path) -> None:
    write_run(tmp_path, planned((0, 1), methods=("fedavg", "baffle"), alphas=("iid",)), change=measured)
    text = shown(tmp_path, columns=("test_loss", "num_parameters", "peak_device_bytes", "validation_accuracy"))
    assert text.startswith("| Method | Peak device MiB ↓ |\n")
    same = "data set digits; model LeNet-5; clients' labels iid; test loss (nats) 0.300; k parameters 61.7; seeds 2"
    assert f"\nAll rows: {same}.\n" in text and "\nNot known in any cell: Validation accuracy.\n" in text


def test_a_single_row_keeps_its_columns(tmp_path: Path) -> None:
    write_run(tmp_path, planned(methods=("fedavg",), alphas=("iid",)), change=measured)
    text = shown(tmp_path, columns=("total_bytes",))
    assert text.startswith("| Method | Total MiB, up and down ↓ | Seeds |\n") and "| FedAvg (dense) | 300 | 5 |" in text


def test_models_and_options_are_called_as_papers_call_them(tmp_path: Path) -> None:
    plan = planned((0,), methods=("fedavg",), alphas=("iid",), model="resnet14:norm=none", dataset="cifar10")
    write_run(tmp_path, [*plan, *planned((0,), methods=("fedavg",), alphas=("iid",))])
    text = shown(tmp_path, columns=("num_parameters", "test_accuracy"))
    assert "| CIFAR-10 | ResNet-14, no norm |" in text and "| digits | LeNet-5 |" in text


# What stands in a place


def test_accuracies_near_1_have_both_ends_of_an_interval_on_the_logit_scale(tmp_path: Path) -> None:
    def near(cell: Cell) -> dict[str, Any]:
        return {"test_accuracy": 0.96 + 0.01 * (cell.seed - 2)}

    write_run(tmp_path, planned(methods=("fedavg",), alphas=("iid",)), change=near)
    text = shown(tmp_path, columns=("test_accuracy",))
    # logit(.96) = 3.178; half of the interval .01963 / (.96 x .04) = .5112; its ends expit(2.667), expit(3.689)
    assert "| 96.0 [93.5, 97.6] | 5 |" in text and "in brackets the 95% interval, on the logit scale" in text


def test_decimals_are_those_asked_for(run: Path) -> None:
    text = shown(run, columns=("test_accuracy", "peak_device_bytes"), baseline="FedAvg (dense)", decimals=3)
    assert row(text, "iid", "FedTiny", "0.8") == [
        "50.000 ± 2.356", f"{MINUS}10.000 ± 0.393 ▼", "2.000",
    ]  # fmt: skip


def test_of_values_that_read_alike_all_are_the_best(tmp_path: Path) -> None:
    numbers = {"fedavg": 0.6001, "fedtiny": 0.5999, "baffle": 0.5}
    write_run(
        tmp_path, planned((0, 1), alphas=("iid",)),
        change=lambda cell: {"test_accuracy": numbers[cell.method], "server_updates": 7 + (cell.method == "baffle")},
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy", "server_updates"))
    assert text.count("**60.0**") == text.count("**7**") == 2


def test_controls_what_is_not_certified_and_what_has_fewer_seeds_are_never_the_best(tmp_path: Path) -> None:
    numbers = {"fedavg": 0.5, "fedtiny": 0.6, "baffle": 0.7, "fed_ntk_zo": 0.7}
    plan = [
        replace(cell, estimator=estimator)
        for cell in planned((0, 1), methods=tuple(numbers), alphas=("iid",))
        for estimator in (("moment", "exact") if cell.method == "baffle" else (cell.estimator,))
    ]
    write_run(
        tmp_path, [replace(cell, id=cell_id(cell, {})) for cell in plan],
        lambda cell: "failed" if cell.method == "fedtiny" and cell.seed == 0 else "ok",
        change=lambda cell: {"test_accuracy": 0.8 if cell.estimator == "exact" else numbers[cell.method]},
        scalar_errors=lambda cell: (0.3, 0.3) if cell.method == "fed_ntk_zo" else (0.01, 0.01),
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy",))
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| Fed-NTK + ZO ‡ | 0.8 | 70.0 [70.0, 70.0] | 2 |",
        "| BAFFLE | dense | **70.0** [70.0, 70.0] | 2 |",
        "| FedTiny # | 0.8 | 35.0 [0.0, 100.0] | 1 / 2 |",
        "| FedAvg (dense) | dense | 50.0 [50.0, 50.0] | 2 |",
        "| BAFFLE, exact gradient | dense | 80.0 [80.0, 80.0] | 2 |",
    ]
    assert "Controls, which compete with nobody: BAFFLE, exact gradient." in text


def test_setup_alone_says_what_does_not_apply(tmp_path: Path) -> None:
    plan = [
        replace(cell, train=replace(cell.train, setup_only=True))
        for cell in planned((0, 1), methods=("fed_ntk_zo",), alphas=("iid",), sparsities=(0.5, 0.8))
    ]
    write_run(
        tmp_path, [replace(cell, id=cell_id(cell, {})) for cell in plan],
        change=lambda cell: dict.fromkeys(MEASURED)
        | {"uplink_bytes": 0, "downlink_bytes": MIB * (cell.sparsity > 0.5), "layer_density_min": cell.sparsity / 2},
    )  # fmt: skip
    text = shown(tmp_path, columns=("layer_density_min", "total_bytes", "uplink_bytes"))
    assert row(text, "0.5") == ["0.250", "n/a"] and row(text, "0.8") == ["0.400", "1"]
    assert "uplink bytes n/a" in text and "\nn/a: not applicable, since nothing is trained there" in text


def test_a_phase_that_there_is_not_has_no_peak(tmp_path: Path) -> None:
    write_run(
        tmp_path, planned((0,), methods=("fedavg", "baffle"), alphas=("iid",)),
        change=lambda cell: {**measured(cell), "peak_device_bytes_setup": MIB * (cell.method == "baffle")},
    )  # fmt: skip
    text = shown(tmp_path, columns=("peak_device_bytes_setup", "total_bytes"))
    assert row(text, "FedAvg (dense)") == ["n/a", "300"] and row(text, "BAFFLE") == ["1", "**150**"]


# Marks and notes


def test_marks_stand_at_the_name_or_at_the_value_that_they_are_of_and_each_has_its_footnote(tmp_path: Path) -> None:
    def odd(cell: Cell) -> dict[str, Any]:
        of = {"fedavg": {"code_sha256": "0" * 64}, "fedtiny": {"budget_used": 1.5 if cell.alpha == 0.1 else 1.0}}
        return {**measured(cell), **of.get(cell.method, {})}

    write_run(
        tmp_path, planned((1, 3)), change=odd,
        scalar_errors=lambda cell: (0.3, 0.3) if cell.method == "baffle" else (0.01, 0.01),
    )  # fmt: skip
    text = shown(tmp_path, by="alpha", columns=("test_accuracy", "total_bytes"))
    assert "| FedAvg (dense) † |" in text and "| BAFFLE ‡ |" in text
    assert row(text, "FedTiny") == ["0.8", "50.0 ± 15.2", "30.0 ± 15.2 §", "**60**"]
    for mark in "†‡§":
        assert text.count(f"\n{mark} ") == 1 and text.count(mark) == 2
    latex = shown(tmp_path, "latex", by="alpha", columns=("test_accuracy", "total_bytes"))
    assert r"FedAvg (dense) $^\dagger$ &" in latex and r"30.0 $\pm$ 15.2\rlap{ \S{}}\hphantom{ \S{}} &" in latex
    table = shown(tmp_path, by="method", columns=("test_accuracy",))
    assert "Test accuracy (%) ↑, BAFFLE ‡ |" in table and "Test accuracy (%) ↑, FedTiny |" in table
    assert row(table, ALPHA, "0.8") == [UNKNOWN, "30.0 ± 15.2 §", UNKNOWN]


def test_failures_are_chance_in_accuracies_left_out_of_all_else_and_said(tmp_path: Path) -> None:
    def fails(cell: Cell) -> Any:
        return {("fedtiny", 1): "diverged", ("fedavg", 0): "missing"}.get((cell.method, cell.seed), "ok")

    numbers = {"fedavg": 0.5, "fedtiny": 0.6, "baffle": 0.4}
    write_run(
        tmp_path, planned((0, 1, 2), alphas=("iid",)), fails,
        change=lambda cell: {"test_accuracy": numbers[cell.method], "test_loss": 1 + cell.seed},
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy", "test_loss"))
    # FedTiny: 60, 10 and 60%: logit(.4333) = -.2683, half .7171 / .2456 = 2.920: expit(-3.189), expit(2.652)
    assert row(text, "FedTiny #") == ["0.8", "**43.3** [4.0, 93.4]", "2.00 ± 12.71", "2 / 3"]
    assert row(text, "FedAvg (dense)")[:3] == ["dense", "50.0 [50.0, 50.0]", "2.50 ± 6.35"], (
        "what is missing is left out"
    )
    assert "\n# FedTiny, sparsity 0.8: 1 diverged of 3 seeds: chance in accuracies, left out of all else.\n" in text


def test_where_chance_is_not_known_a_failure_leaves_no_accuracy(tmp_path: Path) -> None:
    write_run(
        tmp_path, planned((0, 1), alphas=("iid",)), lambda cell: "failed" if cell.seed else "ok",
        change=lambda cell: {"chance_accuracy": None},
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy", "test_loss"))
    assert "| BAFFLE #" in text and "Not known in any cell: Test accuracy." in text
    assert "left out of all else. Where chance is not known there is no accuracy." in text


def test_a_failed_seed_is_chance_at_every_evaluation_of_its_series(tmp_path: Path) -> None:
    plan = planned((0, 1), methods=("fedavg",), alphas=("iid",))
    write_run(tmp_path, plan, lambda cell: "diverged" if cell.seed else "ok")
    write_lines(
        tmp_path,
        plan[0],
        ROUNDS,
        [{**line, "test_accuracy": 0.5 + place / 10} for place, line in enumerate(rounds(plan[0])[:2])],
    )
    text = str(render(tmp_path, "plain", rows="rounds"))
    assert "30.0 [0.0, 100.0]" in text and "35.0 [0.0, 100.0]" in text and "seeds 1 / 2" in text


def test_every_verdict_has_its_mark_seen_from_the_row(tmp_path: Path) -> None:
    """The matrix asks for the baseline against the row, and the row gets the opposite of the verdict."""
    others = ("fedtiny", "fedmef", "baffle", "baffle_erk")

    def in_ten(cell: Cell) -> dict[str, Any]:
        wave = (cell.seed - 4.5) / 1000
        moved = {"fedtiny": 0.05 + wave, "fedmef": -0.05 - wave, "baffle": wave, "baffle_erk": 40 * wave}
        return {"test_accuracy": 0.5 + moved.get(cell.method, 0.0)}

    write_run(tmp_path, planned(tuple(range(10)), methods=("fedavg", *others), alphas=("iid",)), change=in_ten)
    asked = '[[contrast]]\nname = "{0}"\nof = {{method = "fedavg"}}\nagainst = {{method = "{0}"}}\nmargin = 0.01\n'
    (tmp_path / MATRIX).write_text("".join(map(asked.format, others)))
    text = shown(tmp_path, columns=("test_accuracy",), baseline="fedavg")
    found = {name: row(text, name)[2][-1] for name in ("FedTiny", "FedMef", "BAFFLE", "BAFFLE + ERK")}
    assert found == {"FedTiny": "▲", "FedMef": "▼", "BAFFLE": "≈", "BAFFLE + ERK": TILDE}
    assert (
        f"\n▲ better, ▼ worse, ≈ equivalent, {TILDE} inconclusive: verdicts on contrasts that the matrix states, "
        "4 in the family study; Holm's correction, family-wise error 5%, equivalent within 1.0 points.\n"
    ) in text


def test_differences_are_to_the_point_of_the_same_setting_and_sparsity(tmp_path: Path) -> None:
    numbers = {"fedtiny": {0.5: 0.6, 0.8: 0.5}, "fedmef": {0.5: 0.7, 0.8: 0.4}, "fedavg": {0.0: 0.3}}
    write_run(
        tmp_path, planned((0, 1), methods=tuple(numbers), alphas=("iid",), sparsities=(0.5, 0.8)),
        change=lambda cell: {"test_accuracy": numbers[cell.method][cell.sparsity] + cell.seed / 100},
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy",), baseline="fedtiny")
    assert [row(text, "FedMef", level)[1] for level in ("0.5", "0.8")] == ["+10.0 ± 0.0", f"{MINUS}10.0 ± 0.0"]
    assert row(text, "FedAvg (dense)", "dense")[1] == UNKNOWN, "which of two sparsities is meant is not known"
    assert row(text, "FedTiny", "0.5")[1] == UNKNOWN


def test_differences_of_costs_are_exact_and_in_the_unit_of_their_column(run: Path) -> None:
    text = shown(run, columns=("peak_device_bytes",), baseline="fedavg")
    assert "Minus FedAvg (dense), Peak device MiB |" in text
    assert row(text, "iid", "FedTiny") == ["0.8", "2.00", f"{MINUS}1.00"]
    assert "Minus FedAvg (dense): the mean difference over seeds." in text


# The best setting on validation data


def tuned(cell: Cell) -> dict[str, Any]:
    """Return accuracies that are best in different places on validation and on test data."""
    rate = cell.params["lr"]
    best = {"fedavg": 0.1, "fedtiny": 0.3}[cell.method]
    return {"validation_accuracy": 0.8 if rate == best else 0.5, "test_accuracy": 0.4 + rate, "chance_accuracy": 0.1}


def rates(*given: float, methods: tuple[str, ...] = ("fedavg", "fedtiny")) -> list[Cell]:
    plan = [
        replace(cell, params={"lr": rate})
        for cell in planned((0, 1), methods=methods, alphas=("iid",))
        for rate in given
    ]
    return [replace(cell, id=cell_id(cell, {})) for cell in plan]


def test_the_setting_shown_is_the_best_on_validation_data_with_its_test_number(tmp_path: Path) -> None:
    write_run(tmp_path, rates(0.03, 0.1, 0.3), change=tuned)
    text = shown(tmp_path, columns=("test_accuracy",), best=())
    assert row(text, "FedAvg (dense)") == ["dense", "50.0 ± 0.0", "0.1"]
    assert row(text, "FedTiny") == ["0.8", "**70.0** ± 0.0", "0.3"]
    assert "Chosen lr |" in text and "\nlr: of 3 settings that of the highest mean validation accuracy;" in text
    assert "\nThe choice lies at an edge of what was tried: FedTiny.\n" in text


def test_a_setting_that_failed_counts_as_chance_and_a_tie_goes_to_the_smaller_value(tmp_path: Path) -> None:
    write_run(
        tmp_path, rates(0.03, 0.1, 0.3, methods=("fedavg",)),
        lambda cell: "diverged" if cell.params["lr"] == 0.1 and cell.seed else "ok", change=tuned,
    )  # fmt: skip
    text = shown(tmp_path, columns=("test_accuracy",), best=("lr",))
    assert "| FedAvg (dense) | 43.0 ± 0.0 | 0.03 | 2 |" in text, "0.8 and chance are 0.45 on average, 0.5 is more"


# Lines


def test_evaluations_are_a_table_with_methods_as_columns(few: Path) -> None:
    text = str(render(few, "markdown", Asked(columns=("uplink_bytes",)), rows="rounds"))
    assert text.startswith(
        "| Sparsity | Round | Uplink MiB ↓, BAFFLE | Uplink MiB ↓, FedTiny | Uplink MiB ↓, FedAvg (dense) |"
    )
    sent = 150 * 61_706 * 0.2 * 40 / MIB  # rounds x weights x density x bytes of ten clients
    assert row(text, "0.8", "600") == [UNKNOWN, f"{sent:.2f}", UNKNOWN]


def test_densities_of_layers_are_a_table_in_the_models_order(tmp_path: Path) -> None:
    plan = planned((0, 1), methods=("fedtiny", "fedmef"), alphas=("iid",))
    write_run(tmp_path, plan)
    for cell in plan:
        kept = 10 if cell.method == "fedtiny" else 20 + cell.seed
        write_lines(tmp_path, cell, LAYERS, [
            {"layer": name, "size": 100, "kept": kept * (1 + place), "forward_macs_dense": 5}
            for place, name in enumerate(("z.weight", "a.weight"))
        ])  # fmt: skip
    text = str(render(tmp_path, "markdown", rows="layers"))
    assert text.splitlines()[2:4] == [
        "| z.weight | 0.100 ± 0.000 | 0.205 ± 0.064 |",
        "| a.weight | 0.200 ± 0.000 | 0.410 ± 0.127 |",
    ]
    assert "All rows: data set digits; model LeNet-5; clients' labels iid; sparsity 0.8; seeds 2." in text


EXPORTED = {
    "rounds": None,
    "adjustments": (ADJUSTMENTS, [{"round": 3, "pruned": 5, "grown": 5, "churn": None}]),
    "clients": (CLIENTS, [{"client": 0, "examples": 7, "class_counts": [3, 4], "test_accuracy": 0.5}]),
    "eigenvalues": (EIGENVALUES, [{"client": 0, "inputs": "real", "eigenvalues": [0.5, 0.25]}]),
}


@pytest.mark.parametrize("kind", EXPORTED)
def test_lines_are_tidy_rows_with_the_settings_of_their_cell(kind: str, tmp_path: Path) -> None:
    plan = planned((0,), methods=("fedavg",))
    write_run(tmp_path, plan)
    for cell in plan if EXPORTED[kind] else ():
        write_lines(tmp_path, cell, *EXPORTED[kind])  # type: ignore[misc]
    table = pd.read_csv(io.StringIO(str(render(tmp_path, "csv", rows=kind))))
    stored = pd.read_parquet(io.BytesIO(bytes(render(tmp_path, "parquet", rows=kind))))  # type: ignore[arg-type]
    objects = json.loads(str(render(tmp_path, "json", rows=kind)))
    assert list(table) == list(stored) == list(objects[0])
    assert len(table) == len(stored) == len(objects) == len(plan) * (21 if kind == "rounds" else 1)
    assert {"cell_id", "seed", "params.lr", "train.batch_size", "alpha"} < set(table)
    assert set(stored["alpha"]) == {one["alpha"] for one in objects} == {"iid", "0.1"}
    if kind == "clients":
        assert stored["class_counts"].iloc[0] == "[3, 4]" and objects[0]["class_counts"] == [3, 4]


def test_no_column_of_a_parquet_file_is_without_a_type(few: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    schema = parquet.read_schema(io.BytesIO(render(few, "parquet")))  # type: ignore[arg-type]
    kinds = dict(zip(schema.names, map(str, schema.types), strict=True))
    assert "null" not in kinds.values()
    assert kinds["alpha"] == kinds["reason"] == kinds["params.lr"].replace("double", kinds["alpha"])
    assert kinds["evaluates_other_weights"] == "bool" and kinds["grad_cosine"] == "double"


# Names that there are not


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--columns test_acuracy", 'There is no metric "test_acuracy". Did you mean "test_accuracy"?'),
        ("--by alhpa", '--by alhpa: nothing is called "alhpa". Did you mean "alpha"?'),
        ("--by test_loss", "--by test_loss: that is measured; name what is set, such as alpha, sparsity,"),
        ("--baseline FedTinny", 'There is no series "FedTinny". Did you mean "FedTiny"?'),
        ("--baseline Fed", '"Fed" may be FedTiny or FedAvg (dense); write one of them whole.'),
        ("--best", "--best: no two cells of a method differ in lr or init_scale; name the keys to choose."),
        ("--best momentum", '--best: nothing is called "momentum".'),
        ("--label tab:a", "A label refers to a caption; give --caption too."),
        ("--caption a --label {", 'The label "{" may have letters, digits and any of ":._-"; choose another.'),
        ("--csv --by alpha", "--csv has every field of every row; shape a table with --markdown or --latex."),
        ("--rows eigenvalues", "Eigenvalues are lists of numbers, and no table; take --csv, --json or --parquet."),
        ("--rows clients", "has no clients."),
        ("--rows rounds --columns kept", 'Rounds have no number "kept"; they have data_passes, uplink_bytes,'),
        ("--rows rounds --baseline FedTiny", "--baseline and --best compare cells; leave them out, or --rows rounds."),
    ],
)
def test_a_wrong_wish_is_one_sentence(words: str, sentence: str, few: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(few), *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("fedfore: ") and sentence in err and err.count("\n") == 1


def test_a_choice_without_validation_data_names_a_cell(tmp_path: Path) -> None:
    write_run(tmp_path, rates(0.1, 0.3))
    with pytest.raises(ConfigError, match=r"and fed\w+-\w+ knows none; run the matrix with train.validation_fraction"):
        shown(tmp_path, best=("lr",))


# A real TeX


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex on this machine")
def test_tables_compile(tmp_path: Path) -> None:
    write_run(
        tmp_path / "run", planned(), lambda cell: "failed" if (cell.method, cell.seed) == ("fedtiny", 0) else "ok",
        change=lambda cell: {**measured(cell), "code_sha256": "0" * 64, "budget_used": 1.5},
        scalar_errors=lambda cell: (0.3, 0.3) if cell.method == "baffle" else (0.01, 0.01),
    )  # fmt: skip
    (tmp_path / "run" / MATRIX).write_text(CONTRASTS)
    caption = "All of it: 50% & more_than #1 ~ {x} ^ \\ $ < > | [a] *"
    tables = [
        shown(tmp_path / "run", "latex", by="alpha", caption=caption, label="tab:a_1"),
        shown(tmp_path / "run", "latex"),
        str(render(tmp_path / "run", "latex", rows="rounds")),
        shown(tmp_path / "run", "latex", by="sparsity", columns=("peak_device_bytes", "ntk_mmd2", "test_loss")),
    ]
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[landscape]{geometry}\begin{document}"
    (tmp_path / "paper.tex").write_text("\n\n".join([head, *tables, r"\end{document}"]), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "paper.log").read_text(encoding="utf-8", errors="replace")

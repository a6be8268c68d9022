"""What `show`, `plot` and `report` make of every state that a run can be in, called as a user calls them."""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import rc_context

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.cli.main import main
from fedfore.cli.verbs.show import FORMATS
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError
from fedfore.execution.matrix import resolve
from fedfore.execution.matrix_file import find_matrix, read_matrix
from fedfore.plots.figures import chosen, plan_figures
from fedfore.plots.findings import answer, findings
from fedfore.plots.study import load_study
from fedfore.records.provenance import ROOT
from fedfore.records.store import cell_dir
from tests.drawn import draw_figures
from tests.synthetic import cells, write_run

Outcome = Callable[[Cell], str]

STATES: dict[str, Outcome] = {
    "nothing run": lambda cell: "missing",
    "all failed": lambda cell: "failed",
    "all skipped": lambda cell: "skipped",
    "one method failed": lambda cell: "failed" if cell.method == "fedtiny" else "ok",
    "the reference failed": lambda cell: "diverged" if cell.method == "fedavg" else "ok",
    "one seed a point": lambda cell: "timeout" if cell.seed else "ok",
    "one setting failed": lambda cell: "failed" if cell.model == "lenet5" else "ok",
    "interrupted": lambda cell: "missing" if cell.model == "lenet5" or cell.seed else "ok",
}
TRAINING = {
    "trained": Protocol(data_passes=30.0),
    "setup only": Protocol(setup_only=True),
    "meters only": Protocol(meter_only=True),
}
FINISHED = {"one method failed", "the reference failed", "one seed a point", "one setting failed", "interrupted"}


def planned(methods: tuple[str, ...], train: Protocol) -> list[Cell]:
    """Return two seeds of each method on each of two models, whose cells alternate."""
    found = [
        replace(cell, train=train)
        for model in ("lenet5", "resnet14")
        for cell in cells(methods, model=model, alphas=("iid",), seeds=(0, 1), sparsities=(0.8,))
    ]
    return [replace(cell, id=cell_id(cell, {})) for cell in found]


def unmeasured(cell: Cell) -> dict[str, object]:
    """Return the fields that a cell without training does not know."""
    return {} if cell.train.data_passes else dict.fromkeys(("test_accuracy", "test_loss", "data_passes"))


DENSE, SPARSE = ("fedtiny", "fedavg"), ("fedtiny", "baffle")
FAST = {
    ("nothing run", "trained"),
    ("all skipped", "meters only"),
    ("one setting failed", "setup only"),
    ("one setting failed", "meters only"),
}


def mark(state: str, train: str, methods: tuple[str, ...]) -> tuple[pytest.MarkDecorator, ...]:
    """Return the mark of a case that draws what another draws."""
    return () if (state, train) in FAST and methods == DENSE else (pytest.mark.slow,)


@pytest.mark.parametrize(
    ("state", "train", "methods"),
    [
        pytest.param(*case, marks=mark(*case), id="-".join((*case[:2], *case[2])))
        for case in itertools.product(STATES, TRAINING, (DENSE, SPARSE))
    ],
)
@pytest.mark.thorough
def test_every_output_is_made_of_every_state_of_a_run(
    state: str, train: str, methods: tuple[str, ...], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    plan, outcome = planned(methods, TRAINING[train]), STATES[state]
    write_run(tmp_path, plan, outcome, change=unmeasured)
    for name in FORMATS:
        assert main(["show", str(tmp_path), f"--{name}"]) == 0
    finished = state in FINISHED
    assert main(["plot", str(tmp_path), "--width", "3.3"]) == (0 if finished else 2)
    assert main(["report", str(tmp_path)]) == 0
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("None: every planned cell finished." in html) == all(outcome(cell) == "ok" for cell in plan)
    assert ("No planned cell has finished well" in html) != finished
    titles = re.findall(r'<th scope="col">([^<]*?) *<', html)
    for before, title in itertools.pairwise(titles):
        assert not title.startswith("Minus") or before.startswith("Test accuracy")


# Streams, encodings and display settings


MATRIX = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
alpha = ["iid"]
seed = [0, 1]
[train]
meter_only = true
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MATRIX, encoding="utf-8")
    return path


@pytest.fixture
def finished(tmp_path: Path, matrix: Path) -> Callable[[Outcome], Path]:
    """Return a function that writes a run in which every cell of `matrix` already has a record."""

    def write(outcome: Outcome) -> Path:
        found = resolve(read_matrix(find_matrix(str(matrix)), []), discover([]))
        write_run(tmp_path / "run", [item.cell for item in found], outcome, change=unmeasured)
        return tmp_path / "run"

    return write


class Gone(io.StringIO):
    """A stream that nobody reads any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


CLOSED, FULL = BrokenPipeError(errno.EPIPE, "Broken pipe"), OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [CLOSED, FULL], ids=["closed", "full"])
@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("failed", 1)])
def test_a_run_whose_output_nobody_reads_keeps_its_report_and_its_exit_status(
    status: str, code: int, error: OSError, finished: Callable[[Outcome], Path], matrix: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = finished(lambda cell: status)
    monkeypatch.setattr(sys, "stdout", Gone(error))
    monkeypatch.setattr(sys, "stderr", Gone(error))
    assert main(["run", str(matrix), "--out", str(run)]) == code
    assert (run / "report.html").exists()


@pytest.mark.parametrize(("error", "code"), [(CLOSED, 0), (FULL, 2)], ids=["closed", "full"])
def test_an_output_that_cannot_be_written_is_one_sentence_or_none(
    error: OSError, code: int, finished: Callable[[Outcome], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = finished(lambda cell: "ok")
    monkeypatch.setattr(sys, "stdout", Gone(error))
    assert main(["show", str(run)]) == code
    said = capsys.readouterr().err
    assert said == ("fedfore: cannot read or write the output: No space left on device.\n" if code else "")


def test_remarks_that_nobody_reads_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, cells(("fedavg",), alphas=("iid",), seeds=(0,)))
    (stranger,) = (tmp_path / "cells").iterdir()
    shutil.copytree(stranger, stranger.with_name("fedavg-000000000000"))
    assert main(["show", str(tmp_path)]) == 0
    shown, remarks = capsys.readouterr()
    assert "fedavg-000000000000" in remarks
    monkeypatch.setattr(sys, "stderr", Gone(CLOSED))
    assert main(["show", str(tmp_path)]) == 0
    assert capsys.readouterr().out == shown


def test_every_mark_of_a_table_has_its_footnote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, cells(("fedavg",), alphas=("iid",), seeds=(0,)), change=lambda cell: {"code_sha256": "0" * 64})
    assert main(["show", str(tmp_path)]) == 0
    assert "\n† includes records computed with code that has changed since.\n" in capsys.readouterr().out


def test_nothing_is_drawn_with_before_the_cells_have_run(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_stages(*args: object) -> None:
        raise ConfigError("The cells have run.")

    monkeypatch.setattr("fedfore.execution.stages.run_stages", run_stages)
    for name in ("fedfore.plots.report.page", "fedfore.plots.tables.show", "matplotlib", "seaborn"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["run", str(matrix), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "fedfore: The cells have run.\n"


USERS = {"figure.dpi": 40, "savefig.bbox": "tight", "savefig.dpi": 30, "font.size": 30, "axes.grid": False}
"""Settings of a user's own that would change or break a figure."""


def drawn(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "figures").iterdir())}


def command(verb: str, run: Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    call = [sys.executable, "-m", "fedfore.cli.main", verb, str(run)]
    return subprocess.run(call, cwd=ROOT, stderr=subprocess.PIPE, check=False, **options)


def test_a_users_settings_change_no_figure(finished: Callable[[Outcome], Path]) -> None:
    run = finished(lambda cell: "ok")
    assert main(["plot", str(run)]) == 0
    before = drawn(run)
    with rc_context({**USERS, "text.usetex": True, "pdf.fonttype": 3}):
        assert main(["plot", str(run)]) == 0
    assert drawn(run) == before != {}


@pytest.mark.parametrize("verb", ["show", pytest.param("plot", marks=pytest.mark.slow)])
def test_the_command_works_in_a_notebook_and_in_every_locale(
    verb: str, finished: Callable[[Outcome], Path], tmp_path: Path
) -> None:
    """A notebook gives its backend to what it starts; these streams and files know ASCII alone."""
    run = finished(lambda cell: "ok")
    (tmp_path / "matplotlibrc").write_text("".join(f"{name}: {value}\n" for name, value in USERS.items()), "utf-8")
    surroundings = {
        "MPLBACKEND": "module://there_is_no.such_backend",
        "MATPLOTLIBRC": str(tmp_path),
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    done = command(verb, run, env=os.environ | surroundings, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    if verb == "show":
        assert rb"MiB \u2193" in done.stdout
    else:
        found = drawn(run)
        assert main(["plot", str(run)]) == 0
        assert drawn(run) == found


@pytest.mark.slow
def test_what_a_full_stream_still_buffers_is_dropped(finished: Callable[[Outcome], Path]) -> None:
    run = finished(lambda cell: "ok")
    with Path("/dev/full").open("wb") as full:
        done = command("show", run, stdout=full)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


# What training had


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[str, str]]:
    """Return a function that returns what `show` prints and the report, which is left without its figures."""
    monkeypatch.setattr("fedfore.plots.report.page.plan_figures", lambda study: [])

    def both(run: Path) -> tuple[str, str]:
        assert main(["show", str(run)]) == 0
        shown = capsys.readouterr().out
        assert main(["report", str(run)]) == 0
        capsys.readouterr()
        return shown, (run / "report.html").read_text(encoding="utf-8")

    return both


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "older record"])
def test_training_past_its_budget_is_marked_and_said(
    recorded: bool, tmp_path: Path, said: Callable[[Path], tuple[str, str]]
) -> None:
    def passes(cell: Cell) -> dict[str, object]:
        spent = {"fedavg": 50.0, "fedtiny": 31.2}.get(cell.method, 30.0)
        return {"data_passes": spent, "budget_used": spent / 30.0 if recorded else None}

    write_run(tmp_path, cells(("fedavg", "fedtiny", "baffle"), alphas=("iid",), sparsities=(0.8,)), change=passes)
    shown, html = said(tmp_path)
    assert "FedAvg (dense) §" in shown and "FedTiny §" not in shown and "BAFFLE §" not in shown
    assert ">50.0<sup>§</sup></td>" in html and html.count("<sup>§</sup>") == 1
    for text in (shown, html):
        assert "§ trained past the planned budget, up to 1.67 times as much." in text
    assert "Training went past its budget: FedAvg (dense) up to 1.67 times." in html
    (curves,) = (one.draw() for one in chosen(plan_figures(load_study(tmp_path)), ["curves"]))
    names = [text.get_text() for text in curves.figure.legends[0].get_texts()]
    assert [name for name in names if "§" in name] == ["FedAvg (dense) §"]


def test_equal_rounds_of_unequal_data_are_said(tmp_path: Path, said: Callable[[Path], tuple[str, str]]) -> None:
    plan = [
        replace(cell, train=Protocol(rounds=10)) for cell in cells(("fedavg", "baffle"), alphas=("iid",), seeds=(0, 1))
    ]
    plan = [replace(cell, id=cell_id(cell, {})) for cell in plan]
    write_run(tmp_path, plan, change=lambda cell: {"data_passes": 10.0 if cell.method == "fedavg" else 1.25})
    shown, html = said(tmp_path)
    assert (
        re.search(r"BAFFLE .* 1[.]25 ", shown) and re.search(r"FedAvg \(dense\) .* 10\.00 ", shown) and "§" not in shown
    )
    first = html.index("10 rounds are not the same amount of data: from 1.25 data passes (BAFFLE) to 10 (FedAvg")
    assert first < html.index("has the highest mean test accuracy")


def test_equal_data_are_no_column_and_no_sentence(tmp_path: Path, said: Callable[[Path], tuple[str, str]]) -> None:
    write_run(tmp_path, cells(("fedavg", "baffle"), alphas=("iid",), seeds=(0, 1)))
    shown, html = said(tmp_path)
    assert "passes" not in shown and "budget:" not in html and "same amount" not in html


# Odd files, odd names


def torn_file(run: Path, cell: Cell, name: str) -> Path:
    """Return a lines file of a cell whose last line ends in the middle."""
    path = cell_dir(run, cell.id) / name
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    return path


def test_one_torn_line_costs_its_own_curve_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = cells(("fedavg",), alphas=("iid",), seeds=(0, 1))
    write_run(tmp_path, plan)
    torn = torn_file(tmp_path, plan[0], "rounds.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr("fedfore.plots.figures.write_figures", lambda run, options, only: [])
        assert main(["plot", str(tmp_path)]) == 0
    assert f"Left out: {torn} is damaged in line " in capsys.readouterr().err
    (curves,) = (one.draw() for one in chosen(plan_figures(load_study(tmp_path)), ["curves"]))
    seed, mean = curves.figure.axes[0].lines
    assert list(seed.get_ydata())[:-1] == list(mean.get_ydata()) and len(mean.get_ydata()) > 10, "the other seed's"
    monkeypatch.setattr("fedfore.plots.report.page.plan_figures", lambda study: [])
    assert main(["report", str(tmp_path)]) == 0
    assert "rounds.jsonl is damaged in line " in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_torn_diagnostics_cost_their_points_certificate_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = cells(("baffle",), alphas=("iid",), seeds=(0, 1))
    write_run(tmp_path, plan)
    torn_file(tmp_path, plan[0], "diagnostics.jsonl")
    note = "‡ Not certified: at 1 of 1 points how far computed scalars are from real finite differences is not known;"
    assert main(["show", str(tmp_path)]) == 0
    assert note in capsys.readouterr().out
    monkeypatch.setattr("fedfore.plots.report.page.plan_figures", lambda study: [])
    assert main(["report", str(tmp_path)]) == 0
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert note in html and "diagnostics.jsonl is damaged in line " in html


def test_a_linked_figure_leaves_what_it_links_to(finished: Callable[[Outcome], Path], tmp_path: Path) -> None:
    run = finished(lambda cell: "ok")
    elsewhere = tmp_path / "precious.png"
    elsewhere.write_text("mine", encoding="utf-8")
    (run / "figures").mkdir()
    (run / "figures" / "cost-tradeoff-digits.png").symlink_to(elsewhere)
    assert main(["plot", str(run)]) == 0
    assert elsewhere.read_text(encoding="utf-8") == "mine"
    assert (run / "figures" / "cost-tradeoff-digits.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_one_sentence(
    finished: Callable[[Outcome], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(lambda cell: "ok")
    (run / "figures").write_text("a file where the folder should be", encoding="utf-8")
    assert main(["plot", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fedfore: Cannot write ") and said.count("\n") == 1


ODD = "$\\frac{$ \x1b[31m"


@pytest.fixture
def oddly_named(tmp_path: Path) -> Path:
    """Return a run whose methods and parameters have names that mathtext, terminals and spreadsheets would obey."""
    plan = [
        replace(cell, method=name, params={"lr": 0.1, "kind": kind})
        for cell in cells(("my_method",), alphas=("iid",), seeds=(0, 1), sparsities=(0.8,))
        for name, kind in (("=cmd|calc", ODD), ("my_method", ODD), ("my_method", "-0.5"))
    ]
    write_run(tmp_path, [replace(cell, id=cell_id(cell, {}).replace("=cmd|calc", "cmd")) for cell in plan])
    return tmp_path


@pytest.mark.thorough
def test_names_draw_as_themselves(oddly_named: Path) -> None:
    for name, one in draw_figures(load_study(oddly_named)):
        one.figure.draw_without_rendering()
        texts = [text.get_text() for legend in one.figure.legends for text in legend.get_texts()]
        texts += [text.get_text() for panel in one.figure.axes for text in (*panel.texts, *panel.get_yticklabels())]
        assert name.startswith("cost") or any("$\\frac{$" in text for text in texts)


@pytest.mark.parametrize("name", ["markdown", "latex", "csv", "json"])
def test_no_name_is_obeyed_by_a_terminal_or_a_spreadsheet(
    name: str, oddly_named: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(oddly_named), f"--{name}"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and re.search(r"x1b|u001b|textbackslash\{\}x1b", shown)
    if name == "csv":
        table = pd.read_csv(io.StringIO(shown), dtype=str)
        assert set(table["method"]) == {"'=cmd|calc", "my_method"}
        assert "-0.5" in set(table["params.kind"]), "a number is no formula"


# What findings must not say


def sentences(run: Path) -> str:
    study = load_study(run)
    return "\n".join([*answer(study), *(sentence for group in findings(study) for sentence in group.sentences)])


def test_no_method_is_compared_with_itself_or_with_a_reference_of_another_model(tmp_path: Path) -> None:
    def left(cell: Cell) -> dict[str, object]:
        return {"forward_macs_masked": 17, "forward_macs_dense": 100}

    plan = cells(("fedtiny", "fedmef"), alphas=("iid",), sparsities=(0.8,))
    plan += cells(("fedavg",), alphas=("iid",), model="resnet14")
    write_run(tmp_path, plan, change=left)
    found = sentences(tmp_path)
    assert "Forward FLOPs left at sparsity 0.8: the same at all 2 points (17.0 %)." in found


# Cells without a result


@pytest.mark.parametrize(("name", "start"), [("markdown", "- "), ("latex", "% ")])
def test_show_lists_why_cells_have_no_result(
    name: str, start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, cells(("fedavg", "baffle"), alphas=("iid",)), lambda cell: "ok" if cell.seed else "failed")
    assert main(["show", str(tmp_path), f"--{name}"]) == 0
    assert capsys.readouterr().out.endswith(f"\n{start}2 failed: made up to be failed (BAFFLE, FedAvg (dense))\n")


def test_a_run_with_nothing_to_draw_says_where_the_reasons_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, cells(("fedavg",), alphas=("iid",)), lambda cell: "failed")
    assert main(["plot", str(tmp_path)]) == 2
    assert f"`fedfore show {tmp_path}`" in capsys.readouterr().err

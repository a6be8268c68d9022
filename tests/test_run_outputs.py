"""What people get of a finished run through the command: tables, figures, and a report that says when cells began."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedfore.cli.main import main
from tests.synthetic import STARTED, cells, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs") / "run"
    write_run(folder, cells(("fedavg", "fedtiny"), alphas=("iid",), seeds=(0, 1), sparsities=(0.8,)))
    return folder


@pytest.mark.parametrize("form", ["markdown", "latex", "csv", "json"])
def test_show_prints_a_row_for_every_point_or_cell(run: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run), f"--{form}"]) == 0
    shown = capsys.readouterr().out
    counted = {"markdown": "\n| Fed", "latex": "\nFed", "csv": ",digits,", "json": '"dataset": "digits"'}
    assert shown.count(counted[form]) == (2 if form in ("markdown", "latex") else 4)


@pytest.mark.thorough
def test_plot_prints_the_figures_that_it_wrote(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(run), "--width", "3.3"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written and all(path.is_file() and path.stat().st_size > 1000 for path in written)
    assert {path.name for path in written} == {path.name for path in (run / "figures").glob("*.png")}


@pytest.mark.thorough
def test_report_says_when_its_cells_were_started(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run)]) == 0
    (path,) = capsys.readouterr().out.splitlines()
    assert f"<dd>{STARTED:%Y-%m-%d, %H:%M} to " in Path(path).read_text(encoding="utf-8")

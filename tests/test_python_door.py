"""`import fedfore`: what it offers to Python and notebooks, and that it is what the verbs say."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fedfore
from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.errors import ConfigError, StoreError
from fedfore.execution.given import as_document, as_overrides
from fedfore.plots.figures import write_figures
from fedfore.plots.tables.exports import EXPORTS
from fedfore.plots.tables.lines import KINDS
from fedfore.plots.tables.show import render
from fedfore.plots.view import Options
from fedfore.records.lines import LAYERS
from fedfore.records.sources import ROOT
from fedfore.records.store import LiveRun, pack
from tests.synthetic import cells, made_to_fail, write_lines, write_run

Write = Callable[..., Path]


def planned(*methods: str, **given: Any) -> list[Cell]:
    return cells(methods or ("fedavg", "fedtiny"), **{"alphas": ("iid", 0.1), "sparsities": (0.8,), **given})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    own = [*planned("fedavg", "baffle"), *planned("fedmef", sparsities=(0.9,))]
    write_run(folder, own, made_to_fail)
    layer = {"layer": "conv1.weight", "size": 10, "kept": 5, "forward_macs_dense": 100}
    write_lines(folder, own[0], LAYERS, [layer])
    return folder


def in_a_process_of_its_own(code: str, folder: Path = ROOT) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_importing_the_suite_imports_next_to_nothing_and_reading_runs_never_torch(run: Path) -> None:
    code = f"""
import sys, fedfore
print({{"pandas", "torch", "matplotlib", "fedfore.python", "fedfore.errors"}} & set(sys.modules))
results = fedfore.load({str(run)!r})
print(len(results.cells), len(results.rounds), len(results.layers), "<table>" in results._repr_html_())
print("torch" in sys.modules)
"""
    assert in_a_process_of_its_own(code) == "set()\n18 315 1 True\nFalse\n"


def test_what_is_offered_is_seen_before_it_is_imported() -> None:
    code = "import fedfore; print(sorted(set(fedfore.__all__) - set(dir(fedfore))), fedfore._HOMES.keys())"
    assert in_a_process_of_its_own(code).startswith(f"[] dict_keys({sorted(fedfore.__all__)}")
    for name in fedfore.__all__:
        assert not isinstance(getattr(fedfore, name), ModuleType), f"a room called {name} would stand in its place"
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = fedfore.laod  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["cells", *KINDS])
def test_frames_are_what_show_exports(run: Path, kind: str) -> None:
    results = fedfore.load(run)
    frame = results.cells if kind == "cells" else results.lines(kind)
    assert set(frame["run"]) <= {"mine"}
    assert EXPORTS["csv"](frame.drop(columns="run")) == render(run, "csv", rows=kind)
    assert not [name for name, dtype in frame.dtypes.items() if dtype.kind == "O" and dtype != "string"]


def test_frames_are_made_once(run: Path) -> None:
    results = fedfore.load(str(run))
    assert results.cells is results.cells and results.rounds is results.rounds and results.layers is results.layers


def test_several_runs_live_and_published_are_one_frame_and_say_which_is_which(tmp_path: Path) -> None:
    for name, methods in (("a/same", ["fedavg"]), ("b/same", ["baffle"]), ("c", ["fedtiny"])):
        write_run(tmp_path / name, planned(*methods, seeds=[0]))
    (tmp_path / "results" / "study").mkdir(parents=True)
    pack(LiveRun(tmp_path / "c"), tmp_path / "results" / "study", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        results = fedfore.load("a/same", tmp_path / "b" / "same", "study")
        own = results.cells.groupby("run", sort=False)["method"].unique().map(list).to_dict()
        assert own == {"a/same": ["fedavg"], "b/same": ["baffle"], "study": ["fedtiny"]}
        assert set(results.rounds["run"]) == set(own)
        assert repr(results).splitlines()[2] == "study: 2 cells (2 ok) of digits, lenet5"


def test_a_notebook_sees_what_runs_are_of_and_a_table_of_their_methods(run: Path) -> None:
    results = fedfore.load(run)
    assert repr(results).splitlines()[0] == "mine: 18 cells (15 ok, 2 diverged, 1 failed) of digits, lenet5"
    html = results._repr_html_()
    assert html.count("<table>") == 1 and "BAFFLE" in html and "mine: 18 cells" in html
    assert len(html.splitlines()) < 40


def test_what_a_notebook_sees_is_short_and_no_markup_of_others(tmp_path: Path) -> None:
    own = planned("fedavg_erk", "fedtiny", sparsities=[level / 50 for level in range(1, 15)], seeds=[0])
    write_run(tmp_path / "<b>", own, change=lambda cell: {"label": "<i>"} if cell.method == "fedtiny" else {})
    html = fedfore.load(tmp_path / "<b>")._repr_html_()
    assert "<i>" not in html and "&lt;i&gt;" in html and "<b>:" not in html and html.count("<tr>") == 25
    assert "and 32 more rows" in html


def test_a_run_that_ended_nowhere_has_a_summary_and_no_table(tmp_path: Path) -> None:
    write_run(tmp_path / "run", planned("fedavg", seeds=[0]), lambda cell: "missing")
    results = fedfore.load(tmp_path / "run")
    assert "2 missing" in repr(results) and "<table>" not in results._repr_html_() and results.rounds.empty


def test_what_cannot_be_loaded_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'^There is no run "nowhere"\.'):
        fedfore.load("nowhere")
    with pytest.raises(ConfigError, match="is named twice"):
        fedfore.load(run, str(run))
    with pytest.raises(ConfigError, match="Name a run"):
        fedfore.load()
    with pytest.raises(ConfigError, match=r'no lines called "round".* Did you mean "rounds"'):
        fedfore.load(run).lines("round")
    with pytest.raises(StoreError, match=str(tmp_path)):
        fedfore.load(tmp_path)


@pytest.mark.thorough
def test_a_figure_is_that_of_the_verb_and_leaves_no_file_and_no_setting_behind(run: Path, tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    before, files = dict(matplotlib.rcParams), sorted(run.rglob("*"))
    results = fedfore.load(run)
    figure = fedfore.plot(results, "pareto", width=3.3, title=False, save=tmp_path / "mine.png")
    assert figure.get_figwidth() == pytest.approx(3.3) and isinstance(figure, matplotlib.figure.Figure)
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == [] and sorted(run.rglob("*")) == files
    (name,) = (one for one in results.figures["figure"] if one.startswith("pareto"))
    (written,) = write_figures(run, Options(3.3, title=False), [name])
    assert (tmp_path / "mine.png").read_bytes() == written.png.read_bytes()
    assert vars(figure)["_repr_png_"]().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"figure": "cots"}, 'no figure "cots" of these records'),
        ({}, r"^Name one of the \d+ figures: "),
        ({"figure": "pareto", "metric": "acuracy"}, 'no metric "acuracy"'),
        ({"figure": "pareto", "width": float("nan")}, "between 1 and 100 inches"),
        ({"figure": "pareto", "save": "figure.jpg"}, r"saved as \.png or \.pdf, and not as \.jpg"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_sentence(run: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fedfore.plot(run, **asked)


def test_a_figure_is_of_one_run(run: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "other", planned("fedavg", seeds=[0]))
    with pytest.raises(ConfigError, match="A figure is of one run, and these are 2"):
        fedfore.plot(fedfore.load(run, tmp_path / "other"), "pareto")


def test_comparing_says_what_the_verb_prints(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = fedfore.compare(fedfore.load(run), baseline="fedavg", margin=0.01)
    assert main(["compare", str(run), "--baseline", "fedavg", "--margin", "0.01"]) == 0
    assert repr(found) == capsys.readouterr().out
    assert main(["compare", str(run), "--baseline", "fedavg", "--margin", "0.01", "--csv"]) == 0
    assert EXPORTS["csv"](found.frame) == capsys.readouterr().out
    assert set(found.frame["verdict"]) == {"too few seeds"} and found._repr_html_().count("<table>") == 1
    assert "| iid |" in found.markdown(by="alpha").replace("alpha ", "")
    with pytest.raises(ConfigError, match="goes with --baseline"):
        fedfore.compare(run, margin=0.01)


def test_a_cost_is_what_the_verb_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = fedfore.cost(
        "lenet5", dataset="digits", method="baffle", batch=2, set={"params.baffle.num_perturbations": 2}
    )
    words = ["lenet5", "--dataset", "digits", "--method", "baffle", "--batch", "2"]
    assert main(["cost", *words, "--set", "params.baffle.num_perturbations=2"]) == 0
    assert f"{found}\n" == capsys.readouterr().out
    peak = found.frame.set_index("metric").loc["peak_device_bytes"]
    assert peak["value"] == found.record["peak_device_bytes"] > 0 and peak["unit"] == "bytes"


def test_a_cost_of_ones_own_arrays_and_of_a_mask_by_the_name_of_its_study(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    images, labels = numbers.random((20, 1, 16, 16), dtype=np.float32), np.arange(20) % 2
    np.savez(tmp_path / "mine.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    found = fedfore.cost("lenet5:width=0.3", dataset="npz:mine.npz", data_dir=tmp_path, batch=2)
    assert found.record["peak_device_bytes"] > 0
    with pytest.raises(ConfigError, match=r'no run "qick"\. Did you mean "quick"'):
        fedfore.cost("lenet5", dataset="digits", run="qick")


@pytest.mark.parametrize(
    ("name", "given", "named", "said"),
    [
        ("cost", ("lenet5",), {"bath": 2}, '[cost] has no key "bath". Did you mean "batch"?'),
        ("cost", ("lenet5",), {"set": ["seed=0"]}, "cost(set=['seed=0']): input should be a valid dictionary"),
        ("cost", (), {}, "cost is given no model"),
        ("run", ("quick",), {"plugins": 3}, "run(plugins=3): input should be a valid string"),
        ("run", ("quick",), {"plugins": "nowhere"}, "nowhere is no folder"),
        ("run", ("quick",), {"only": "fedavg"}, "input should be a valid list"),
        ("run", ("quick",), {"set": {"params.fedavg.lr": np.complex64(1j)}}, "no matrix file could hold"),
        ("run", ("quick",), {"set": {"params.fedavg.lr": float("nan")}}, "params.fedavg.lr is nan"),
        ("plot", ("quick", 3), {}, "plot(figure=3): input should be a valid string"),
        ("compare", ("quick",), {"baseline": 1}, "compare(baseline=1): input should be a valid string"),
        ("compare", ("quick",), {"baseline": "BAFFLE", "margin": -1}, "The margin is -1.0; give a positive number"),
        ("compare", ("quick",), {"baseline": "BAFFLE", "margin": math.nan}, "The margin is nan"),
        ("load", ("",), {}, "Name a run"),
    ],
)
def test_an_argument_of_a_wrong_type_is_one_sentence(
    name: str, given: tuple[object, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(fedfore.FedForeError, match=re.escape(said)):
        getattr(fedfore, name)(*given, **named)


def test_results_stay_those_of_their_folder_wherever_the_process_goes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    results = fedfore.load(run.name)
    monkeypatch.chdir(tmp_path)
    assert len(results.cells) == 18


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"seed": range(2), "alpha": ["iid", 0.1]}, ["seed=[0, 1]", 'alpha=["iid", 0.1]']),
        ({"train.ntk": False, "train.clients": np.int64(4)}, ["train.ntk=false", "train.clients=4"]),
        ({"tune": None, "params.fedavg.lr": np.array([0.1, 0.5])}, ["tune=", "params.fedavg.lr=[0.1, 0.5]"]),
    ],
)
def test_changes_are_given_as_values(changes: dict[str, Any], texts: list[str]) -> None:
    assert as_overrides(changes) == texts
    assert as_document(changes | {"tune": {"keep": (1, 2)}})["tune"] == {"keep": [1, 2]}


def test_a_value_that_no_matrix_file_could_hold_is_named() -> None:
    with pytest.raises(ConfigError, match=r'name its keys one by one, such as "train\.clients"'):
        as_overrides({"train": {"clients": 4}})
    with pytest.raises(ConfigError, match=r"^grid\.seed is None, which no matrix file could hold"):
        as_document({"grid": {"seed": [0, None]}})

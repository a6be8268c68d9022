"""Metrics and figures of plug-ins: measured by observers of the harness's kind, kept with what they mean, drawn."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from fedfore.api import Method
from fedfore.cli.main import main
from fedfore.contract.plugins import know_plugins
from fedfore.federation.loop import Federation
from fedfore.federation.observers.plugged import PluginMetrics
from fedfore.records.declared import plugin_name
from fedfore.records.metrics import METRICS
from tests.conftest import run_in_this_process

GUESTS = Path(__file__).with_name("plugins") / "guests"
METRIC = """
import torch
from fedfore.api import Observer, metric


@metric(unit="ratio", direction="lower", title="Mine")
class Mine(Observer):
    '''Mine.'''

    def after_round(self, view):
        {after}

    def fields(self, view):
        return {{"mine": {value}}}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guests")
    (folder / "m.toml").write_text(
        '[grid]\nmethod = ["fedavg"]\ndataset = ["digits"]\nmodel = ["lenet5"]\nseed = [0, 1]\n'
        "[train]\nrounds = 2\nclients = 4\nntk = false\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        run_in_this_process(patch)
        out = folder / "run"
        assert main(["run", str(folder / "m.toml"), "--out", str(out), "--plugins", str(GUESTS)]) == 0
    know_plugins()
    METRICS.pop("weight_norm", None)
    return out


@pytest.mark.thorough
def test_a_record_says_what_the_metric_of_a_plug_in_is(run: Path) -> None:
    record = json.loads(next((run / "cells").glob("*/record.json")).read_text())
    own = record["plugin_metrics"]["weight_norm"]
    assert 1 < own.pop("value") < 100
    assert own == {
        "unit": "weights",
        "direction": "descriptive",
        "title": "Norm of the weights",
        "description": "Euclidean norm of the server's weights after the last round.",
        "limits": [0.0, None],
        "problem": None,
    }
    assert list(record["plugin_code"]) == ["metric weight_norm"]


def test_tables_exports_and_figures_have_it_without_its_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run), "--columns", "test_accuracy,weight_norm"]) == 0
    assert "Norm of" in capsys.readouterr().out
    assert main(["show", str(run), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 and all(1 < float(row["weight_norm"]) < 100 for row in rows)
    assert main(["plot", str(run), "--metric", "weight_norm", "--only", "accuracy"]) == 0


def test_a_figure_of_a_plug_in_is_drawn_where_its_folder_is_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["plot", str(run), "--only", "plugin-norms", "--captions"]
    assert main(asked) == 2
    assert main([*asked, "--plugins", str(GUESTS)]) == 0
    assert (run / "figures" / "plugin-norms.png").exists()
    assert "Norm of the weights of each cell" in (run / "figures" / "plugin-norms.txt").read_text()
    (tmp_path / "broken.py").write_text(
        "from fedfore.api import figure\n\n\n@figure(title='Broken')\ndef broken(table, lines):\n    return 1 / 0\n"
    )
    assert main(["plot", str(run), "--only", "plugin-broken", "--captions", "--plugins", str(tmp_path)]) == 0
    assert "ZeroDivisionError" in (run / "figures" / "plugin-broken.txt").read_text()
    assert main(["ls", "figures", "--plugins", str(GUESTS)]) == 0
    assert main(["ls", "metrics", "--plugins", str(GUESTS)]) == 0
    listed = capsys.readouterr().out
    assert "[plugin] Norm of the weights of each cell" in listed
    assert "[plugin] [weights, descriptive] Euclidean norm" in listed
    know_plugins()


FAULTS = {
    "raises": ("1 / 0", "1.0", "ZeroDivisionError"),
    "no number": ("pass", "'much'", "'much' under mine, which is no finite number"),
    "not finite": ("pass", "float('nan')", "nan under mine"),
    "changes the process": ("torch.set_default_dtype(torch.float64)", "1.0", "default dtype"),
    "random numbers": ("torch.rand(3)", "torch.tensor(2.0)", ""),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_metric_that_fails_neither_ends_its_cell_nor_changes_it(kind: str, tmp_path: Path, federation) -> None:
    after, value, said = FAULTS[kind]
    (tmp_path / f"mine_{kind.replace(' ', '_')}.py").write_text(METRIC.format(after=after, value=value))
    know_plugins()
    plain = federation(Method).run()
    know_plugins([tmp_path])
    watched = federation(Method).run()
    own = watched.fields()["plugin_metrics"]["mine"]
    assert (
        (own["value"], own["problem"]) == (2.0, None) if not said else own["value"] is None and said in own["problem"]
    )
    for one, other in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)
    know_plugins()


def test_a_metric_that_cannot_be_made_has_no_value_in_any_cell_and_ends_none(
    tmp_path: Path, federation, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_broken.py").write_text("import nothing_of_that_name\n" + METRIC.format(after="pass", value="1.0"))
    know_plugins([tmp_path])
    (own,) = federation(Method).run().fields()["plugin_metrics"].values()
    assert own["value"] is None and own["problem"].startswith('The metric "mine" cannot be used')
    assert "nothing_of_that_name" in own["problem"]
    (tmp_path / "unfinished.py").write_text("from fedfore.api import metric\n\n\n@metric(")
    assert main(["ls", "metrics", "--plugins", str(tmp_path)]) == 0
    assert "was never closed" in capsys.readouterr().out.splitlines()[-1]
    know_plugins()


def test_what_a_metric_remembers_goes_on_after_an_interruption(federation) -> None:
    know_plugins([GUESTS])
    first: Federation = federation(Method)
    while first.totals["train"].rounds < 1:
        first.advance()
    second: Federation = federation(Method)
    second.load_state_dict(first.state_dict())
    assert second.fields()["plugin_metrics"] == first.fields()["plugin_metrics"]
    assert second.seen_by(PluginMetrics).state_dict()["own"]["weight_norm"]["norm"] > 0
    know_plugins()


def test_names_of_classes_are_written_as_fields_are() -> None:
    names = {"WeightNorm": "weight_norm", "MMD": "mmd", "NTKError2": "ntk_error2", "digits": "digits"}
    assert {own: plugin_name(own) for own in names} == names

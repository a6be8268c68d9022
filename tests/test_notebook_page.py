"""The page for notebooks and README's section, run block by block as they are printed."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import matplotlib
import pandas as pd
import pytest

import fedfore
from fedfore.records.sources import PACKAGE, ROOT
from tests.conftest import run_in_this_process
from tests.synthetic import cells, write_run

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGE = BLOCK.findall((PACKAGE / "docs" / "notebook.md").read_text(encoding="utf-8"))
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## From Python")[2].partition("\n## ")[0]
README = BLOCK.findall(SECTION)
TRACKERS = ("wandb", "mlflow")


def run_block(text: str, names: dict[str, Any]) -> Any:
    """Run a block as a notebook runs a cell; return the value of its last line, if that is an expression."""
    tree = ast.parse(text)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<block>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<block>", "eval"), names) if isinstance(last, ast.Expr) else None


@pytest.mark.thorough
def test_the_pages_blocks_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown = [run_block(text, names) for text in PAGE if not any(f"import {name}" in text for name in TRACKERS)]
    assert len(shown) == len(PAGE) - len(TRACKERS)
    results, cells_, curves, figures, figure, verdicts, costs = shown
    assert set(results.cells["status"]) == {"ok"} and "<table>" in results._repr_html_()
    assert len(cells_) == 6 and cells_["test_accuracy"].notna().all()
    assert curves.shape[1] == 3 and list(figures.columns) == ["run", "figure", "title"]
    assert isinstance(figure, matplotlib.figure.Figure)
    assert set(verdicts["verdict"]) == {"too few seeds"} and costs[0] > 0


class Tracked:
    """Stands for a tracker, with the parameters that its documentation gives to what the pages call."""

    def __init__(self) -> None:
        self.logged: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.settings: list[dict[str, Any]] = []
        self._name = ""

    @contextmanager
    def _started(self, name: str) -> Iterator[Any]:
        self._name = name
        self.logged[name] = []
        yield SimpleNamespace(log=self._log)

    def _log(self, data: dict[str, Any], step: int | None = None) -> None:
        assert step is not None and all(isinstance(value, int | float) for value in data.values())
        self.logged[self._name].append((step, data))

    def wandb(self) -> ModuleType:
        def init(project: str, name: str, config: dict[str, Any] | None = None) -> Any:
            self.settings.append(config or {})
            return self._started(name)

        return module("wandb", init=init)

    def mlflow(self) -> ModuleType:
        def start_run(run_name: str | None = None) -> Any:
            return self._started(str(run_name))

        def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
            self._log(metrics, step)

        return module("mlflow", start_run=start_run, log_metrics=log_metrics, log_params=self.settings.append)


def module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", cells(("fedavg", "fedtiny"), alphas=("iid",), sparsities=(0.8,), seeds=(0, 1)))
    return tmp_path / "run"


@pytest.mark.parametrize("tracker", TRACKERS)
def test_what_the_page_hands_to_a_tracker_is_every_evaluation_by_round(
    tracker: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, tracked = fedfore.load(run), Tracked()
    monkeypatch.setitem(sys.modules, tracker, getattr(tracked, tracker)())
    (text,) = (text for text in PAGE if f"import {tracker}" in text)
    run_block(text, {"results": results})
    assert sorted(tracked.logged) == sorted(results.cells["cell_id"])
    seen = [(cell, step, data["test_accuracy"]) for cell, own in tracked.logged.items() for step, data in own]
    assert seen == list(results.rounds[["cell_id", "round", "test_accuracy"]].sort_values(
        ["cell_id", "round"]).itertuples(index=False, name=None))  # fmt: skip
    assert {one["method"] for one in tracked.settings} == {"fedavg", "fedtiny"}


def test_readmes_lines_do_what_they_say(run: Path) -> None:
    use, track = README
    call = re.compile(r'fedfore\.run\("quick".*?\)')
    assert call.search(use)
    names: dict[str, Any] = {}
    frame = run_block(call.sub(f"fedfore.load({str(run)!r})", use), names)
    assert isinstance(frame, pd.DataFrame) and "peak_device_bytes" in set(frame["metric"])
    tracked = Tracked()
    run_block(track, {**names, "wandb": tracked.wandb()})
    assert {len(own) for own in tracked.logged.values()} == {21} and len(tracked.logged) == 4

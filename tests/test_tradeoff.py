"""The figure of metering-only cells: which points are on the front, and what is drawn of a made-up run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.plots.charts.tradeoff import on_front
from fedfore.plots.findings import findings
from fedfore.plots.study import load_study
from fedfore.plots.tables.show import render
from fedfore.plots.view import Options
from fedfore.records.metrics import MEASURED
from tests.drawn import assert_readable, draw_figures, legend, names
from tests.synthetic import cells, write_run


def test_the_front_is_what_nothing_beats_in_both() -> None:
    bytes_, flops = np.array([1.0, 2.0, 2.0, 3.0, 3.0, 1.0]), np.array([9.0, 5.0, 6.0, 5.0, 1.0, 9.0])
    assert on_front(bytes_, flops).tolist() == [True, True, False, False, True, True]


def planned() -> list[Cell]:
    """Return FedAvg with two memory options, and pruned Fed-NTK + ZO, at two batch sizes."""
    found = []
    for batch in (1, 32):
        train = Protocol(meter_only=True, batch_size=batch)
        options: list[tuple[str, dict[str, Any]]] = [
            ("fedavg", {"memory": "none"}),
            ("fedavg", {"memory": "checkpoint"}),
            ("fed_ntk_zo", {"scoring_micro_batch": None}),
            ("fed_ntk_zo", {"scoring_micro_batch": 1}),
        ]
        for method, params in options:
            (cell,) = cells((method,), sparsities=(0.8,), alphas=("iid",), seeds=(0,))
            changed = replace(cell, train=train, params=params)
            found.append(replace(changed, id=cell_id(changed, {})))
    return found


def costs(cell: Cell) -> dict[str, Any]:
    """Fed-NTK + ZO takes a tenth of the bytes and ten times the FLOPs; checkpointing half and 4/3."""
    batch, saves = cell.train.batch_size, cell.params.get("memory") == "checkpoint"
    bytes_, flops = (100, 1000) if cell.method == "fed_ntk_zo" else (500, 133) if saves else (1000, 100)
    values = {"peak_device_bytes": bytes_ * batch, "device_step_flops": flops * batch, "forward_macs_masked": 1}
    return {**dict.fromkeys(MEASURED), **values, "forward_macs_dense": 2}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", planned(), change=costs)
    return tmp_path / "run"


@pytest.mark.parametrize("width", [7.0, 3.3])
def test_a_row_holds_the_batch_sizes_of_every_option(run: Path, width: float) -> None:
    ((name, drawn),) = draw_figures(load_study(run), Options(width))
    assert name == "cost-tradeoff-digits"
    memory, compute = drawn.figure.axes
    assert names(memory) == [
        "FedAvg (dense)", "FedAvg (dense), checkpointing", "Fed-NTK + ZO", "Fed-NTK + ZO, one input a pass",
    ]  # fmt: skip
    bytes_, flops = ([sorted(_values(panel, place)) for place in memory.get_yticks()] for panel in (memory, compute))
    assert bytes_ == [[1000, 32000], [500, 16000], [100, 3200], [100, 3200]]
    assert flops == [[100, 3200], [133, 4256], [1000, 32000], [1000, 32000]]
    assert legend(drawn.figure) == ["B = 1", "B = 32", "best at its B"]
    assert_readable(drawn.figure, name)


def _values(panel: Axes, place: float) -> list[float]:
    """Return where the marks of a row stand."""
    marks = [line for line in panel.lines if line.get_marker() == "o" and np.isclose(line.get_ydata()[0], place)]
    return [float(np.asarray(line.get_xdata(), dtype=float)[0]) for line in marks]


def test_what_nothing_beats_at_its_batch_size_is_ringed(tmp_path: Path) -> None:
    def worse(cell: Cell) -> dict[str, Any]:
        return costs(cell) | ({"device_step_flops": 1e9} if cell.params.get("memory") == "checkpoint" else {})

    write_run(tmp_path, planned(), change=worse)
    ((_, drawn),) = draw_figures(load_study(tmp_path))
    marks = [line for line in drawn.figure.axes[0].lines if line.get_marker() == "o"]
    plain = {float(np.asarray(line.get_xdata())[0]) for line in marks if line.get_markeredgewidth() < 0.5}
    assert plain == {500.0, 16000.0}


def test_a_peak_that_setup_sets_is_a_square(tmp_path: Path) -> None:
    def scored(cell: Cell) -> dict[str, Any]:
        peaks = {"peak_device_bytes_setup": 100 * cell.train.batch_size, "peak_device_bytes_train": 1}
        return costs(cell) | (peaks if cell.method == "fed_ntk_zo" else {})

    write_run(tmp_path, planned(), change=scored)
    ((_, drawn),) = draw_figures(load_study(tmp_path))
    memory, compute = drawn.figure.axes
    assert [sum(line.get_marker() == "s" for line in panel.lines) for panel in (memory, compute)] == [4, 0]
    assert "setup sets the peak" in legend(drawn.figure)


def test_stand_in_masks_are_no_finding(run: Path) -> None:
    (found,) = findings(load_study(run))
    assert len(found.sentences) == 1 and "nothing but the meters" in found.sentences[0]
    table = render(run, "markdown")
    assert isinstance(table, str) and "Forward FLOPs left" not in table

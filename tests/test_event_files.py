"""`fedfore export`: evaluations as TensorBoard reads them, also of cells that are under way."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.records.event_files import FILE, export_events
from fedfore.records.lines import ROUNDS
from fedfore.records.store import LiveRun, lines_writer
from tests.synthetic import cells, rounds, write_run

PLAN = cells(("fedavg", "fedtiny"), alphas=(0.1,), sparsities=(0.8,), seeds=(0,))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_run(tmp_path / "run", PLAN, lambda cell: "ok" if cell.method == "fedavg" else "missing")
    return tmp_path / "run"


def test_without_tensorboard_a_sentence_says_what_to_install(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    assert main(["export", str(run), "--tensorboard", str(run / "events")]) == 2
    assert 'pip install "fedfore[tensorboard]"' in capsys.readouterr().err and not (run / "events").exists()


def scalars(file: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(file.parent))
    events.Reload()
    return [(one.step, one.value) for one in events.Scalars(tag)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_event_files_hold_every_evaluation_and_grow_with_a_cell_that_is_under_way(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    events, (dense, sparse) = tmp_path / "events", PLAN
    assert main(["export", str(run), "--tensorboard", str(events)]) == 0
    assert capsys.readouterr().out == f"{events}: 1 cells have new rounds\n"
    (file,) = events.rglob(FILE)
    assert file.parent == events / "digits" / "lenet5" / f"{dense.id},sparsity=0,alpha=0.1,seed=0"
    for tag in ("test_accuracy", "uplink_bytes"):
        assert scalars(file, tag) == [(one["round"], pytest.approx(one[tag], rel=1e-6)) for one in rounds(dense)]
    assert export_events(LiveRun(run), events) == []

    with lines_writer(run / "attempts" / "7", sparse.id, ROUNDS) as write:
        for end, line in enumerate(rounds(sparse), 1):
            write(line)
            (grown,) = export_events(LiveRun(run), events)
            assert len(scalars(grown, "test_loss")) == end
            before, node = grown.read_bytes(), grown.stat().st_ino
    shutil.move(run / "attempts" / "7" / "cells" / sparse.id, run / "cells" / sparse.id)
    assert export_events(LiveRun(run), events) == []

    with lines_writer(run, sparse.id, ROUNDS) as write:
        for line in rounds(sparse)[:3]:
            write(line | {"test_loss": 9.0})
    assert export_events(LiveRun(run), events) == [grown] and scalars(grown, "test_loss")[0] == (0, 9.0)
    assert grown.stat().st_ino != node and not before.startswith(grown.read_bytes())

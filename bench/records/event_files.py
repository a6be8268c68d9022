"""Evaluations as event files, which TensorBoard reads. No torch, and the package `tensorboard` only for who asks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedfore.cell import Cell
from fedfore.errors import StoreError
from fedfore.records.files import write_atomically, writing
from fedfore.records.lines import ROUNDS
from fedfore.records.run import Run
from fedfore.records.run_folder import read_cell_lines

FILE = "events.out.tfevents.0.fedfore"
"""The name of an event file: by its middle TensorBoard knows it."""
_VERSION = "brain.Event:2"
_NO_SCALARS = ("cell_id", "round")


def export_events(run: Run, folder: Path) -> list[Path]:
    """Write the evaluations of a run's cells, finished or under way, as scalars of float32 by round; return the files
    that changed.

    Each cell has a folder DATASET/MODEL/CELL. Written again, a file grows by what is new, so that TensorBoard follows;
    that of a cell which was computed anew is replaced. Its clock is the round. Raises StoreError where tensorboard is
    not installed, and for what cannot be read or written.
    """
    written = []
    for cell in run.plan():
        lines = run.lines(cell.id, ROUNDS) or _under_way(run.path, cell.id)
        file = folder / cell.dataset / cell.model / _name(cell) / FILE
        if lines and _update(file, _content(lines)):
            written.append(file)
    return written


def _name(cell: Cell) -> str:
    return f"{cell.id},sparsity={cell.sparsity:g},alpha={cell.alpha},seed={cell.seed}"


def _under_way(run: Path, cell_id: str) -> list[dict[str, Any]]:
    """Return the lines of an attempt that has not ended; none where the last one is being written just now."""
    for attempt in run.glob(f"attempts/*/cells/{cell_id}"):
        with suppress(StoreError):
            return read_cell_lines(attempt.parents[1], cell_id, ROUNDS)
    return []


def _update(file: Path, content: bytes) -> bool:
    """Have a file hold this content and return whether it changed; of one that holds its beginning the rest is added.

    Raises StoreError where it cannot be written.
    """
    with writing(file):
        known = file.read_bytes() if file.is_file() else None
        if known == content:
            return False
        if known is not None and content.startswith(known):
            with file.open("ab") as stream:
                stream.write(content[len(known) :])
        else:
            write_atomically(file, content)
    return True


def _content(lines: Sequence[Mapping[str, Any]]) -> bytes:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError:
        raise StoreError('Event files need the package tensorboard: pip install "fedfore[tensorboard]".') from None
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    writer.write(Event(wall_time=0.0, file_version=_VERSION).SerializeToString())
    for line in lines:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in _scalars(line)]
        event = Event(wall_time=float(line["round"]), step=line["round"], summary=Summary(value=values))
        writer.write(event.SerializeToString())
    return stream.getvalue()


def _scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in line.items():
        if name not in _NO_SCALARS and isinstance(value, int | float):
            yield name, float(value)

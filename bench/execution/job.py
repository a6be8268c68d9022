"""What is asked of whoever runs a cell: the cell, what its record says of its origin, and where files go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedfore.cell import Cell
from fedfore.records.record import Origin
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.partition_file import PartitionFile

CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Job:
    """One attempt at a cell.

    It writes its files under `aside`, which is laid out like a run, and its state into the file `checkpoint`: at the
    first end of a round after each `checkpoint_seconds`, and before it ends early, as after `timeout_seconds`. It goes
    on from what lies there. With `save_model` the weights and the mask that it ends with are kept. `partition` is the
    partition file that the cell names, if it names one, `data` what is known of its data set. The clients of a round
    are shared among `processes`.
    """

    cell: Cell
    aside: Path
    origin: Origin
    device: str
    data_dir: Path | None
    plugins: tuple[Path, ...]
    checkpoint: Path
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    timeout_seconds: float | None = None
    save_model: bool = False
    partition: PartitionFile | None = None
    data: DatasetSpec | None = None
    processes: int = 1

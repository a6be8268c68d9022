"""Runs, to whoever reads or writes one: opening, and the names of the modules that each do a part. No torch."""

from pathlib import Path

from fedfore.records.attempts import TRACEBACK, file_of_attempt
from fedfore.records.files import write_atomically
from fedfore.records.lines import ADJUSTMENTS, DIAGNOSTICS, LAYERS, ROUNDS
from fedfore.records.live import LiveRun
from fedfore.records.packed import PackedRun, is_packed
from fedfore.records.packing import pack
from fedfore.records.plan_file import write_plan
from fedfore.records.record import DONE, STATUSES, Record, identity, is_volatile, new_record
from fedfore.records.run import Run
from fedfore.records.run_folder import cell_dir, lines_writer, locked, read_record, write_environment, write_record
from fedfore.records.table import load_table, remarks

__all__ = [
    "ADJUSTMENTS",
    "DIAGNOSTICS",
    "DONE",
    "LAYERS",
    "ROUNDS",
    "STATUSES",
    "TRACEBACK",
    "LiveRun",
    "PackedRun",
    "Record",
    "Run",
    "cell_dir",
    "file_of_attempt",
    "identity",
    "is_volatile",
    "lines_writer",
    "load_table",
    "locked",
    "new_record",
    "open_run",
    "pack",
    "read_record",
    "remarks",
    "write_atomically",
    "write_environment",
    "write_plan",
    "write_record",
]


def open_run(path: Path | Run) -> Run:
    """Return the run in a folder, packed or live, or the one that is given. Nothing is read before it is asked for."""
    if isinstance(path, Run):
        return path
    return PackedRun(path) if is_packed(path) else LiveRun(path)

"""Runs, to whoever reads or writes one: the names of the modules that each do a part of it. No torch."""

from fedfore.records.attempts import traceback_file
from fedfore.records.files import write_atomically
from fedfore.records.run_folder import (
    ADJUSTMENTS,
    DIAGNOSTICS,
    LAYERS,
    ROUNDS,
    cell_dir,
    lines_writer,
    load_lines,
    locked,
    orphans,
    read_commands,
    read_environments,
    read_plan,
    read_record,
    write_environment,
    write_plan,
    write_record,
)
from fedfore.records.schema import DONE, STATUSES, identity, is_volatile, new_record
from fedfore.records.table import load_table, remarks

__all__ = [
    "ADJUSTMENTS",
    "DIAGNOSTICS",
    "DONE",
    "LAYERS",
    "ROUNDS",
    "STATUSES",
    "cell_dir",
    "identity",
    "is_volatile",
    "lines_writer",
    "load_lines",
    "load_table",
    "locked",
    "new_record",
    "orphans",
    "read_commands",
    "read_environments",
    "read_plan",
    "read_record",
    "remarks",
    "traceback_file",
    "write_atomically",
    "write_environment",
    "write_plan",
    "write_record",
]

"""`fedfore partition`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedfore.cli.arguments import add_data_dir
from fedfore.errors import ConfigError, suggestion
from fedfore.plots.cards.published import run_folders

HELP = 'write the partition of a cell into a file, for alpha = "file:PATH"'
EXAMPLES = (
    "fedfore partition results/quick fedavg-00f75f44b550",
    "fedfore partition results/runs/mine fedavg-00f75f44b550 --out mine.json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run directory or a published study")
    parser.add_argument("cell", metavar="CELL", help="the id of a cell that has a record")
    parser.add_argument("--out", type=Path, metavar="FILE", help="[CELL.json]")
    add_data_dir(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.execution.data_names import know_data
    from fedfore.execution.matrix_file import read_matrix
    from fedfore.execution.partition_export import partition_of
    from fedfore.execution.partition_names import named_partition
    from fedfore.records.files import write_atomically
    from fedfore.records.packed import MATRIX
    from fedfore.records.record import cell_of
    from fedfore.records.store import open_run
    from fedfore.tasks.loading import load
    from fedfore.tasks.own_arrays import is_own

    run = open_run(run_folders([options.run])[0])
    record = run.found(options.cell)
    if record is None:
        raise ConfigError(
            f'{run.path} has no record of a cell "{options.cell}".{suggestion(options.cell, run.recorded())}'
        )
    file = options.out or Path(f"{options.cell}.json")
    if file.exists() or file.suffix != ".json":
        raise ConfigError(f"--out {file}: {'it is there already' if file.exists() else 'give a name in .json'}.")
    if is_own(record.dataset):
        know_data(read_matrix(run.path / MATRIX))
    named = named_partition(run.path, cell_of(record))
    dataset = load(record.dataset, options.data_dir)
    found = partition_of(record, dataset if named is None else dataset.owned(named.owners), file.stem)
    write_atomically(file, found.text())
    print(f"{file}: {len(found.sizes)} clients, {sum(found.sizes)} of {len(found.owners)} examples of {record.dataset}")
    return 0

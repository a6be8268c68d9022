"""`fedfore reproduce`."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedfore.cli.arguments import add_data_dir, add_plugins, positive
from fedfore.cli.executing import add_executor, chosen_executor, processes_per_cell
from fedfore.display.output import complain
from fedfore.errors import ConfigError, printable
from fedfore.plots.cards.published import published_study

if TYPE_CHECKING:
    from fedfore.judgement.repetition import Comparison

HELP = "compute some cells of a published study again and compare"
EXAMPLES = ("fedfore reproduce quick --cells 2", "fedfore reproduce quick --cells 2 --seed 1 --workers 1")
FRESH_SEED_BITS = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="NAME", help="of results/, or a folder")
    parser.add_argument("--cells", type=positive, required=True, metavar="K", help="how many, drawn at random")
    parser.add_argument("--seed", type=int, metavar="S", help="of the draw [a fresh one, which is printed]")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run directory [results/runs/reproduce-<NAME>-<seed>]")
    add_executor(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    add_data_dir(parser)
    add_plugins(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.display.outcomes import what_went_wrong
    from fedfore.display.progress import Display
    from fedfore.execution.data_names import know_data
    from fedfore.execution.executors.choice import is_elsewhere
    from fedfore.execution.matrix import PlannedCell
    from fedfore.execution.matrix_file import read_matrix
    from fedfore.execution.partition_names import named_partitions
    from fedfore.execution.reproduction import drawn, over_the_same_evaluations, present_cell
    from fedfore.execution.runner import Progress, RunOptions, run_plan
    from fedfore.judgement.repetition import compared, planned_records
    from fedfore.records.packed import MATRIX
    from fedfore.records.store import LiveRun, open_run

    here, study = Path.cwd(), open_run(published_study(options.study))
    seed = secrets.randbits(FRESH_SEED_BITS) if options.seed is None else options.seed
    run = options.out or Path("results") / "runs" / f"reproduce-{study.path.resolve().name}-{seed}"
    if run.exists():
        raise ConfigError(f"{run} is there already; choose another --out, or another --seed.")
    if (study.path / MATRIX).is_file():
        know_data(read_matrix(study.path / MATRIX))
    methods = discover(tuple((here / folder).resolve() for folder in options.plugins))
    records = drawn(study, options.cells, seed)
    planned = [PlannedCell(present_cell(record, methods)) for record in records]
    settings = RunOptions(
        run=here / run,
        command=options.command,
        executor=chosen_executor(options),
        processes=processes_per_cell(options),
        elsewhere=is_elsewhere(options.executor),
        device=options.device,
        data_dir=here / options.data_dir if options.data_dir else None,
        plugins=tuple((here / folder).resolve() for folder in options.plugins),
        partitions=named_partitions(study.path, [item.cell for item in planned]),
    )
    complain(f"{len(planned)} cells of {study.path.name}, drawn with --seed {seed}")
    with Display(settings.run, study.path.name) as display:
        progress = Progress(lambda launched, kept, stale: display.start(launched), display.done)
        outcome = run_plan(planned, methods, settings, progress)
    again = {record.cell_id: record for record in outcome.records if record.status == "ok"}
    peers, computed = planned_records(study), LiveRun(settings.run)
    for record in records:
        if record.cell_id in again:
            repeated = over_the_same_evaluations(record, study, again[record.cell_id], computed)
            print("\n".join(map(printable, lines(list(compared(record, repeated, peers))))))
    print("".join(what_went_wrong(settings.run, outcome)), end="")
    print(f"Drawn with --seed {seed}; the records lie in {run}/cells/.")
    return 0 if len(again) == len(records) else 1


def lines(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield a line on the numbers of a cell that are equal, and one on each other number."""
    equal = [one.metric for one in comparisons if one.verdict == "equal"]
    if equal:
        yield f"equal     {comparisons[0].cell_id}  {len(equal)} numbers: {', '.join(equal)}"
    for one in comparisons:
        if one.verdict != "equal":
            seeds = "its setting has one seed" if one.low is None else f"over seeds {one.low:.6g} to {one.high:.6g}"
            numbers = f"{one.first!r} published, {one.again!r} now ({seeds})"
            yield f"{one.verdict:<9} {one.cell_id}  {one.metric}: {numbers}"

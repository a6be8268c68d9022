"""`fedfore run`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fedfore.cli.arguments import add_data_dir, add_matrix, seconds
from fedfore.cli.executing import add_executor, chosen_executor, runs_elsewhere, warm_up
from fedfore.cli.output import complain
from fedfore.cli.planning import planned_matrix
from fedfore.errors import FedForeError, printable
from fedfore.matrices import named_matrices
from fedfore.records.sources import ROOT

if TYPE_CHECKING:
    from fedfore.execution.tuning import StagedPlan

HELP = "run a matrix and write its report"
EXAMPLES = ("fedfore run", "fedfore run my.toml --plugins my_methods --workers 4 --out results/runs/my")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_matrix(parser)
    add_executor(parser)
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument(
        "--rerun", choices=("missing", "failed", "stale", "all"), default="missing",
        help="which cells to run: without a record, also failed ones, also ones of older code, or all [missing]",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="CELL",
        help="run only this cell of the plan, by its id or the beginning of one, or K/N: every N-th from the K-th; may "
        "be repeated, and the exit status is that of these cells [all]",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="RUN", help="run directory [results/runs/<matrix>]")
    parser.add_argument("--extend", action="store_true", help="unite this plan with the one RUN already holds")
    parser.add_argument(
        "--timeout", type=seconds, metavar="S",
        help="seconds after which a cell is stopped [none]; the same command goes on from its checkpoint",
    )  # fmt: skip
    parser.add_argument(
        "--checkpoint-seconds", type=seconds, default=60.0, metavar="S",
        help="seconds of work that a cell can lose [60]: at the first end of a round after them its state is kept",
    )  # fmt: skip
    parser.add_argument("--save-model", action="store_true", help="keep the weights and the mask that a cell ends with")
    parser.add_argument(
        "--from",
        type=Path,
        dest="study",
        metavar="STUDY",
        help="go on with a published study, in a new RUN",
    )
    add_data_dir(parser)
    parser.set_defaults(kept="; finished cells are kept, the same command goes on from here")


PLACES = ("--data-dir", "--out", "--from")
"""Options that say where files lie, and change no number."""
CLUSTER = "--executor"


def command_at_root(command: str, matrix: str, file: Path) -> str:
    """Return a command as it is typed at the checkout's root: there the path of a matrix file is that in its commit.

    Where files lie on this machine alone is left out.
    """
    words, place = shlex.split(command), file.resolve()
    if matrix in words and matrix not in named_matrices() and place.is_relative_to(ROOT):
        words[words.index(matrix)] = place.relative_to(ROOT).as_posix()
    return shlex.join(_without_places(words))


def _without_places(words: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command but those of `PLACES` that are absolute, and the address of a cluster."""
    waiting = iter(words)
    for word in waiting:
        option, given, value = word.partition("=")
        parts = [word] if given or option not in (*PLACES, CLUSTER) else [word, *islice(waiting, 1)]
        place = value or parts[-1]
        if not (option in PLACES and Path(place).is_absolute()) and not (option == CLUSTER and ":" in place):
            yield from parts


def execute(options: argparse.Namespace) -> int:
    warm_up(options)
    from fedfore.cli.listings import tuning_lines
    from fedfore.cli.outcomes import what_went_wrong
    from fedfore.cli.progress import Display
    from fedfore.execution.matrix_file import matrix_text
    from fedfore.execution.only import Only
    from fedfore.execution.runner import RunOptions
    from fedfore.execution.stages import StageProgress, run_stages
    from fedfore.execution.trials import ended_trials
    from fedfore.execution.tuning import staged_plan
    from fedfore.records.publishing import unpack
    from fedfore.records.store import LiveRun, open_run, remarks

    here = Path.cwd()  # a method may go elsewhere
    options.plugins = [here / folder for folder in options.plugins]
    matrix = planned_matrix(options)
    path, document, methods = matrix.path, matrix.document, matrix.methods
    run = options.out or Path("results") / "runs" / path.stem
    settings = RunOptions(
        run=here / run,
        command=command_at_root(options.command, options.matrix, path),
        executor=chosen_executor(options),
        elsewhere=runs_elsewhere(options),
        device=options.device,
        rerun=options.rerun,
        data_dir=here / options.data_dir if options.data_dir else None,
        plugins=tuple(folder.resolve() for folder in options.plugins),
        extend=options.extend,
        timeout_seconds=options.timeout,
        checkpoint_seconds=options.checkpoint_seconds,
        save_model=options.save_model,
        matrix=matrix_text(path, document),
        partitions=matrix.partitions,
        only=Only.parsed(options.only) if options.only else None,
    )
    if options.study is not None:
        study = open_run(options.study)
        asked = staged_plan(document, methods, ended_trials(study)).asks_for
        unpack(study, settings.run, None if options.extend else asked)
    stages: list[StagedPlan] = []
    display = Display(settings.run, path.stem)

    def start(launched: int, kept: int, stale: int) -> None:
        there = f"{kept} already there{f', {stale} of them stale' if stale else ''}"
        complain(f"{len(stages[-1].cells)} cells planned, {there}, {launched} to run in {run}")
        if stages[-1].tuning is not None:
            complain("\n".join(printable(line) for line in tuning_lines(stages[-1])))
        display.start(launched)

    from fedfore.plots.report.current import asked_of, current_report

    asked_before = asked_of(settings.run)
    with display:
        progress = StageProgress(start, display.done, lambda sentence: complain(f"fedfore: {sentence}"), stages.append)
        outcome = run_stages(document, methods, settings, progress, matrix.plan)
    from fedfore.plots.report.page import write_report
    from fedfore.plots.tables.show import render

    options.status = 0 if outcome.is_complete else 1
    ended = LiveRun(settings.run, outcome.records)
    try:
        report = current_report(settings.run, asked_before) or write_report(ended)
        print(render(ended, "plain"))
        print("".join(f"{remark}\n\n" for remark in remarks(ended)), end="")
        print("".join(what_went_wrong(settings.run, outcome)), end="")
    except FedForeError as error:  # something did run
        complain(f"fedfore: {printable(str(error))}")
        return 1
    print(f"Report: {run / report.name}")
    return int(options.status)

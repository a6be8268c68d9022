"""How a matrix is to run, as the command and `fedfore.run` are asked, and what that comes to on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from fedfore.execution import stages
from fedfore.execution.executors import choice
from fedfore.execution.job import CHECKPOINT_SECONDS
from fedfore.execution.only import Only
from fedfore.execution.planned_matrix import Matrix
from fedfore.execution.runner import Outcome, Rerun, RunOptions
from fedfore.execution.trials import ended_trials
from fedfore.execution.tuning import staged_plan
from fedfore.records.publishing import unpack
from fedfore.records.store import open_run


@dataclass(frozen=True)
class Request:
    """The options of `fedfore run` by their names, but those that say what the matrix and its methods are.

    Paths are of the present folder. `study` is the option `--from`.
    """

    out: str | Path | None = None
    workers: NonNegativeInt | None = None
    processes_per_cell: PositiveInt = 1
    executor: str = "processes"
    shared: bool = False
    gpus: PositiveFloat | None = None
    device: str = "cpu"
    rerun: Rerun = "missing"
    only: tuple[str, ...] = ()
    extend: bool = False
    timeout: PositiveFloat | None = None
    checkpoint_seconds: PositiveFloat = CHECKPOINT_SECONDS
    save_model: bool = False
    study: str | Path | None = field(default=None, metadata={"option": "from"})
    data_dir: str | Path | None = None


def run_options(request: Request, matrix: Matrix, run: Path, plugins: tuple[Path, ...], command: str) -> RunOptions:
    """Return how a matrix runs into `run`, with methods of these folders.

    Raises ConfigError for an executor or a share of cells that there is not.
    """
    here = Path.cwd()  # a method may go elsewhere
    processes = choice.processes_of(request.processes_per_cell, request.executor, request.device)
    return RunOptions(
        run=here / run,
        command=command,
        executor=choice.executor_of(
            request.executor, request.workers, processes=processes, shared=request.shared, gpus=request.gpus
        ),
        elsewhere=choice.is_elsewhere(request.executor),
        device=request.device,
        rerun=request.rerun,
        data_dir=here / request.data_dir if request.data_dir else None,
        plugins=plugins,
        extend=request.extend,
        timeout_seconds=request.timeout,
        checkpoint_seconds=request.checkpoint_seconds,
        save_model=request.save_model,
        processes=processes,
        matrix=matrix.text,
        partitions=matrix.partitions,
        only=Only.parsed(request.only) if request.only else None,
    )


def run_matrix(
    matrix: Matrix, options: RunOptions, study: str | Path | None, progress: stages.StageProgress
) -> Outcome:
    """Run a matrix, going on with a published study where one is given, and return what then lies in its folder.

    Raises as `run_stages` does, and StoreError where the study cannot be gone on with.
    """
    if study is not None:
        published = open_run(Path(study))
        asked = staged_plan(matrix.document, matrix.methods, ended_trials(published)).asks_for
        unpack(published, options.run, None if options.extend else asked)
    return stages.run_stages(matrix.document, matrix.methods, options, progress, matrix.plan)

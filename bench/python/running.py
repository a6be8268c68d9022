"""Runs in Python, as `fedfore run` has them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedfore.contract.config import validated
from fedfore.display.outcomes import what_went_wrong
from fedfore.display.output import complain
from fedfore.display.progress import Display
from fedfore.display.stages import shown_stages
from fedfore.errors import ConfigError, printable
from fedfore.execution.command import command_at_root, command_of
from fedfore.execution.executors import warm_server
from fedfore.execution.given import as_overrides
from fedfore.execution.planned_matrix import Matrix, planned_matrix
from fedfore.execution.request import Request, run_matrix, run_options
from fedfore.execution.stages import StageProgress
from fedfore.python.arguments import Folders, folders, typed
from fedfore.python.methods import methods_of
from fedfore.python.results import Results
from fedfore.records.packed import MATRIX
from fedfore.records.store import LiveRun


@typed
def run(
    matrix: str | Path | Mapping[str, Any] = "quick",
    *,
    out: str | Path | None = None,
    set: Mapping[str, Any] = {},
    plugins: Folders = (),
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Results:
    """Run a matrix and return its results; what has a record in `out` already is not computed again.

    `matrix` is the name of one that ships, a TOML file, or a dict as such a file gives it, which needs an `out`: its
    folder, results/runs/<matrix> by default. `set` replaces keys by their dotted names, such as {"seed": [0, 1],
    "train.clients": 20}; None is a key's default. `plugins` are folders of method files. At most `workers` cells run at
    a time, as many as there are CPUs by default, each in a process of its own; 0 runs them in this one. `progress` says
    on stderr how far they are. `options` are others of `fedfore run --help` by their names: rerun, only, extend,
    timeout, checkpoint_seconds, save_model, device, data_dir, study (--from), processes_per_cell, executor, shared,
    gpus.

    A cell may fail: its row says so, and the others go on. An interrupt stops the workers, keeps what they have, and is
    passed on. Raises ConfigError, PluginError, DataError or StoreError where nothing can run.
    """
    asked = {"out": out, "workers": workers, **options}
    request = validated(Request, {name: value for name, value in asked.items() if value is not None}, "run")
    own, changes = folders(plugins), as_overrides(set)
    resolved = tuple(folder.resolve() for folder in own)
    if request.executor == "processes" and request.workers != 0:
        warm_server.warm_up()
    with methods_of(resolved) as methods:
        planned = planned_matrix(matrix, changes, methods, Path(request.data_dir) if request.data_dir else None)
        folder = _folder(request, planned)
        file = planned.path or folder / MATRIX
        name = str(file) if isinstance(matrix, Mapping) else str(matrix)
        changed = () if isinstance(matrix, Mapping) else changes  # what the run stores holds them
        command = command_of(name, request, set=changed, plugins=tuple(own))
        command = command_at_root(command, name, file)
        settings = run_options(request, planned, folder, resolved, command)
        for sentence in planned.remarks if progress else ():
            complain(f"fedfore: {printable(sentence)}")
        with Display(settings.run, folder.name) as display:
            stages = shown_stages(display, folder) if progress else StageProgress()
            outcome = run_matrix(planned, settings, request.study, stages)
    for paragraph in what_went_wrong(settings.run, outcome) if progress else ():
        complain(paragraph.rstrip())
    return Results((LiveRun(settings.run, outcome.records),))


def _folder(request: Request, planned: Matrix) -> Path:
    if request.out is not None:
        return Path(request.out)
    if planned.path is None:
        raise ConfigError("A matrix that is given as a dict has no name; say where its run is to lie: out=FOLDER.")
    return Path("results") / "runs" / planned.path.stem

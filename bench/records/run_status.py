"""How far a run has come, seen from outside at any time: what its files are called and its records say. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedfore.errors import StoreError
from fedfore.records.attempts import failed_attempts, find_record
from fedfore.records.heartbeat import UnderWay, under_way
from fedfore.records.outline import Outline, read_outline
from fedfore.records.packed import is_packed
from fedfore.records.record import DONE, STATUSES
from fedfore.records.run_folder import checkpoint_file, is_held, lost_files


@dataclass(frozen=True)
class RunStatus:
    """What lies in a run folder.

    `statuses` are those of the planned cells that have a record; `running` the attempts of the process that holds the
    run, or those that one left which died without a checkpoint of them; `waiting` says of each cell that has a
    checkpoint and does not run when that was written, in the seconds of `seconds_now`; `failed` are the cells of which
    an attempt failed and replaced nothing.
    """

    run: Path
    plan: Outline
    statuses: Mapping[str, str]
    running: tuple[UnderWay, ...]
    waiting: Mapping[str, float]
    failed: tuple[str, ...]
    is_held: bool

    @property
    def missing(self) -> list[str]:
        """The planned cells without a record, those that run now included."""
        return [cell_id for cell_id in self.plan.ids if cell_id not in self.statuses]

    @property
    def unfinished(self) -> list[str]:
        """The planned cells whose record does not say `ok` or `skipped`."""
        return [cell_id for cell_id, status in self.statuses.items() if status not in DONE]

    @property
    def counts(self) -> dict[str, int]:
        """How many planned cells there are of each status, and `missing` ones, where there are any."""
        found = Counter(self.statuses.values()) | Counter(missing=len(self.missing))
        return {status: found[status] for status in (*STATUSES, "missing") if found[status]}

    @property
    def is_complete(self) -> bool:
        """Whether every cell is planned by now and ended well."""
        return self.plan.has_choices and not (self.missing or self.unfinished)


def run_status(run: Path) -> RunStatus:
    """Return how far a run has come. Raises StoreError where there is none, or a published study."""
    if is_packed(run):
        raise StoreError(f"{run} is a published study, which does not run; fedfore show {run} prints its results.")
    plan = read_outline(run)
    held, running = is_held(run), tuple(under_way(run))
    idle = set(plan.ids) - ({one.cell_id for one in running} if held else set())
    statuses = {cell_id: status for cell_id in plan.ids if (status := _status(run, cell_id))}
    anyones = checkpoint_file(run, "*")
    checkpoints = [file for file in sorted(anyones.parent.glob(anyones.name)) if file.stem in idle]
    waiting = {file.stem: seconds for file in checkpoints if (seconds := _written(file)) is not None}
    return RunStatus(
        run=run,
        plan=plan,
        statuses=statuses,
        running=tuple(one for one in running if held or one.cell_id not in waiting),
        waiting=waiting,
        failed=tuple(failed_attempts(run)),
        is_held=held,
    )


def _status(run: Path, cell_id: str) -> str | None:
    """Return what a cell's record says of its end, or None where there is none that can be read, or not all of it."""
    record = find_record(run, cell_id)
    return None if record is None or lost_files(run, record) else record.status


def _written(file: Path) -> float | None:
    with suppress(OSError):
        return file.stat().st_mtime
    return None

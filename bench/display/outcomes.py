"""What is said of the cells of a run that did not finish. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedfore.errors import printable
from fedfore.records.attempts import TRACEBACK, file_of_attempt, goes_on
from fedfore.records.record import Record
from fedfore.records.run_folder import LOG

if TYPE_CHECKING:
    from fedfore.execution.runner import Outcome


def what_went_wrong(run: Path, outcome: Outcome) -> Iterator[str]:
    """Yield a paragraph on each: cells that did not finish, that go on, reruns that failed, cells without a record."""
    total = len(outcome.records) + len(outcome.missing)
    late = [record for record in outcome.failures if goes_on(run, record)]
    failures = [record for record in outcome.failures if record not in late]
    missing = [cell_id for cell_id in outcome.missing if cell_id not in {record.cell_id for record in late}]
    kinds = (
        (f"{len(outcome.unfinished)} of {total} cells did not finish:", outcome.unfinished),
        (f"{len(late)} of {total} cells have not ended yet:", late),
        (f"{len(failures)} attempts failed, and left what was there before as it was:", failures),
    )
    for heading, records in kinds:
        if records:
            yield "\n".join([heading, *(failure(run, record) for record in records)]) + "\n\n"
    yield from _metrics_without_a_value(outcome.records)
    if missing:
        yield (
            f"{len(missing)} of {total} planned cells have no record; run their matrices again, with the "
            f"commands that {run / 'plan.json'} names: {' '.join(missing)}\n\n"
        )


def _metrics_without_a_value(records: Iterable[Record]) -> Iterator[str]:
    told = (one.get("problem") for record in records for one in (record.plugin_metrics or {}).values())
    problems = Counter(problem for problem in told if problem)
    if problems:
        lines = [printable(f"{problem} ({count} cells)") for problem, count in problems.items()]
        yield "\n".join(["Metrics of plug-ins that have no value:", *lines]) + "\n\n"


def failure(run: Path, record: Record) -> str:
    """Return the line on a record of a cell that did not finish: what became of it, why, and where more is said."""
    places = {"traceback": file_of_attempt(run, record, TRACEBACK), "log": file_of_attempt(run, record, LOG)}
    seen = ", ".join(f"{what}: {path}" for what, path in places.items() if path)
    return printable(f"{record.status}: {record.cell_id}: {record.reason}{f' ({seen})' if seen else ''}")

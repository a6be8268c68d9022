"""From a live run to a published study and back: what is refused, and what is unpacked. No torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from fedfore.errors import ConfigError, StoreError
from fedfore.records.files import dumped, write_atomically
from fedfore.records.history import DIRTY
from fedfore.records.lines import LINES
from fedfore.records.manifest import manifest_problems
from fedfore.records.migration import SCHEMA_VERSION
from fedfore.records.packed import MATRIX, PackedRun, is_packed
from fedfore.records.packing import pack
from fedfore.records.partitions import copy_partitions
from fedfore.records.plan_file import Asked, require_same_plan, write_plan
from fedfore.records.record import Record, differing_settings, record_to_json
from fedfore.records.run import Run
from fedfore.records.run_folder import (
    RECORD,
    cell_dir,
    is_held,
    lines_writer,
    locked,
    write_environment,
    write_matrix,
    write_notes,
)
from fedfore.records.store import open_run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def publish(run: Run, folder: Path, *, unfinished: bool = False, unverifiable: Iterable[str] = ()) -> tuple[int, int]:
    """Pack a live run into the folder of a study; return how many cells it has a record of, and how many it plans.

    A study that is there gives way to the same one with more cells. Raises StoreError, with one sentence, for a run
    that is not to be published: with cells missing, unless `unfinished`, with records that cannot be read, or are of
    other plans or settings, of several codes of one method, or of a commit from which the checkout differed; and for
    what is `unverifiable` in it, which is asked last.
    """
    if run.is_published:
        raise StoreError(f"{run.path} is a published study already; name a run directory.")
    plan = run.plan()
    with locked(run.path):
        records = {cell.id: record for cell in plan if (record := run.record(cell)) is not None}
        missing = [cell.id for cell in plan if cell.id not in records]
        for refusal in chain(
            () if unfinished and records else _untuned(run),
            _incomplete(run, records, [] if unfinished and records else missing),
            (f"{name} {problem}" for name, problem in _other_settings(run, records)),
            _other_code(records.values()),
            unverifiable,
        ):
            raise StoreError(f"{run.path} is not published: {refusal.rstrip('.')}.")
        if is_packed(folder):
            _check_replaced(PackedRun(folder), run)
        pack(run, folder, (run.path / MATRIX).read_text(encoding="utf-8"))
    return len(records), len(plan)


@contextmanager
def as_it_stands(path: Path) -> Iterator[Run]:
    """Yield the run in a folder; where another process is writing to it, a copy, as if it had been interrupted now."""
    if is_packed(path) or not (path.is_dir() and is_held(path)):
        yield open_run(path)
        return
    with TemporaryDirectory(prefix="fedfore-") as folder:
        copy = Path(folder) / path.resolve().name
        shutil.copytree(path, copy, copy_function=_copied, ignore=shutil.ignore_patterns(".lock"))
        yield open_run(copy)


def _copied(source: str, target: str) -> None:
    """Copy a file, unless it is gone since it was listed."""
    with suppress(FileNotFoundError):
        shutil.copy2(source, target)


def study_folder(results: Path, name: str) -> Path:
    """Return where a study of this name is published. Raises ConfigError where the name is none for a study."""
    if not _NAME.fullmatch(name) or name == "runs":
        raise ConfigError(
            f'"{name}" is no name of a study; give at most 100 letters, digits, ".", "_" or "-", no mark first.'
        )
    folder = results / name
    if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
        raise ConfigError(f"{folder} is there and is no study; choose another name.")
    return folder


def _untuned(run: Run) -> Iterator[str]:
    tuning = run.tuning()
    if tuning is not None and tuning.choices is None:
        yield "its tuning has not chosen yet; run the matrix to its end, or publish it --unfinished"


def _incomplete(run: Run, records: Iterable[str], missing: list[str]) -> Iterator[str]:
    if missing:
        yield f"{len(missing)} of its cells have no record, as {missing[0]}; run them, or publish it --unfinished"
    for orphan in run.orphans():
        yield f"its plan has no cell {orphan}, of which there is a record; move that folder away"
    for name in records:
        for file in run.lost_files(name):
            yield f"{name} has lost its {file}; run the matrix again"
    if not (run.path / MATRIX).is_file():
        yield f"it has no {MATRIX}, which says what was asked; run the matrix once more, which keeps finished cells"


def _other_settings(run: Run, records: Mapping[str, Record]) -> Iterator[tuple[str, str]]:
    for cell in run.plan():
        differing = differing_settings(records[cell.id], cell) if cell.id in records else []
        if differing:
            yield cell.id, f"ran with other settings than planned ({differing[0]}); run it again with --rerun stale"


def _other_code(records: Iterable[Record]) -> Iterator[str]:
    codes: dict[str, set[tuple[int, str | None]]] = {}
    for record in records:
        codes.setdefault(record.method, set()).add((record.hash_scheme, record.code_sha256))
        if record.git_commit is None or record.git_commit.endswith(DIRTY):
            stood = "of no commit" if record.git_commit is None else "of a checkout that differed from its commit"
            yield f"{record.cell_id} is {stood}, so nobody could check it; run it again in a clean clone"
    for method, found in codes.items():
        if len(found) > 1:
            yield f"cells of {method} ran {len(found)} different codes; run them again with --rerun stale"


def _check_replaced(old: PackedRun, new: Run) -> None:
    """Raise StoreError unless every cell of the old study is in the new one, which has more, with the same record."""
    kept = {name: new.found(name) for name in old.recorded()}
    same = all(old.found(name) == record for name, record in kept.items())
    if not same or not {cell.id for cell in old.plan()} <= {cell.id for cell in new.plan()}:
        raise StoreError(f"{old.path} is another study than {new.path}; choose another name.")
    if len(new.recorded()) <= len(kept):
        raise StoreError(f"{old.path} has all cells of {new.path} already.")


def unpack(study: Run, run: Path, planned: Asked | None = None) -> None:
    """Lay a published study out as a live run, to be gone on with; finished cells need not run again.

    Tracebacks are not published, so cells that failed with one run again. `planned` is what its plan must ask for;
    None lets it ask for anything. Raises StoreError, before anything is written, where the study cannot be read, is
    none, is not as it was published or of another plan, or where there is a run already.
    """
    if not study.is_published:
        raise StoreError(f"{study.path} is no published study; name the folder of one.")
    if (run / "plan.json").exists():
        raise StoreError(f"{run} holds a run already, which goes on without --from; or choose another --out.")
    for problem in manifest_problems(study.path):
        raise StoreError(f"{study.path} is not gone on with: {problem}")
    if planned is not None:
        require_same_plan(study.path, Asked({cell.id for cell in study.plan()}, study.tuning()), planned)
    with locked(run):
        for values in study.environments().values():
            write_environment(run, values)
        for name in study.recorded():
            _unpack_cell(study, run, name)
        write_matrix(run, (study.path / MATRIX).read_text(encoding="utf-8"))
        copy_partitions(study.path, run)
        for command in study.commands():
            write_plan(run, study.plan(), command, extend=False, tuning=study.tuning())


def _unpack_cell(study: Run, run: Path, cell_id: str) -> None:
    """Write the files of a cell, its record last: as it was, with the nulls that packing left out."""
    stored, record = study.stored(cell_id), study.found(cell_id)
    if stored is None or record is None:
        return
    for name in LINES:
        lines = study.lines(cell_id, name)
        if lines or name in record.files:
            with lines_writer(run, cell_id, name) as write:
                for line in lines:
                    write(line)
    notes = study.notes(cell_id)
    if notes:
        write_notes(run, cell_id, notes)
    whole = record_to_json(record) if stored["schema_version"] == SCHEMA_VERSION else stored
    write_atomically(cell_dir(run, cell_id) / RECORD, dumped(whole))

"""Writing packed studies (see `packed`), and unpacking one into a live run. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedfore.cell import cell_to_json
from fedfore.records.choices import TUNING, tuning_to_json
from fedfore.records.files import dumped, write_atomically, writing
from fedfore.records.lines import LINES
from fedfore.records.manifest import write_manifest
from fedfore.records.packed import CELLS, COMMANDS, ENVIRONMENTS, MATRIX, NOTES, PLAN
from fedfore.records.partitions import stored_partitions
from fedfore.records.run import Run


def pack(run: Run, folder: Path, matrix: str) -> None:
    """Write the planned cells of a run into a folder as a packed study; records that are not planned are left out.

    `matrix` is the text of the matrix. The records come last, so that a study is there once it is whole. Raises
    StoreError for what cannot be read or written.
    """
    contents = {name: text.encode(errors="backslashreplace") for name, text in _texts(run, matrix).items()}
    written = {name: content for name, content in contents.items() if content or name not in (*LINES, NOTES)}
    for name in contents.keys() - written.keys():
        with writing(folder / name):
            (folder / name).unlink(missing_ok=True)
    write_manifest(folder, written)
    for name, content in written.items():
        write_atomically(folder / name, content)


def _texts(run: Run, matrix: str) -> dict[str, str]:
    """Return the files of a packed study, the records last; those of lines may be empty."""
    plan = run.plan()
    records = {cell.id: stored for cell in plan if (stored := run.stored(cell.id)) is not None}
    ids = sorted(records)
    noted = {one: notes for one in ids if (notes := run.notes(one))}
    used = {record.get("environment") for record in records.values()}
    missing = [cell_to_json(cell) for cell in plan if cell.id not in records]
    tuning = run.tuning()
    tuned = {} if tuning is None else {TUNING: tuning_to_json(tuning)}
    return {
        **{
            name: _json_lines({"cell_id": one, **line} for one in ids for line in run.lines(one, name))
            for name in LINES
        },
        NOTES: _json_lines({"cell_id": one, "notes": notes} for one, notes in noted.items()),
        MATRIX: matrix,
        **stored_partitions(run.path),
        COMMANDS: dumped(run.commands()),
        ENVIRONMENTS: dumped({name: own for name, own in run.environments().items() if name in used}),
        PLAN: dumped({"order": [cell.id for cell in plan], "missing": missing, **tuned}),
        CELLS: _json_lines(_without_nulls(records[one]) for one in ids),
    }


def _without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in sorted(record.items()) if value is not None}
    return {"cell_id": kept.pop("cell_id"), **kept}


def _json_lines(objects: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in objects)

"""Writing packed studies (see `packed`), and unpacking one into a live run. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedfore.cell import cell_to_json
from fedfore.records.files import dumped, write_atomically, writing
from fedfore.records.lines import LINES
from fedfore.records.packed import CELLS, COMMANDS, ENVIRONMENTS, MATRIX, NOTES, PLAN
from fedfore.records.run import Run


def pack(run: Run, folder: Path, matrix: str) -> None:
    """Write the planned cells of a run into a folder as a packed study; records that are not planned are left out.

    `matrix` is the text of the matrix. Raises StoreError for what cannot be read or written.
    """
    plan = run.plan()
    records = {cell.id: stored for cell in plan if (stored := run.stored(cell.id)) is not None}
    ids = sorted(records)
    for name in LINES:
        _write_lines(folder / name, ({"cell_id": one, **line} for one in ids for line in run.lines(one, name)))
    noted = {one: notes for one in ids if (notes := run.notes(one))}
    _write_lines(folder / NOTES, ({"cell_id": one, "notes": notes} for one, notes in noted.items()))
    write_atomically(folder / MATRIX, matrix)
    write_atomically(folder / COMMANDS, dumped(run.commands()))
    used = {record.get("environment") for record in records.values()}
    write_atomically(
        folder / ENVIRONMENTS, dumped({name: own for name, own in run.environments().items() if name in used})
    )
    missing = [cell_to_json(cell) for cell in plan if cell.id not in records]
    write_atomically(folder / PLAN, dumped({"order": [cell.id for cell in plan], "missing": missing}))
    write_atomically(folder / CELLS, _json_lines(_without_nulls(records[one]) for one in ids))


def _without_nulls(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in sorted(record.items()) if value is not None}
    return {"cell_id": kept.pop("cell_id"), **kept}


def _write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines, or remove it where there is no line."""
    text = _json_lines(lines)
    if text:
        write_atomically(path, text)
    else:
        with writing(path):
            path.unlink(missing_ok=True)


def _json_lines(objects: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in objects)

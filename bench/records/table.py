"""A run as one tidy table, what is to be said of it, and which of its records are stale. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from fedfore.cell import Cell
from fedfore.errors import PluginError, StoreError
from fedfore.records.code_hash import code_sha256
from fedfore.records.derived import DERIVED
from fedfore.records.metrics import FIELDS, METRICS, guest_values
from fedfore.records.record import Record, completed, differing_settings, identity, record_to_json
from fedfore.records.run import NOT_RUN, Run
from fedfore.records.sources import shipped_method_file

OTHER_CODE = "other code"
OTHER_SETTINGS = "other settings"
UNKNOWN = "unknown"
NAMED = 5
"""How many cells a remark names."""
_NESTED = ("train", "params", "files", "plugin_code", "plugin_metrics")
"""The fields of a record that are no single value, and so no column of their own."""
PresentCode = Callable[[str, int], str | None]
"""The present hash of the code of a method, or of another plug-in by its key, under a scheme; None where there is no
such file."""


def present_code(files: Mapping[str, Path]) -> PresentCode:
    """Return what hashes the code of shipped methods, and of the plug-ins in `files`, as it is now."""

    @cache
    def sha256(name: str, scheme: int) -> str | None:
        file = files.get(name) or shipped_method_file(name)
        try:
            return code_sha256(file, scheme) if file else None
        except PluginError:
            return None

    return sha256


def staleness(record: Record, cell: Cell, present: PresentCode) -> str:
    """Return why a record is not what the planned cell would give now: "" where it is, or "unknown".

    Its settings are compared after migration; a record that does not say its code counts as of the present one.
    """
    settings = differing_settings(completed(record, cell), cell)
    if settings:
        return f"{OTHER_SETTINGS}: {', '.join(settings)}"
    stored = {cell.method: record.code_sha256, **(record.plugin_code or {})} if record.code_sha256 else {}
    now = {name: present(name, record.hash_scheme) for name in stored}
    if any(now[name] not in (code, None) for name, code in stored.items()):
        return OTHER_CODE
    return UNKNOWN if None in now.values() else ""


def is_stale(why: str) -> bool:
    """Return whether a `staleness` is one that is known."""
    return why not in ("", UNKNOWN)


def settings_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return one row a planned cell, its settings in the columns of `load_table`."""
    return pd.DataFrame([_columns(identity(cell)) for cell in cells])


def load_table(run: Run) -> pd.DataFrame:
    """Return one row a planned cell: every record field, `train.*` and `params.*` columns, `stale` and `staleness`.

    A planned cell without a record that can be read has status `missing` and its reason. Every metric of
    `fedfore.records.metrics` is a column. `stale` says that the record is of other code or settings than the present,
    `staleness` which (see `staleness`); a published study is judged at its own commit and never stale. Raises
    StoreError for a run that cannot be read. The table of one `Run` is made once.
    """
    if run.table is None:
        run.table = _table(run)
    return run.table.copy(deep=False)


def _table(run: Run) -> pd.DataFrame:
    present = present_code(run.plugins())
    rows = []
    for cell in run.plan():
        record, reason = _found(run, cell)
        why = "" if record is None or run.is_published else staleness(record, cell, present)
        missing = {**identity(cell), "status": "missing", "reason": reason or NOT_RUN}
        row = _columns(record_to_json(record) if record else missing)
        rows.append(row | {"stale": is_stale(why), "staleness": why})
    table = pd.DataFrame(rows)
    table = table.reindex(columns=[*table, *(name for name in FIELDS if name not in (*table, *_NESTED))])
    table = table.assign(
        **{name: pd.to_numeric(table[name]) for name in METRICS if name in table}
    ).copy()  # in one piece
    sums = {name: table[list(metric.parts)].sum(axis=1, skipna=False) for name, metric in DERIVED.items()}
    return table.assign(**sums).copy()  # one block of memory a type, where columns that were assigned have one each


def _found(run: Run, cell: Cell) -> tuple[Record | None, str | None]:
    """Return a planned cell's record; or None, and why what is there cannot be read."""
    try:
        return run.record(cell), None
    except StoreError as error:
        return None, str(error)


def _columns(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a cell as columns, those of its nested groups by `group.name`."""
    row = {name: value for name, value in known.items() if name not in _NESTED}
    row |= guest_values(known.get("plugin_metrics"))
    for group in ("train", "params"):
        row |= {f"{group}.{name}": _scalar(value) for name, value in known[group].items()}
    return row


def _scalar(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict | tuple) else value


def remarks(run: Run) -> list[str]:
    """Return a sentence on each thing of a run that its table does not show at a glance: stale, lost, damaged.

    Raises StoreError for a run that cannot be read.
    """
    return list(_remarks(run))


def _remarks(run: Run) -> Iterator[str]:
    table = load_table(run)
    if table.empty:
        return
    why = table["staleness"]
    code, settings, unknown = why == OTHER_CODE, why.str.startswith(OTHER_SETTINGS), why == UNKNOWN
    if code.any():
        yield (f"{code.sum()} records were computed with other code than the present; --rerun stale runs them again.")
    if settings.any():
        details = why[settings].str.removeprefix(f"{OTHER_SETTINGS}: ")
        named = [f"{cell} ({detail})" for cell, detail in zip(table.loc[settings, "cell_id"], details, strict=True)]
        yield (
            f"{settings.sum()} records were computed with other settings than the plan has under their ids: "
            f"{_some(named)}; --rerun stale runs them again."
        )
    if unknown.any():
        names = ", ".join(sorted(set(table.loc[unknown, "method"])))
        yield f"Whether {unknown.sum()} records are stale is not known: the method files of {names} were not found."
    ended = set(table.loc[table["status"] != "missing", "cell_id"])
    if failures := [cell for cell in run.failed_attempts() if cell in ended]:
        yield (
            f"The last attempt at {len(failures)} cells failed and left their records as they were: {_some(failures)}; "
            f"see {run.path / 'failed'}."
        )
    damaged = table[(table["status"] == "missing") & (table["reason"] != NOT_RUN)]
    if len(damaged):
        yield f"{len(damaged)} records count as missing: {_some(list(damaged['reason']))}"
    lost = [cell for cell in table.loc[table["status"] != "missing", "cell_id"] if run.lost_files(cell)]
    if lost:
        yield f"{len(lost)} cells have lost files beside their records and run again with the matrix: {_some(lost)}."
    strangers = run.orphans()
    if strangers:
        yield f"{len(strangers)} records are of cells that the plan does not hold, and left out: {_some(strangers)}."


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")

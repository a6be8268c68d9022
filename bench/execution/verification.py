"""The checks of a published study, one after another; what draws and prints is checked by who composes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedfore.errors import StoreError
from fedfore.records.findings import Finding, findings
from fedfore.records.origins import code_checked, code_problems
from fedfore.records.store import open_run


def verify_records(study: Path, checkout: Path) -> Iterator[Finding]:
    """Yield what checking the records of a study finds, against the git history of a checkout.

    Raises StoreError for a study that cannot be read.
    """
    records = study_records(study)
    yield from findings(study.name, code_checked(records), lambda: code_problems(records, checkout))


def study_records(study: Path) -> Sequence[Mapping[str, Any]]:
    """Return the records of a study, by id. Raises StoreError where one cannot be read, or there is none."""
    run = open_run(study)
    records = [record for name in run.recorded() if (record := run.stored(name)) is not None]
    if not records:
        raise StoreError(f"{study} holds no records; name a published study.")
    return records

"""Tries on a data set every rule that a data set has to keep, on all that its reader gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedfore.errors import FedForeError
from fedfore.execution.finding import Finding
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.datasets import know, own_spec, spec
from fedfore.tasks.files import data_root, ensure_present
from fedfore.tasks.loading import Tensors, faults, read_parts
from fedfore.tasks.own_arrays import described, is_own

RULES = ("dtypes", "shapes", "labels", "class_counts", "values", "client", "split", "deterministic")


def check_dataset(name: str, data_dir: Path | None = None) -> list[Finding]:
    """Try every rule on a data set, in order; one that cannot be read is tried no further."""
    try:
        wanted = _own(name, data_root(data_dir)) if is_own(name) else spec(name)
        ensure_present(wanted.name, data_dir)
        parts = read_parts(wanted, data_root(data_dir))
        found: dict[str, str] = {}
        for rule, sentence in faults(wanted, parts):
            found.setdefault(rule, sentence)
        if not {"dtypes", "shapes"} & found.keys():
            found |= dict(_overlap(parts))
        found |= dict(_differing(parts, read_parts(wanted, data_root(data_dir))))
    except FedForeError as error:
        return [Finding(name, "reads", "broken", str(error))]
    tried = [Finding(name, rule, "broken" if rule in found else "ok", found.get(rule, "")) for rule in RULES]
    return [Finding(name, "reads", "ok"), *tried]


def _own(name: str, root: Path) -> DatasetSpec:
    """Return what is known of arrays of one's own, which are read, and known to this process from now on."""
    know(found := own_spec(*described(name, root)))
    return found


def _overlap(parts: tuple[Tensors, Tensors]) -> Iterator[tuple[str, str]]:
    train, test = ({image.numpy().tobytes() for image in part[0]} for part in parts)
    common = len(train & test)
    if common:
        yield "split", f"{common} images are both among those to train on and those to test on; leave them in one part."


def _differing(one: tuple[Tensors, Tensors], other: tuple[Tensors, Tensors]) -> Iterator[tuple[str, str]]:
    pairs = zip((*one[0], *one[1]), (*other[0], *other[1]), strict=False)
    if not all(first.numpy().tobytes() == second.numpy().tobytes() for first, second in pairs):
        yield "deterministic", "Read twice it gives other values; draw from a generator with a seed of its own."
